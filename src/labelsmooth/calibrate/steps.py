"""Isotonic calibration and histogram binning: a step or piecewise linear function of each class's log-odds."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.calibrate.base import Calibrator
from labelsmooth.calibrate.inputs import Array, softmax
from labelsmooth.calibrate.logistic import joined_shares, log_odds, questions
from labelsmooth.metrics.binning import check_binning
from labelsmooth.metrics.rows import Floats, float64


class IsotonicCalibration(Calibrator):
    r"""A rising map from the probability of class k to "is the label k", then normalised over the classes.

    .. math:: f_k = \arg\min_{f \text{ rising}} \sum_i w_i \,(f(p_{ik}) - [y_i = k])^2, \qquad
              \hat p_k = f_k(p_k) / \sum_j f_j(p_j)

    Centred: each level of the step function f_k becomes one point, at the mean probability of its rows, and the map is
    linear between these points and constant outside, so that it rises strictly and keeps the order of the rows.  One
    more positive at the lowest p and one more negative at the highest keep every value inside (0, 1): the lowest level
    of n rows without a positive becomes 1 / (n + 1).  With two classes there is one map.  It needs more data than
    temperature scaling: the fit warns below 50 rows of a class.
    Fitting needs scikit-learn (``pip install labelsmooth[study]``); predicting does not.

    Args:
        scope: "one-vs-rest", or "top-label": one map, from the probability of the predicted class to its being right;
            the other classes share what it leaves in their old proportions.  The better one for many classes.

    Attributes:
        knots_: per map its scores and values (x, y), both rising; K maps, or one for two classes and for "top-label".

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=500)
        >>> y = (rng.random(500) < 1 / (1 + np.exp(-3 * z))).astype(int)
        >>> isotonic = IsotonicCalibration().fit(z, y)
        >>> isotonic.predict_proba(np.array([-5.0, 0.0, 5.0]))[:, 1].round(2)
        array([0.01, 0.5 , 0.98])

    Source: Zadrozny and Elkan (2002); centred: Oron and Flournoy (2017).
    """

    knots_: list[tuple[Floats, Floats]]
    rows_per_class = 50

    def __init__(self, scope: Literal["one-vs-rest", "top-label"] = "one-vs-rest") -> None:
        self.scope = scope

    def too_few_rows(self, labels: Array, num_classes: int) -> str | None:
        """As for every calibrator; one map for all classes ("top-label") needs 50 rows in all."""
        if self.scope != "top-label":
            return super().too_few_rows(labels, num_classes)
        few = len(labels) < self.rows_per_class
        return f"a map of the top label takes {self.rows_per_class} rows, not {len(labels)}" if few else None

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        if self.scope not in ("one-vs-rest", "top-label"):
            raise ValueError(f"scope must be 'one-vs-rest' or 'top-label', not {self.scope!r}.")
        p, labels = float64(softmax(z)), y.cpu().numpy()
        weight = np.ones(len(labels)) if w is None else float64(w)
        p, labels, weight = p[weight > 0], labels[weight > 0], weight[weight > 0]
        if self.scope == "top-label":
            self.knots_ = [_centred(p.max(axis=1), p.argmax(axis=1) == labels, weight)]
        else:
            self.knots_ = [_centred(p[:, k], labels == k, weight) for k in questions(z.shape[1])]

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
        p = softmax(z)
        if bool(tensors["top_label"]):
            return _with_top_label(z, p, x, y)
        return joined_shares(interpolate(p[:, questions(z.shape[1]).start :], x, y))


def interpolate(p: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Column k of p (N, C) through the piecewise linear map with knots x[k], y[k], constant outside."""
    columns = p.T.contiguous()
    right = torch.searchsorted(x, columns).clamp_(1, max(x.shape[1] - 1, 1))
    right = right.clamp(max=x.shape[1] - 1)
    left = (right - 1).clamp_(min=0)
    x0, x1, y0, y1 = x.gather(1, left), x.gather(1, right), y.gather(1, left), y.gather(1, right)
    width = x1 - x0
    share = torch.where(width > 0, (columns - x0) / torch.where(width > 0, width, 1.0), (columns > x0).to(x0.dtype))
    return torch.lerp(y0, y1, share.clamp_(0.0, 1.0)).T


