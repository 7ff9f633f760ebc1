"""Histogram binning: each class's probability replaced by how often the label was that class in its bin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .base import Calibrator
from .scores import binary_from_probability, log_odds, normalised


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
