"""The metrics as torchmetrics classes: states of fixed size that add up over batches and processes.

Needs torchmetrics, which ``import labelsmooth`` does not: ``from labelsmooth.metrics import streaming``. Predictions
are of the shapes that the functions take: (N, K), dense (N, K, d1, ...), or as the labels for yes-or-no questions and
multi-label ones, (N,) or (N, L).

Each class has the value that its entry in the catalogue of metrics has on the predictions so far. Means are exact. All
others keep, for 16,384 cells of confidence, how many predictions are right and wrong and their mean confidence:
confidences of the same cell count as tied, which moves a metric by less than 0.0003. Bins of equal width have their
edges between cells, and are exact.
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before torchmetrics, which imports torchvision where it finds it)

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torchmetrics import Metric

from labelsmooth.metrics.binning import check_binning
from labelsmooth.metrics.calibration_error import check_options, one_question
from labelsmooth.metrics.catalogue import CATALOGUE, factory_of
from labelsmooth.metrics.cells import CELLS, edges_of_cells
from labelsmooth.metrics.inputs import read_scores
from labelsmooth.metrics.metric import Binning, Norm, Scope
from labelsmooth.metrics.rows import ByClass, Floats, Predictions, Reduced, float64
from labelsmooth.metrics.selective import check_coverage

__all__ = [
    "AUGRC",
    "AURC",
    "EAURC",
    "KS",
    "NLL",
    "Brier",
    "CalibrationError",
    "ConfidenceGap",
    "DebiasedECE",
    "Error",
    "FailureAUROC",
    "OverConfidence",
    "RiskAtCoverage",
    "SmoothECE",
    "UnderConfidence",
]

# Cells of each class for "class-wise".
_CELLS_BY_CLASS = 15 * 64


class Streamed(Metric):
    """What the classes share: float64 sums, and batches validated as the functions validate them.

    Args:
        scores: whether ``update`` gets "probabilities" or "logits".
        ignore_index: positions with this label are left out.
        **kwargs: of ``torchmetrics.Metric``.
    """

    is_differentiable = False
    full_state_update = False
    name: ClassVar[str]

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

    def __init_subclass__(cls, metric: str = "") -> None:
        super().__init_subclass__()
        if metric:
            cls.name, cls.higher_is_better = metric, {"higher": True, "lower": False}.get(CATALOGUE[metric].better)

    def update(self, predictions: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch, of the shapes that the functions take."""
        if self.ignore_index is not None and not bool((labels != self.ignore_index).any()):
            return
        self._add(read_scores(predictions, labels, self.scores, self.ignore_index))

    def _add(self, rows: Predictions) -> None:
        raise NotImplementedError

    def _sums(self, *names: str, size: tuple[int, ...] = ()) -> None:
        for name in names:
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        # A model cast to half precision must not take the sums with it.
        self.set_dtype(torch.float64)

    def _increase(self, name: str, value: Floats | float) -> None:
        state = getattr(self, name)
        setattr(self, name, state + torch.as_tensor(value, dtype=state.dtype, device=state.device))

    def _array(self, name: str) -> Floats:
        return float64(getattr(self, name))


class _Mean(Streamed):
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sums("total", "count")

    def _add(self, rows: Predictions) -> None:
        self._increase("total", factory_of(self.name)(rows).value * rows.rows)
        self._increase("count", float(rows.rows))

    def compute(self) -> torch.Tensor:
        """The mean over all rows so far; NaN before the first."""
        return self.total / self.count


class Error(_Mean, metric="error"):
    """:func:`labelsmooth.metrics.error`, streamed."""


class NLL(_Mean, metric="nll"):
    """:func:`labelsmooth.metrics.nll`, streamed."""


class Brier(_Mean, metric="brier"):
    """:func:`labelsmooth.metrics.brier`, streamed."""


class ConfidenceGap(_Mean, metric="confidence_gap"):
    """:func:`labelsmooth.metrics.confidence_gap`, streamed."""


