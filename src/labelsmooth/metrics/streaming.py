"""The metrics as torchmetrics classes: states of fixed size that add up over batches and processes.

Needs torchmetrics, which ``import labelsmooth`` does not: ``from labelsmooth.metrics import streaming``.
"""

from __future__ import annotations

from typing import Any, Literal

import labelsmooth._torchvision  # noqa: F401  (before torchmetrics, which imports torchvision where it finds it)

# isort: split
import numpy as np
import torch
from torchmetrics import Metric

from .binning import Binning, assign, check_binning, sum_by
from .calibration_error import Norm, Scope, binned_distance, check_options
from .inputs import Floats, Predictions, read
from .smooth import CELLS, SmoothGrid, fixed_point, one_question
from .tie_groups import TieGroups, area

# Cells of confidence from which equal-mass bins and the order of an AURC are made: a power of two times 15.
_FINE = 15 * 512


class _Streamed(Metric):
    """What the classes share: float64 sums, and batches checked as the functions check them."""

    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        scores: Literal["probabilities", "logits"] = "probabilities",
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if scores not in ("probabilities", "logits"):
            raise ValueError(f"scores must be 'probabilities' or 'logits', not {scores!r}.")
        self.scores = scores
        self.ignore_index = ignore_index

    def _sums(self, *names: str, size: int | None = None) -> None:
        for name in names:
            shape = () if size is None else (size,)
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        # A model cast to half precision must not take the sums with it.
        self.set_dtype(torch.float64)

    def update(self, predictions: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch, of the shapes that the functions take."""
        if self.ignore_index is not None and not bool((labels != self.ignore_index).any()):
            return
        if self.scores == "logits":
            self._add(read(None, labels, predictions, self.ignore_index))
        else:
            self._add(read(predictions, labels, None, self.ignore_index))

    def _add(self, rows: Predictions) -> None:
        raise NotImplementedError

    def _to(self, name: str, value: Floats | float) -> None:
        state = getattr(self, name)
        setattr(self, name, state + torch.as_tensor(value, dtype=state.dtype, device=state.device))

    def _array(self, name: str) -> Floats:
        array: Floats = getattr(self, name).cpu().double().numpy()
        return array

    def _result(self, value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class _Mean(_Streamed):
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sums("total", "count")

    def _add(self, rows: Predictions) -> None:
        self._to("total", float(self._values(rows).sum()))
        self._to("count", float(rows.rows))

    def compute(self) -> torch.Tensor:
        """The mean over all rows so far; NaN before the first."""
        return self.total / self.count

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        raise NotImplementedError


class Error(_Mean):
    """:func:`labelsmooth.metrics.error`, streamed."""

    higher_is_better = False

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return 1.0 - rows.correct


class NLL(_Mean):
    """:func:`labelsmooth.metrics.nll`, streamed."""

    higher_is_better = False

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return rows.nll


class Brier(_Mean):
    """:func:`labelsmooth.metrics.brier`, streamed."""

    higher_is_better = False

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return rows.squared_error


class ConfidenceGap(_Mean):
    """:func:`labelsmooth.metrics.confidence_gap`, streamed."""

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return rows.confidence - rows.correct


class CalibrationError(_Streamed):
    r""":func:`labelsmooth.metrics.ece`, streamed, for the top label or one class.

    Equal-width bins are exact. Equal-mass edges need all confidences at once; here they are made of 7,680 cells of
    equal width, so an edge is off by at most 1/7680, and confidences that close count as tied.

    Args:
        bins, binning, norm, scope: as for the function; "class-wise" is refused.
        scores: whether ``update`` gets "probabilities" or "logits".
        ignore_index: positions with this label are left out.

    Example:
        >>> import torch
        >>> metric = CalibrationError(bins=10, binning="equal-width")
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.9, 0.1]]), torch.tensor([0, 0]))
        >>> round(float(metric.compute()), 4)
        0.1
    """

    higher_is_better = False

    def __init__(
        self,
        bins: int = 15,
        binning: Binning = "equal-mass",
        norm: Norm = "l1",
        scope: Scope = "top-label",
        **kwargs: Any,
    ) -> None:
        check_options(bins, binning, norm)
        if scope == "class-wise":
            raise ValueError("scope='class-wise' is one question per class: make one metric per class, scope=k.")
        super().__init__(**kwargs)
        self.bins, self.binning, self.norm, self.scope = bins, binning, norm, scope
        self.cells = bins if binning == "equal-width" else _FINE
        self._sums("count", "confidence", "correct", size=self.cells)

    def _add(self, rows: Predictions) -> None:
        confidence, correct = one_question(rows, self.scope)
        index = assign(confidence, np.linspace(0.0, 1.0, self.cells + 1))
        self._to("count", np.bincount(index, minlength=self.cells).astype(np.float64))
        self._to("confidence", sum_by(index, confidence, self.cells))
        self._to("correct", sum_by(index, correct, self.cells))

    def compute(self) -> torch.Tensor:
        """The calibration error of all rows so far; NaN before the first."""
        count, gap = self._array("count"), self._array("confidence") - self._array("correct")
        total = count.sum()
        if total == 0:
            return self._result(float("nan"))
        if self.binning == "equal-mass":
            group = _equal_mass(count, self.bins)
            size = int(group[-1]) + 1
            count, gap = sum_by(group, count, size), sum_by(group, gap, size)
        return self._result(float(binned_distance(gap / total, count / total, self.norm, 1)))


class SmoothECE(_Streamed):
    """:func:`labelsmooth.metrics.smooth_ece`, streamed: the function's own grid is the state, so nothing is lost.

    Args:
        scope, scores, ignore_index: as for :class:`CalibrationError`.
    """

    higher_is_better = False

    def __init__(self, scope: Scope = "top-label", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scope = scope
        self._sums("cells", size=CELLS)
        self._sums("count")

    def _add(self, rows: Predictions) -> None:
        confidence, correct = one_question(rows, self.scope)
        self._to("cells", SmoothGrid(confidence).cells(np.ones(rows.rows), confidence - correct) * rows.rows)
        self._to("count", float(rows.rows))

    def compute(self) -> torch.Tensor:
        """The smooth calibration error of all rows so far; NaN before the first."""
        count = float(self.count)  # type: ignore[arg-type]
        return self._result(fixed_point(self._array("cells") / count) if count else float("nan"))


class AURC(_Streamed):
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

    def compute(self) -> torch.Tensor:
        """The AURC of all rows so far; NaN before the first."""
        count, wrong = self._array("count")[::-1], self._array("wrong")[::-1]
        if count.sum() == 0:
            return self._result(float("nan"))
        filled = count > 0
        size = count[filled].astype(np.int64)
        groups = TieGroups(np.empty(0, np.int64), np.cumsum(size) - size, size, wrong[filled])
        return self._result(area(groups))


def _equal_mass(count: Floats, bins: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The bin of each cell: edges after the cells in which the ceil(jM/B)-th rows lie."""
    check_binning(bins, "equal-mass")
    reached = np.cumsum(count)
    ranks = -(-np.arange(1, bins) * int(reached[-1]) // bins)
    edges = np.unique(np.searchsorted(reached, ranks))
    edges = edges[reached[edges] < reached[-1]]
    return np.searchsorted(edges, np.arange(len(count)), side="left").astype(np.int64)
