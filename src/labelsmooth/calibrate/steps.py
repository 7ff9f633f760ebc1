"""Isotonic calibration and histogram binning: a step or piecewise linear function of each class's log-odds."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from .base import Calibrator
from .logistic import binary_from_probability, log_odds, normalised


class IsotonicCalibration(Calibrator):
    r"""The best non-decreasing map from the log-odds of class k to "is the label k", then normalised over classes.

    .. math:: f_k = \arg\min_{f \text{ rising}} \sum_i w_i \,(f(s_{ik}) - [y_i = k])^2, \qquad
              \hat p_k = f_k(s_k) / \sum_j f_j(s_j)

    With two classes there is one map. Between the training scores it is linear, outside them constant. It needs more
    data than temperature or Platt scaling, and can give a probability of exactly 0: look at the NLL before using it.
    Fitting needs scikit-learn (``pip install labelsmooth[study]``); predicting does not.

    Args:
        scope: "one-vs-rest", or "top-label": one map, from the log-odds of the predicted class to its being right;
            the other classes share what it leaves in their old proportions. The better one for many classes.

    Attributes:
        knots_: per map its scores and values (x, y), x rising; K maps, or one for two classes and for "top-label".

    Example:
        >>> import numpy as np
        >>> z = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
        >>> isotonic = IsotonicCalibration().fit(z, np.array([0, 1, 0, 1, 1]))
        >>> isotonic.predict_proba(z)[:, 1]
        array([0. , 0.5, 0.5, 1. , 1. ])

    Source: Zadrozny and Elkan (2002).
    """

    knots_: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]

    def __init__(self, scope: Literal["one-vs-rest", "top-label"] = "one-vs-rest") -> None:
        self.scope = scope

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        if self.scope not in ("one-vs-rest", "top-label"):
            raise ValueError(f"scope must be 'one-vs-rest' or 'top-label', not {self.scope!r}.")
        try:
            from sklearn.isotonic import IsotonicRegression
        except ImportError as problem:
            raise ImportError("IsotonicCalibration.fit needs scikit-learn: pip install scikit-learn.") from problem
        scores, labels = log_odds(z).cpu().double().numpy(), y.cpu().numpy()
        weight = None if w is None else w.cpu().double().numpy()
        if self.scope == "top-label":
            top = scores.argmax(axis=1)
            questions = [(scores.max(axis=1), top == labels)]
        else:
            classes = [1] if z.shape[1] == 2 else range(z.shape[1])
            questions = [(scores[:, k], labels == k) for k in classes]
        self.knots_ = []
        for score, yes in questions:
            line = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
            line.fit(score, yes.astype(np.float64), weight)
            self.knots_.append((line.X_thresholds_, line.y_thresholds_))

    def _tensors(self) -> dict[str, torch.Tensor]:
        # Maps differ in their number of knots: the shorter ones repeat their last.
        longest = max(len(x) for x, _ in self.knots_)
        padded = [[np.pad(v, (0, longest - len(v)), mode="edge") for v in knots] for knots in self.knots_]
        x, y = np.stack([p[0] for p in padded]), np.stack([p[1] for p in padded])
        top = torch.tensor(self.scope == "top-label")
        return {"knots_x": torch.from_numpy(x), "knots_y": torch.from_numpy(y), "top_label": top}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        x, y = tensors["knots_x"], tensors["knots_y"]
        scores = log_odds(z)
        if bool(tensors["top_label"]):
            return _with_top_label(z, scores, x, y)
        if z.shape[1] == 2:
            return binary_from_probability(interpolate(scores[:, 1:], x, y)[:, 0])
        return normalised(interpolate(scores, x, y).log())


def interpolate(scores: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Column k of the scores (N, C) through the piecewise linear map with knots x[k], y[k], constant outside."""
    columns = scores.T.contiguous()
    right = torch.searchsorted(x, columns).clamp_(1, max(x.shape[1] - 1, 1))
    right = right.clamp(max=x.shape[1] - 1)
    left = (right - 1).clamp_(min=0)
    x0, x1, y0, y1 = x.gather(1, left), x.gather(1, right), y.gather(1, left), y.gather(1, right)
    width = x1 - x0
    share = torch.where(width > 0, (columns - x0) / torch.where(width > 0, width, 1.0), (columns > x0).to(x0.dtype))
    return torch.lerp(y0, y1, share.clamp_(0.0, 1.0)).T