class _Cells(Streamed):
    """Right and wrong answers and Σ confidence of each cell of confidence, of one question or of every class."""

    def __init__(self, scope: Scope = "top-label", classes: int | None = None, **kwargs: Any) -> None:
        if (scope == "class-wise") != (classes is not None):
            raise ValueError("scope='class-wise' needs the number of classes, classes=K, and no other scope takes it.")
        super().__init__(**kwargs)
        self.scope, self.classes = scope, classes
        self.options: dict[str, Any] = {}
        self._edges = np.asarray(edges_of_cells(CELLS if classes is None else _CELLS_BY_CLASS))
        self._make_states()

    def _make_states(self, bins: int | None = None) -> None:
        if bins is not None:
            self._edges = np.union1d(self._edges, np.arange(1, bins) / bins)
        self._sums("right", "wrong", "confidence", size=(self.classes or 1, len(self._edges) + 1))

    def _add(self, rows: Predictions) -> None:
        if self.classes is not None and rows.classes != self.classes:
            raise ValueError(f"predictions have {rows.classes} classes, but classes={self.classes}.")
        pairs = [one_question(rows, self.scope)] if self.classes is None else map(rows.of_class, range(self.classes))
        sums = np.zeros((3, self.classes or 1, len(self._edges) + 1))
        for k, (confidence, correct) in enumerate(pairs):
            cell = np.searchsorted(self._edges, confidence, side="left")
            for which, weight in enumerate((correct, 1.0 - correct, confidence)):
                sums[which, k] = np.bincount(cell, weight, sums.shape[2])
        for which, name in enumerate(("right", "wrong", "confidence")):
            self._increase(name, sums[which])

    def compute(self) -> torch.Tensor:
        """The value for all rows so far; NaN before the first."""
        value = float("nan")
        right, wrong, confidence = (self._array(name) for name in ("right", "wrong", "confidence"))
        if right.sum() + wrong.sum() > 0:
            mean = confidence / np.maximum(right + wrong, 1.0)
            questions = [_rows_of(m, r, w) for m, r, w in zip(mean, right, wrong, strict=True)]
            rows = questions[0] if self.classes is None else ByClass(tuple(questions))
            scope = {} if self.classes is None else {"scope": "class-wise"}
            value = factory_of(self.name, **self.options, **scope)(rows).value
        return torch.tensor(value, dtype=torch.float64, device=self.device)


def _rows_of(confidence: Floats, right: Floats, wrong: Floats) -> Reduced:
    """The cells as weighted rows: the right and the wrong answers of each."""
    weight = np.concatenate([right, wrong])
    filled = weight > 0
    correct = np.concatenate([np.ones_like(right), np.zeros_like(wrong)])[filled]
    unknown = np.full(len(correct), np.nan)
    return Reduced(np.tile(confidence, 2)[filled], correct, unknown, unknown, weight[filled])


class _Binned(_Cells):
    def __init__(self, bins: int = 15, binning: Binning = "equal-mass", **kwargs: Any) -> None:
        check_binning(bins, binning)
        super().__init__(**kwargs)
        self._make_states(bins if binning == "equal-width" else None)
        self.options = {"bins": bins, "binning": binning}


class CalibrationError(_Binned, metric="ece"):
    """:func:`labelsmooth.metrics.ece`, streamed, for the top label, one class or every class.

    Args:
        bins, binning, norm, scope: as for the function.
        classes: K, for ``scope="class-wise"``, whose states have 960 cells for each class.
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
        self.options["norm"] = norm


class OverConfidence(_Binned, metric="over_confidence"):
    """:func:`labelsmooth.metrics.over_confidence`, streamed; arguments as for :class:`CalibrationError`."""


class UnderConfidence(_Binned, metric="under_confidence"):
    """:func:`labelsmooth.metrics.under_confidence`, streamed; arguments as for :class:`CalibrationError`."""


class DebiasedECE(_Binned, metric="debiased_ece"):
    """:func:`labelsmooth.metrics.debiased_ece`, streamed; arguments as for :class:`CalibrationError`."""


class KS(_Cells, metric="ks"):
    """:func:`labelsmooth.metrics.ks`, streamed; `scope` as for the function, but for "class-wise"."""


class SmoothECE(_Cells, metric="smooth_ece"):
    """:func:`labelsmooth.metrics.smooth_ece`, streamed; `scope` as for the function, but for "class-wise"."""


class AURC(_Cells, metric="aurc"):
    """:func:`labelsmooth.metrics.aurc`, streamed, ranked by the largest probability."""


class EAURC(_Cells, metric="e_aurc"):
    """:func:`labelsmooth.metrics.e_aurc`, streamed, ranked by the largest probability."""


class AUGRC(_Cells, metric="augrc"):
    """:func:`labelsmooth.metrics.augrc`, streamed, ranked by the largest probability."""


class FailureAUROC(_Cells, metric="failure_auroc"):
    """:func:`labelsmooth.metrics.failure_auroc`, streamed, ranked by the largest probability."""


class RiskAtCoverage(_Cells, metric="risk_at_coverage"):
    """:func:`labelsmooth.metrics.risk_at_coverage`, streamed, ranked by the largest probability.

    Args:
        coverage: in (0, 1].
    """

    def __init__(self, coverage: float, **kwargs: Any) -> None:
        check_coverage(coverage)
        super().__init__(**kwargs)
        self.options = {"coverage": coverage}
