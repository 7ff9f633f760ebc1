"""Prediction sets: the classes among which the label is with a stated probability (split conformal prediction)."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.calibrate.base import NotFittedError
from labelsmooth.calibrate.inputs import Array, read_logits, read_training, softmax
from labelsmooth.errors import UserError
from labelsmooth.metrics.rows import Floats

_FORMAT = "labelsmooth.sets"
_PARAMETERS = ("alpha", "method", "per_class", "penalty", "allowed", "empty")
Self = TypeVar("Self", bound="PredictionSets")


@dataclass(frozen=True)
class SetSummary:
    """How prediction sets did on labelled rows.

    Attributes:
        coverage: share of rows whose set holds the label.
        size: mean number of classes in a set; empty: share of sets without a class.
        class_coverage: (K,) coverage of the rows of each class; NaN for a class without rows.
    """

    coverage: float
    size: float
    empty: float
    class_coverage: Floats


class PredictionSets:
    r"""Sets of classes that hold the label with probability of at least 1 - α, whatever the model.

    .. math:: C(x) = \{k : s(x, k) \le t\}, \qquad t = \text{the } \lceil (n + 1)(1 - \alpha) \rceil
              \text{-th smallest of } s(x_i, y_i)

    over n calibration rows that the model was not trained on.  If these rows and a new one are exchangeable (drawn
    alike, in any order), then 1 - α ≤ P(y ∈ C(x)), and P(y ∈ C(x)) < 1 - α + 1 / (n + 1) where no scores are tied and
    `empty` is true.  The probability is over calibration and new rows together: it is not that of one image, nor of one
    class unless `per_class`.

    Args:
        alpha: α in (0, 1), the share of sets that may miss the label.
        method: the score s(x, k) of class k, with p the probabilities and r the rank of k, the most probable 1:
            "lac" is 1 - p_k, the smallest sets on average; "aps" the sum of the probabilities above k's, whose sets
            grow where the model is unsure; "raps" that plus penalty · max(0, r - allowed), so that they stay short.
        per_class: a threshold for each class from its own rows, so that the coverage holds for each class.  A class
            with fewer than (1 - α) / α rows is in every set, with a warning.
        penalty, allowed: of "raps".
        empty: leave a set empty where no class passes; the sums of "aps" and "raps" then include p_k itself. By default
            every set has the most probable class: "lac" adds it where no class passes, which only adds coverage, and
            of the others its score is 0.

    Attributes:
        threshold_: t, (K,); one number repeated unless `per_class`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = 2 * rng.normal(size=(4_000, 5))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> sets = PredictionSets(alpha=0.1).fit(z[:2000], y[:2000])
        >>> result = sets.summary(z[2000:], y[2000:])
        >>> round(result.coverage, 2), round(result.size, 1)
        (0.9, 2.1)

    Source: Vovk et al. (2005); "lac": Sadinle, Lei and Wasserman (2019); "aps": Romano, Sesia and Candès (2020),
    with u = 0, or 1 for empty sets, in place of their random u; "raps": Angelopoulos et al. (2021).
    """

    threshold_: Floats

    def __init__(
        self,
        alpha: float = 0.1,
        method: Literal["lac", "aps", "raps"] = "lac",
        per_class: bool = False,
        *,
        penalty: float = 0.01,
        allowed: int = 5,
        empty: bool = False,
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, not {alpha!r}.")
        if method not in ("lac", "aps", "raps"):
            raise ValueError(f"method must be 'lac', 'aps' or 'raps', not {method!r}.")
        if not (0 <= penalty < math.inf and allowed >= 0):
            raise ValueError(f"penalty and allowed must be finite and at least 0, not {penalty!r} and {allowed!r}.")
        self.alpha, self.method, self.per_class = alpha, method, per_class
        self.penalty, self.allowed, self.empty = penalty, allowed, empty

    def fit(
        self: Self, logits: Array | None = None, labels: Array | None = None, *, probabilities: Array | None = None
    ) -> Self:
        """Find the threshold on rows that the model was not trained on, nor its calibrator fitted on.

        Args:
            logits: (N, K), or (N,) for a binary problem.
            labels: (N,), integers in 0 ... K-1.
            probabilities: instead of logits.
        """
        z, y, _ = read_training(logits, labels, None, probabilities)
        at_label = self._scores(softmax(z)).gather(1, y[:, None])[:, 0].cpu().numpy()
        classes, of_class = z.shape[1], y.cpu().numpy()
        if self.per_class:
            parts = [at_label[of_class == k] for k in range(classes)]
            self.threshold_ = np.array([_quantile(part, self.alpha) for part in parts])
        else:
            self.threshold_ = np.full(classes, _quantile(at_label, self.alpha))
        open_classes = np.flatnonzero(np.isinf(self.threshold_))
        if len(open_classes):
            which = f"class {open_classes[0]}" if self.per_class else "every class"
            warnings.warn(
                f"alpha={self.alpha} needs at least {math.ceil((1 - self.alpha) / self.alpha - 1e-9)} rows"
                f"{' of each class' if self.per_class else ''}; with fewer, {which} is in every set"
                f"{f' ({len(open_classes)} of {classes} classes)' if self.per_class else ''}.",
                UserWarning,
                stacklevel=2,
            )
        return self

    def predict(self, logits: Array | None = None, *, probabilities: Array | None = None) -> npt.NDArray[np.bool_]:
        """The sets as booleans (N, K): whether class k is in the set of row i."""
        self._check_fitted()
        z, _ = read_logits(logits, probabilities)
        return self._inside(z)

    def to_module(self) -> SetModule:
        """An ``nn.Module`` that maps probabilities (N, K) to booleans (N, K), PyTorch operators only, for export."""
        self._check_fitted()
        return SetModule(self)

    def to_json(self) -> str:
        """The fitted sets as JSON: parameters and thresholds, null for a class that is in every set.

        Example:
            >>> import numpy as np
            >>> sets = PredictionSets(0.5).fit(np.array([2.0, -1.0, 0.5]), np.array([1, 0, 1]))
            >>> again = PredictionSets.from_json(sets.to_json())
            >>> again, bool((again.threshold_ == sets.threshold_).all())
            (PredictionSets(alpha=0.5, method='lac', per_class=False), True)
        """
        self._check_fitted()
        record = {name: getattr(self, name) for name in _PARAMETERS}
        threshold = [value if math.isfinite(value) else None for value in self.threshold_.tolist()]
        return json.dumps({"format": _FORMAT, **record, "threshold": threshold})

    @classmethod
    def from_json(cls, text: str) -> PredictionSets:
        """What :meth:`to_json` wrote, every value validated.

        Raises:
            UserError (a ValueError): for text that is not such JSON.
        """
        try:
            record = json.loads(text)
            if not isinstance(record, dict) or record.get("format") != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT!r}")
            sets = cls(**{name: record[name] for name in _PARAMETERS})
            threshold = [math.inf if value is None else float(value) for value in record["threshold"]]
            if len(threshold) < 2 or any(math.isnan(value) for value in threshold):
                raise ValueError("threshold must be one number for each of at least 2 classes")
        except (KeyError, TypeError, ValueError, RecursionError) as problem:
            raise UserError(f"These are no prediction sets: {problem}.") from problem
        sets.threshold_ = np.array(threshold)
        return sets

    def summary(
        self, logits: Array | None = None, labels: Array | None = None, *, probabilities: Array | None = None
    ) -> SetSummary:
        """Coverage and size of the sets of labelled rows."""
        z, y, _ = read_training(logits, labels, None, probabilities)
        inside, of_class = self._inside(z), y.cpu().numpy()
        covered = inside[np.arange(len(of_class)), of_class]
        rows = np.bincount(of_class, minlength=z.shape[1])
        with np.errstate(invalid="ignore"):
            by_class = np.bincount(of_class, covered, z.shape[1]) / rows
        sizes = inside.sum(axis=1)
        return SetSummary(float(covered.mean()), float(sizes.mean()), float((sizes == 0).mean()), by_class)

    def _inside(self, z: torch.Tensor) -> npt.NDArray[np.bool_]:
        """The sets of validated logits."""
        module = self.to_module()
        if z.shape[1] != len(self.threshold_):
            raise ValueError(
                f"The scores have {z.shape[1]} classes, but the sets were fitted on {len(self.threshold_)}."
            )
        inside: npt.NDArray[np.bool_] = module(softmax(z)).cpu().numpy()
        return inside

    def _scores(self, p: torch.Tensor) -> torch.Tensor:
        """The score of each class (N, K), from probabilities."""
        if self.method == "lac":
            return 1.0 - p
        falling, order = p.sort(dim=1, descending=True)  # a stable sort has no ONNX operator
        total = falling.cumsum(dim=1)
        if not self.empty:
            total = total - falling
        if self.method == "raps":
            ranks = torch.arange(1, p.shape[1] + 1, device=p.device, dtype=p.dtype)
            total = total + self.penalty * (ranks - self.allowed).clamp(min=0.0)
        return torch.empty_like(p).scatter_(1, order, total)

    def _check_fitted(self) -> None:
        if not hasattr(self, "threshold_"):
            raise NotFittedError("These PredictionSets are not fitted yet: call fit(logits, labels) first.")

    def __repr__(self) -> str:
        return f"PredictionSets(alpha={self.alpha}, method={self.method!r}, per_class={self.per_class})"


class SetModule(torch.nn.Module):
    """Fitted prediction sets as a layer: probabilities (N, K) in, whether each class is in the set (N, K) out."""

    threshold: torch.Tensor

    def __init__(self, sets: PredictionSets) -> None:
        super().__init__()
        self.scores, self.empty = sets._scores, sets.empty
        self.register_buffer("threshold", torch.from_numpy(sets.threshold_))

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        threshold = self.threshold.to(probabilities.device, probabilities.dtype)
        inside = self.scores(probabilities) <= threshold
        if self.empty:
            return inside
        best = torch.arange(inside.shape[1], device=inside.device) == probabilities.argmax(dim=1, keepdim=True)
        return inside | (best & ~inside.any(dim=1, keepdim=True))


def _quantile(scores: Floats, alpha: float) -> float:
    """The ⌈(n + 1)(1 - α)⌉-th smallest score; infinity where there are fewer."""
    # The slack is for products that should be whole but for rounding.
    k = math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-9)
    return float(np.partition(scores, k - 1)[k - 1]) if k <= len(scores) else math.inf
