"""Calibration errors as torchmetrics classes: sums over bins or fine cells of confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .binning import Binning, assign_equal_width, check_binning, sum_by
from .calibration_error import Norm, Scope, binned_distance, check_options, one_question
from .inputs import Floats, Integers, Predictions
from .smooth import CELLS, SmoothGrid, fixed_point
from .streaming_base import Streamed

# Cells of confidence from which equal-mass bins are made: a power of two times 15; fewer where each class has its own.
_FINE, _FINE_BY_CLASS = 15 * 512, 15 * 64


class _Binned(Streamed):
    """Count, Σ confidence and Σ correct of each cell of confidence, of one question or of every class."""

    higher_is_better = False

    def __init__(
        self,
        bins: int = 15,
        binning: Binning = "equal-mass",
        scope: Scope = "top-label",
        classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_binning(bins, binning)
        if (scope == "class-wise") != (classes is not None):
            raise ValueError("scope='class-wise' needs the number of classes, classes=K, and no other scope takes it.")
        super().__init__(**kwargs)
        self.bins, self.binning, self.scope, self.classes = bins, binning, scope, classes
        fine = _FINE if classes is None else _FINE_BY_CLASS
        self.cells = bins if binning == "equal-width" else fine
        self._sums("count", "confidence", "correct", size=self.cells * (classes or 1))

    def _add(self, rows: Predictions) -> None:
        if self.classes is None:
            confidence, correct = one_question(rows, self.scope)
            first = np.zeros(1, dtype=np.int64)
        else:
            if rows.classes != self.classes:
                raise ValueError(f"predictions have {rows.classes} classes, but classes={self.classes}.")
            confidence = rows.probabilities.detach().cpu().double().numpy()
            correct = (rows.labels.cpu().numpy()[:, None] == np.arange(self.classes)).astype(np.float64)
            first = np.arange(self.classes) * self.cells
        edges, size = np.linspace(0.0, 1.0, self.cells + 1), self.cells * (self.classes or 1)
        index = (assign_equal_width(confidence, edges) + first).reshape(-1)
        self._to("count", np.bincount(index, minlength=size).astype(np.float64))
        self._to("confidence", sum_by(index, confidence.reshape(-1), size))
        self._to("correct", sum_by(index, correct.reshape(-1), size))

    def compute(self) -> torch.Tensor:
        """The value for all rows so far; NaN before the first."""
        count, confidence, correct = (self._array(name) for name in ("count", "confidence", "correct"))
        classes = self.classes or 1
        total = count.sum() / classes
        if total == 0:
            return self._result(float("nan"))
        if self.binning == "equal-mass":
            group = np.concatenate(
                [equal_mass(c, self.bins) + k * self.bins for k, c in enumerate(count.reshape(classes, -1))]
            )
            size = self.bins * classes
            count, confidence, correct = (sum_by(group, sums, size) for sums in (count, confidence, correct))
        return self._result(self._value(count, confidence, correct, total, classes))

    def _value(self, count: Floats, confidence: Floats, correct: Floats, total: float, classes: int) -> float:
        raise NotImplementedError


class CalibrationError(_Binned):
    r""":func:`labelsmooth.metrics.ece`, streamed, for the top label, one class or every class.

    Equal-width bins are exact. Equal-mass edges need all confidences at once; here they are made of 7,680 cells of
    equal width (960 per class for "class-wise"), so an edge is off by at most the width of a cell, and confidences in
    the same cell count as tied.

    Args:
        bins, binning, norm, scope: as for the function.
        classes: K, for ``scope="class-wise"``, whose states have K times the cells.
        scores: whether ``update`` gets "probabilities" or "logits".
        ignore_index: positions with this label are left out.

    Example:
        >>> import torch
        >>> metric = CalibrationError(bins=10, binning="equal-width")
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.9, 0.1]]), torch.tensor([0, 0]))
        >>> round(float(metric.compute()), 4)
        0.1
    """

    def __init__(self, bins: int = 15, binning: Binning = "equal-mass", norm: Norm = "l1", **kwargs: Any) -> None:
        check_options(bins, binning, norm)
        super().__init__(bins, binning, **kwargs)
        self.norm = norm

    def _value(self, count: Floats, confidence: Floats, correct: Floats, total: float, classes: int) -> float:
        return float(binned_distance((confidence - correct) / total, count / total, self.norm, classes))


class OverConfidence(_Binned):
    """:func:`labelsmooth.metrics.over_confidence`, streamed; arguments as for :class:`CalibrationError`."""

    sign = 1.0

    def _value(self, count: Floats, confidence: Floats, correct: Floats, total: float, classes: int) -> float:
        return float(np.maximum(self.sign * (confidence - correct), 0.0).sum() / total / classes)


class UnderConfidence(OverConfidence):
    """:func:`labelsmooth.metrics.under_confidence`, streamed; arguments as for :class:`CalibrationError`."""

    sign = -1.0


class DebiasedECE(_Binned):
    """:func:`labelsmooth.metrics.debiased_ece`, streamed; arguments as for :class:`CalibrationError`."""

    def _value(self, count: Floats, confidence: Floats, correct: Floats, total: float, classes: int) -> float:
        known = count > 1
        n, right = count[known], correct[known] / count[known]
        square = ((confidence - correct)[known] / n) ** 2 - right * (1.0 - right) / (n - 1.0)
        return float(np.sqrt(max((n * square).sum() / total / classes, 0.0)))


class KS(Streamed):
    """:func:`labelsmooth.metrics.ks`, streamed, with the confidences in 7,680 cells of equal width.

    Args:
        scope, scores, ignore_index: as for :class:`CalibrationError`; "class-wise" is refused.
    """

    higher_is_better = False

    def __init__(self, scope: Scope = "top-label", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scope = scope
        self._sums("gap", size=_FINE)
        self._sums("count")

    def _add(self, rows: Predictions) -> None:
        confidence, correct = one_question(rows, self.scope)
        index = assign_equal_width(confidence, np.linspace(0.0, 1.0, _FINE + 1))
        self._to("gap", sum_by(index, confidence - correct, _FINE))
        self._to("count", float(rows.rows))

    def compute(self) -> torch.Tensor:
        """The largest cumulative difference so far; NaN before the first row."""
        count = float(self.count)  # type: ignore[arg-type]
        return self._result(float(np.abs(np.cumsum(self._array("gap"))).max()) / count if count else float("nan"))


class SmoothECE(Streamed):
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


def equal_mass(count: Floats, bins: int) -> Integers:
    """The bin of each cell: edges after the cells in which the ceil(jM/B)-th rows lie."""
    check_binning(bins, "equal-mass")
    reached = np.cumsum(count)
    ranks = -(-np.arange(1, bins) * int(reached[-1]) // bins)
    edges = np.unique(np.searchsorted(reached, ranks))
    edges = edges[reached[edges] < reached[-1]]
    return np.searchsorted(edges, np.arange(len(count)), side="left").astype(np.int64)