def _centred(p: Floats, yes: npt.NDArray[np.bool_], weight: Floats) -> tuple[Floats, Floats]:
    """The levels of an isotonic regression at the mean probability of their rows."""
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as problem:
        raise ImportError("IsotonicCalibration.fit needs scikit-learn: pip install scikit-learn.") from problem
    ends = np.array([p.min(), p.max()])
    x, target = np.concatenate([p, ends]), np.concatenate([yes.astype(np.float64), [1.0, 0.0]])
    levels = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
        x, target, np.concatenate([weight, [1.0, 1.0]])
    )
    values, index = np.unique(levels.predict(p), return_inverse=True)
    return np.bincount(index, weight * p) / np.bincount(index, weight), values


def _with_top_label(z: torch.Tensor, p: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    largest, top = p.max(dim=1, keepdim=True)
    confidence = interpolate(largest, x, y)
    log_p = torch.log_softmax(z.to(p.dtype), dim=1)
    # ln of the others' shares among themselves; where the top label has it all they cannot share anything.
    others = log_p - torch.logsumexp(log_p.scatter(1, top, -torch.inf), dim=1, keepdim=True)
    return (others + torch.log1p(-confidence)).scatter(1, top, confidence.log())


class HistogramBinning(Calibrator):
    r"""The share of label k among the training rows in the same equal-mass bin of p_k, then normalised over classes.

    .. math:: q_k = \frac{\pi_k + \sum_{i \in b(p_k)} w_i [y_i = k]}{1 + \sum_{i \in b(p_k)} w_i}, \qquad
              \hat p_k = q_k / \sum_j q_j

    One more row in each bin, at π_k = (n_k + 1) / (N + K) for n_k of N rows in the class, keeps the share above 0 (an
    m-estimate with m = 1).  With two classes there is one histogram.  The output takes at most `bins` values per class,
    so it ties predictions.  It needs more data than temperature scaling: the fit warns below 100 rows of a class.

    Args:
        bins: bins per class, ≥ 1; edges are order statistics, tied probabilities share a bin.

    Attributes:
        edges_: inner edges (of the log-odds) per class; values_: the shares, one more per class.

    Example:
        >>> import numpy as np
        >>> z, y = np.repeat([-2.0, -1.0, 1.0, 2.0], 50), np.repeat([0, 1, 0, 1], 50)
        >>> HistogramBinning(bins=4).fit(z, y).predict_proba(z[::50])[:, 1].round(2)
        array([0.01, 0.99, 0.01, 0.99])

    Source: Zadrozny and Elkan (2001).
    """

    edges_: list[Floats]
    values_: list[Floats]
    rows_per_class = 100

    def __init__(self, bins: int = 15) -> None:
        self.bins = bins

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        check_binning(self.bins, "equal-mass")
        scores, labels = float64(log_odds(z)), y.cpu().numpy()
        weight = np.ones(len(labels)) if w is None else float64(w)
        seen = weight > 0
        scores, labels, weight = scores[seen], labels[seen], weight[seen]
        self.edges_, self.values_ = [], []
        for k in questions(z.shape[1]):
            score = scores[:, k]
            edges = _weighted_quantiles(score, weight, np.arange(1, self.bins) / self.bins)
            edges = np.unique(edges[edges < score.max()])
            index = np.searchsorted(edges, score, side="left")
            positive = weight * (labels == k)
            share = (positive.sum() + 1.0) / (weight.sum() + z.shape[1])
            total = np.bincount(index, weight, len(edges) + 1)
            self.edges_.append(edges)
            self.values_.append((np.bincount(index, positive, len(edges) + 1) + share) / (total + 1.0))

    def _tensors(self) -> dict[str, torch.Tensor]:
        longest = max(len(v) for v in self.values_)
        edges = [np.pad(e, (0, longest - 1 - len(e)), constant_values=np.inf) for e in self.edges_]
        values = [np.pad(v, (0, longest - len(v)), mode="edge") for v in self.values_]
        return {"edges": torch.from_numpy(np.stack(edges)), "values": torch.from_numpy(np.stack(values))}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        scores = log_odds(z)[:, questions(z.shape[1]).start :]
        index = torch.searchsorted(tensors["edges"], scores.T.contiguous())
        return joined_shares(tensors["values"].gather(1, index).T)


def _weighted_quantiles(score: Floats, weight: Floats, shares: Floats) -> Floats:
    """The least score below or at which each share of the weight lies; for weights of 1 the ceil(share·N)-th score."""
    order = np.argsort(score)
    reached = np.cumsum(weight[order])
    # The slack is for shares that should be met exactly but for rounding.
    at = np.searchsorted(reached, shares * reached[-1] * (1.0 - 1e-12))
    return np.asarray(score[order][at])
