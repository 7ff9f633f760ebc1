"""Matrices for ClassMatrix for classes in an order: a row of probabilities around each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from operator import index
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from labelsmooth.smoothing.base import as_tensor, check_positive, table_dtype

Distance = Literal["absolute", "squared", "log", "squared_log"]


def ordinal(
    classes: int | Sequence[float] | Tensor, *, distance: Distance = "absolute", sharpness: float = 1.0
) -> Tensor:
    """Soft labels for ordered classes: the softmax of the negative distance between the ranks.

        M[y, k] = exp(-sharpness * d(r_y, r_k)) / sum_j exp(-sharpness * d(r_y, r_j))

    With ``ClassMatrix(1.0, ordinal(K))`` these are the targets of the paper.

    Args:
        classes: K, for the ranks 1 .. K; or the rank of each class, [K] (ages, distances, stars).
        distance: "absolute" |r_y - r_k|, "squared" its square; for positive ranks "log" |log r_y - log r_k|, or
            "squared_log" its square.
        sharpness: above 0; large values leave all of the probability on the label.

    Returns:
        [K, K], each row a distribution.

    Raises:
        ValueError: an unknown distance, a sharpness that is not positive, or ranks that do not fit the distance.

    Example:
        >>> ordinal(3)
        tensor([[0.6652, 0.2447, 0.0900],
                [0.2119, 0.5761, 0.2119],
                [0.0900, 0.2447, 0.6652]])

    Source: Díaz & Marathe, "Soft Labels for Ordinal Regression", 2019.
    """
    check_positive(sharpness, "sharpness")
    if distance not in get_args(Distance):
        raise ValueError(f"distance={distance!r} is unknown; use one of {', '.join(map(repr, get_args(Distance)))}.")
    ranks = _ranks(classes)
    if distance.endswith("log"):
        if bool((ranks <= 0).any()):
            raise ValueError(f"distance={distance!r} needs positive ranks, and the smallest is {float(ranks.min())}.")
        ranks = ranks.log()
    gap = (ranks[:, None] - ranks).abs()
    return (-sharpness * (gap.square() if distance.startswith("squared") else gap)).softmax(-1)


def gaussian(classes: int | Sequence[float] | Tensor, *, sigma: float = 1.0) -> Tensor:
    """Soft labels for ordered classes: a Gaussian around the label, renormalised at the ends.

        M[y, k]  proportional to  exp(-(r_y - r_k)^2 / (2 sigma^2)),      = ordinal(distance="squared", 1 / (2 sigma^2))

    Args:
        classes: K, for the ranks 1 .. K; or the rank of each class, [K].
        sigma: the width in ranks, above 0.

    Returns:
        [K, K], each row a distribution.

    Example:
        >>> gaussian(3, sigma=0.5)[1]
        tensor([0.1065, 0.7870, 0.1065])

    Source: Gao et al., "Deep Label Distribution Learning With Label Ambiguity", 2017.
    """
    check_positive(sigma, "sigma")
    return ordinal(classes, distance="squared", sharpness=1.0 / (2.0 * sigma * sigma))


def binomial(classes: int) -> Tensor:
    """Soft labels for ordered classes: a binomial distribution whose mode is the label.

        M[y, k] = C(K-1, k) p^k (1-p)^(K-1-k),      p = (y + 1/2) / K

    Its spread depends on K and the label alone: the classes in the middle are wider than those at the ends.  The paper
    spaces p evenly from 0.1 to 0.9, which is the same for five classes; for more than eleven the mode would leave the
    label.

    Args:
        classes: K, at least 1.

    Returns:
        [K, K], each row a distribution.

    Raises:
        TypeError: classes that are not an integer.
        ValueError: fewer than one class.

    Example:
        >>> binomial(3)
        tensor([[0.6944, 0.2778, 0.0278],
                [0.2500, 0.5000, 0.2500],
                [0.0278, 0.2778, 0.6944]])

    Source: Liu et al., "Unimodal Regularized Neuron Stick-breaking for Ordinal Classification", 2020.
    """
    labels = _labels(classes)
    p, last = ((labels + 0.5) / len(labels))[:, None], len(labels) - 1.0
    ways = math.lgamma(last + 1.0) - torch.lgamma(labels + 1.0) - torch.lgamma(last - labels + 1.0)
    return (ways + labels * p.log() + (last - labels) * (-p).log1p()).exp().to(table_dtype())


def poisson(classes: int, *, temperature: float = 1.0) -> Tensor:
    """Soft labels for ordered classes: a Poisson distribution whose mode is the label, cut off at the last class.

        M[y, k] = softmax_k((k log r - log k!) / temperature),      r = y + 1/2

    The classes of large labels are wider than those of small ones, which suits counts.  The paper predicts the rate r
    from the input; a rate of y + 1/2 leaves the mode at the label.

    Args:
        classes: K, at least 1.
        temperature: above 0; small values leave all of the probability on the label.

    Returns:
        [K, K], each row a distribution.

    Raises:
        TypeError: classes that are not an integer.
        ValueError: fewer than one class, or a temperature that is not positive.

    Example:
        >>> poisson(3)
        tensor([[0.6154, 0.3077, 0.0769],
                [0.2759, 0.4138, 0.3103],
                [0.1509, 0.3774, 0.4717]])

    Source: Beckham & Pal, "Unimodal Probability Distributions for Deep Ordinal Classification", 2017.
    """
    check_positive(temperature, "temperature")
    labels = _labels(classes)
    scores = labels * (labels + 0.5).log()[:, None] - torch.lgamma(labels + 1.0)
    return (scores / temperature).softmax(-1).to(table_dtype())


def beta(classes: int) -> Tensor:
    """Soft labels for ordered classes: a beta distribution on [0, 1], of which each class has a K-th part.

        M[y, k] = I((k + 1) / K) - I(k / K),      I the distribution function of Beta(a, b)

    The mean of Beta(a, b) is the middle of the label's part, m = (y + 1/2) / K, and its standard deviation half of the
    part's width, so that all classes are about equally wide: a = m s and b = (1 - m) s, where s = 4 K^2 m (1 - m) - 1.
    For the first and the last class s = 2 K: with less, the density would be infinite at 0 or 1.  The paper has a table
    of whole numbers a and b; for 3 to 13 classes they are near these.

    Args:
        classes: K, at least 1.

    Returns:
        [K, K], each row a distribution.

    Raises:
        ImportError: SciPy is not installed.
        TypeError: classes that are not an integer.
        ValueError: fewer than one class.

    Example:
        >>> beta(3)
        tensor([[0.8683, 0.1276, 0.0041],
                [0.1733, 0.6534, 0.1733],
                [0.0041, 0.1276, 0.8683]])

    Source: Vargas et al., "Unimodal Regularisation Based on Beta Distribution for Deep Ordinal Regression", 2022.
    """
    try:
        from scipy.special import betainc
    except ImportError as problem:
        raise ImportError("smoothing.beta needs SciPy: pip install scipy.") from problem
    middle = ((_labels(classes).numpy() + 0.5) / classes)[:, None]
    total = np.maximum(4.0 * classes**2 * middle * (1.0 - middle) - 1.0, 1.0 / np.minimum(middle, 1.0 - middle))
    below = betainc(middle * total, (1.0 - middle) * total, np.linspace(0.0, 1.0, classes + 1))
    return as_tensor(np.diff(below)).to(table_dtype())


def _labels(classes: int) -> Tensor:
    """0 .. K - 1 in float64."""
    return _ranks(index(classes)).double() - 1.0


def _ranks(classes: int | Sequence[float] | Tensor) -> Tensor:
    if isinstance(classes, int | Integral):
        if classes < 1:
            raise ValueError(f"classes={classes}; give the number of classes, at least 1, or the rank of each.")
        return torch.arange(1, int(classes) + 1, dtype=table_dtype(), device="cpu")
    ranks = as_tensor(classes)
    ranks = ranks.to(table_dtype(ranks.dtype) if isinstance(classes, Tensor) else table_dtype())
    if ranks.dim() != 1 or not ranks.numel() or not bool(ranks.isfinite().all()):
        raise ValueError(f"classes has shape {tuple(ranks.shape)}; give the finite rank of each class, [K].")
    return ranks