def _with_top_label(z: torch.Tensor, scores: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    score, top = scores.max(dim=1, keepdim=True)
    confidence = interpolate(score, x, y)
    log_p = torch.log_softmax(z.to(scores.dtype), dim=1)
    # ln of the others' shares among themselves; where the top label has it all they cannot share anything.
    others = log_p - torch.logsumexp(log_p.scatter(1, top, -torch.inf), dim=1, keepdim=True)
    return (others + torch.log1p(-confidence)).scatter(1, top, confidence.log())


class HistogramBinning(Calibrator):
    r"""The share of label k among the training rows in the same equal-mass bin of p_k, then normalised over classes.

    .. math:: q_k = \frac{\sum_{i \in b(p_k)} w_i [y_i = k]}{\sum_{i \in b(p_k)} w_i}, \qquad
              \hat p_k = q_k / \sum_j q_j

    With two classes there is one histogram. The output takes at most `bins` values per class, so it ties
    predictions, and a bin without a positive gives exactly 0.

    Args:
        bins: bins per class, ≥ 1; edges are order statistics, tied probabilities share a bin.

    Attributes:
        edges_: inner edges (of the log-odds) per class; values_: the shares, one more per class.

    Example:
        >>> import numpy as np
        >>> z = np.array([-2.0, -1.0, 1.0, 2.0])
        >>> HistogramBinning(bins=2).fit(z, np.array([0, 1, 1, 1])).predict_proba(z)[:, 1].round(6)
        array([0.5, 0.5, 1. , 1. ])

    Source: Zadrozny and Elkan (2001).
    """

    edges_: list[npt.NDArray[np.float64]]
    values_: list[npt.NDArray[np.float64]]

    def __init__(self, bins: int = 15) -> None:
        self.bins = bins

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        if isinstance(self.bins, bool) or not isinstance(self.bins, (int, np.integer)) or self.bins < 1:
            raise ValueError(f"bins must be a whole number of at least 1, not {self.bins!r}.")
        scores, labels = log_odds(z).cpu().double().numpy(), y.cpu().numpy()
        weight = np.ones(len(labels)) if w is None else w.cpu().double().numpy()
        seen = weight > 0
        scores, labels, weight = scores[seen], labels[seen], weight[seen]
        self.edges_, self.values_ = [], []
        for k in [1] if z.shape[1] == 2 else range(z.shape[1]):
            score = scores[:, k]
            edges = _weighted_quantiles(score, weight, np.arange(1, self.bins) / self.bins)
            edges = np.unique(edges[edges < score.max()])
            index = np.searchsorted(edges, score, side="left")
            total = np.bincount(index, weight, len(edges) + 1)
            self.edges_.append(edges)
            self.values_.append(np.bincount(index, weight * (labels == k), len(edges) + 1) / total)

    def _tensors(self) -> dict[str, torch.Tensor]:
        longest = max(len(v) for v in self.values_)
        edges = [np.pad(e, (0, longest - 1 - len(e)), constant_values=np.inf) for e in self.edges_]
        values = [np.pad(v, (0, longest - len(v)), mode="edge") for v in self.values_]
        return {"edges": torch.from_numpy(np.stack(edges)), "values": torch.from_numpy(np.stack(values))}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        scores = log_odds(z)
        scores = scores[:, 1:] if z.shape[1] == 2 else scores
        index = torch.searchsorted(tensors["edges"], scores.T.contiguous())
        shares = tensors["values"].gather(1, index).T
        return binary_from_probability(shares[:, 0]) if z.shape[1] == 2 else normalised(shares.log())


def _weighted_quantiles(
    score: npt.NDArray[np.float64], weight: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The least score below or at which each share of the weight lies; for weights of 1 the ceil(share·N)-th score."""
    order = np.argsort(score)
    reached = np.cumsum(weight[order])
    # The slack is for shares that should be met exactly but for rounding.
    at = np.searchsorted(reached, shares * reached[-1] * (1.0 - 1e-12))
    chosen: npt.NDArray[np.float64] = score[order][at]
    return chosen
