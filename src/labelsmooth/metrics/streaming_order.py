"""Selective prediction as torchmetrics classes: right and wrong answers in fine cells of confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .binning import sum_by
from .inputs import Predictions
from .streaming_base import Streamed
from .tie_groups import TieGroups, area, risk_at

# Cells of the log-odds of confidence.
_FINE = 15 * 512


class AURC(Streamed):
    """:func:`labelsmooth.metrics.aurc`, streamed, with the confidences in 7,680 cells of ln p / (1 - p).

    Confidences in the same cell count as tied. The cells are finest near 1, where networks crowd.

    Args:
        scores, ignore_index: as for :class:`CalibrationError`.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sums("count", "wrong", size=_FINE)

    def _add(self, rows: Predictions) -> None:
        # Log-odds between -16 and 48 cover every confidence of up to 10 million classes that float64 tells from 1.
        p = np.clip(rows.confidence, 1e-15, 1.0)
        odds = np.log(p) - np.log(np.maximum(1.0 - p, 1e-20))
        index = np.clip((odds + 16.0) * (_FINE / 64.0), 0, _FINE - 1).astype(np.int64)
        self._to("count", np.bincount(index, minlength=_FINE).astype(np.float64))
        self._to("wrong", sum_by(index, 1.0 - rows.correct, _FINE))

    def _groups(self) -> TieGroups | None:
        """The filled cells, the most confident first."""
        count, wrong = self._array("count")[::-1], self._array("wrong")[::-1]
        filled = count > 0
        if not filled.any():
            return None
        size = count[filled].astype(np.int64)
        return TieGroups(np.empty(0, np.int64), np.cumsum(size) - size, size, wrong[filled])

    def compute(self) -> torch.Tensor:
        """The value for all rows so far; NaN before the first."""
        groups = self._groups()
        return self._result(float("nan") if groups is None else self._value(groups))

    def _value(self, groups: TieGroups) -> float:
        return area(groups)


class EAURC(AURC):
    """:func:`labelsmooth.metrics.e_aurc`, streamed; cells and arguments as for :class:`AURC`."""

    def _value(self, groups: TieGroups) -> float:
        size, errors = int(groups.size.sum()), int(groups.errors.sum())
        sizes, wrong = np.array([size - errors, errors]), np.array([0.0, float(errors)])
        return area(groups) - area(TieGroups(np.empty(0, np.int64), np.cumsum(sizes) - sizes, sizes, wrong))


class RiskAtCoverage(AURC):
    """:func:`labelsmooth.metrics.risk_at_coverage`, streamed; cells and arguments as for :class:`AURC`.

    Args:
        coverage: in (0, 1].
    """

    def __init__(self, coverage: float, **kwargs: Any) -> None:
        if not 0.0 < coverage <= 1.0:
            raise ValueError(f"coverage must be above 0 and at most 1, not {coverage!r}.")
        super().__init__(**kwargs)
        self.coverage = coverage

    def _value(self, groups: TieGroups) -> float:
        return risk_at(groups, self.coverage)
