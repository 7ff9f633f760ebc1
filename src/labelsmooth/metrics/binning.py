"""Bins of confidence: equal width or equal mass, with 0.0, 1.0 and ties where they belong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from labelsmooth.metrics.rows import Floats, Integers


@dataclass(frozen=True)
class Binned:
    """Confidences in bins: the bin of each row [M], and per bin its count, Σ confidence and Σ correct [B]."""

    edges: Floats
    index: Integers
    count: Floats
    confidence: Floats
    correct: Floats

    @property
    def gap(self) -> Floats:
        """Mean confidence minus accuracy in each bin; 0 where the bin is empty."""
        difference: Floats = self.confidence - self.correct
        return difference / np.maximum(self.count, 1.0)


def check_binning(bins: int, binning: str) -> None:
    """Raise ValueError unless ``bins`` is at least 1 and ``binning`` one of its two kinds."""
    if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)) or bins < 1:
        raise ValueError(f"bins must be a whole number of at least 1, not {bins!r}.")
    if binning not in ("equal-mass", "equal-width"):
        raise ValueError(f"binning must be 'equal-mass' or 'equal-width', not {binning!r}.")


def bin_edges(confidence: Floats, bins: int, binning: str, weight: Floats | None = None) -> Floats:
    """Edges from 0 to 1 of bins that are closed on the right; the first is closed on both sides.

    Equal mass: the inner edges are order statistics, the ceil(jM/B)-th smallest confidence for j = 1 ... B-1. Tied
    confidences therefore always share a bin, and edges that coincide are one edge: there may be fewer than B bins.
    Ties that fill a bin or more get one of their own: an edge lies beside them on either side, so that 940 rows at 1.0
    and 60 at 0.4 are two bins. A row of weight w counts as w tied rows.
    """
    if binning == "equal-width":
        return np.linspace(0.0, 1.0, bins + 1)
    size = confidence.shape[0]
    if bins == 1:
        inner = np.empty(0)
    elif weight is None:
        rank = -(-np.arange(1, bins, dtype=np.int64) * size // bins) - 1  # ceil(jM/B) - 1, in integers
        inner = np.unique(np.partition(confidence, np.unique(rank))[rank])
    else:
        order = np.argsort(confidence, kind="stable")
        reached = np.cumsum(weight[order])
        at = np.searchsorted(reached, np.ceil(np.arange(1, bins) * reached[-1] / bins - 1e-9))
        inner = np.unique(confidence[order][at])
    # Ties that fill a bin: the edge below them is the largest confidence that is smaller.
    total = size if weight is None else float(weight.sum())
    for edge in inner:
        tied = confidence == edge
        below = confidence < edge
        if (tied.sum() if weight is None else weight[tied].sum()) * bins >= total and below.any():
            inner = np.append(inner, confidence[below].max())
    inner = np.unique(inner)
    # An edge at the largest confidence has nothing above it; one at 1.0 is the outer edge.
    inner = inner[inner < confidence.max()]
    return np.concatenate([[min(0.0, float(confidence.min()))], inner, [max(1.0, float(confidence.max()))]])


def assign(confidence: Floats, edges: Floats) -> Integers:
    """The bin (e_b, e_{b+1}] of each confidence; 0.0 is in the first, 1.0 in the last."""
    inner = torch.from_numpy(np.ascontiguousarray(edges[1:-1]))
    index: Integers = torch.bucketize(torch.from_numpy(np.ascontiguousarray(confidence)), inner).numpy()
    return index


def assign_equal_width(confidence: Floats, edges: Floats) -> Integers:
    """:func:`assign` for edges of equal width from 0 to 1, at half the cost: a product, put right at the edges."""
    bins = len(edges) - 1
    index = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    index -= (confidence <= edges[index]) & (index > 0)
    index += (confidence > edges[index + 1]) & (index < bins - 1)
    return index


def into_bins(confidence: Floats, correct: Floats, bins: int, binning: str, weight: Floats | None = None) -> Binned:
    """Count the rows of each bin and add up their confidences and their right answers."""
    edges = bin_edges(confidence, bins, binning, weight)
    index = assign(confidence, edges) if binning == "equal-mass" else assign_equal_width(confidence, edges)
    size = edges.shape[0] - 1
    return Binned(
        edges=edges,
        index=index,
        count=np.bincount(index, weight, minlength=size).astype(np.float64),
        confidence=sum_by(index, confidence if weight is None else weight * confidence, size),
        correct=sum_by(index, correct if weight is None else weight * correct, size),
    )


def sum_by(index: Integers, values: Floats, size: int) -> Floats:
    """Σ of the values of each index, [size]."""
    return np.bincount(index, weights=values, minlength=size).astype(np.float64, copy=False)
