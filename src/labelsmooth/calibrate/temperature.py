"""Temperature scaling: one number, found by a bracketed Newton method in 1/T, where the problem is convex."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import torch

from .base import Calibrator

# Rows per chunk are chosen so that a chunk of logits and its softmax stay in the cache.
_CHUNK_ELEMENTS = 1 << 18
# Far below any logit that matters, and its square is still finite in float32.
_MASKED = -1e15


class TemperatureScaling(Calibrator):
    r"""Divide the logits by one temperature: p = softmax(z / T), with the T of the least held-out NLL.

    .. math:: \min_{\beta = 1/T} \frac1N \sum_i \ln \sum_k e^{\beta z_{ik}} - \beta z_{i y_i}

    is convex in β. Its derivative, E[⟨p, z⟩ - z_y], only rises, so Newton's method inside a bracket finds the zero from
    any start; each step is one pass over the logits.

    Args:
        bounds: the least and the greatest temperature, (1e-3, 1e3) unless told. They are the answer where no finite
            T > 0 is best: the least for separable data (every label has the largest logit of its row, so sharper is
            always better), the greatest where the logits do not point to the labels at all. Both warn. Logits that
            are the same for every class leave T at 1, with a warning, since T then changes nothing.

    Attributes:
        temperature_: T > 0. Above 1 the model was over-confident, below 1 under-confident.
        n_iter_: Newton steps taken.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(20_000, 10))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)  # labels drawn from softmax(z)
        >>> calibrator = TemperatureScaling().fit(5 * z, y)  # a model five times too sure of itself
        >>> round(calibrator.temperature_, 1)
        5.0

    Source: Platt (1999) with one parameter; Guo et al. (2017).
    """

    temperature_: float
    n_iter_: int

    def __init__(self, bounds: tuple[float, float] = (1e-3, 1e3)) -> None:
        self.bounds = bounds

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        low, high = self.bounds
        if not 0 < low < high < math.inf:
            raise ValueError(f"bounds must be 0 < least < greatest temperature, both finite, not {self.bounds!r}.")
        self.temperature_, self.n_iter_, problem = _solve(z, y, w, low, high)
        if problem:
            warnings.warn(f"{problem} The temperature is set to {self.temperature_:g}.", UserWarning, stacklevel=3)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"temperature": torch.tensor(self.temperature_, dtype=torch.float64)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return z / tensors["temperature"]


def _solve(
    z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, low: float, high: float
) -> tuple[float, int, str | None]:
    """Find T in [low, high]: (T, Newton steps, what is wrong with the data)."""
    at_zero, at_infinity, spread = _limits(z, y, w)
    # The derivative rises from at_zero to at_infinity; it has a zero in between just when their signs differ.
    if spread == 0.0:
        return min(max(1.0, low), high), 0, "The logits are the same for every class: T has no effect."
    if at_zero >= 0.0:
        return high, 0, "The logits do not point to the labels: the likelihood rises for ever with T."
    if at_infinity <= 0.0:
        return low, 0, "The labels are separable: the likelihood rises for ever as T falls."
    least, greatest = 1.0 / high, 1.0 / low  # of β
    beta = min(max(1.0, least), greatest)
    left, right = 0.0, math.inf  # the derivative is below 0 at left and above 0 at right, once seen there
    for steps in range(1, 101):
        slope, curvature = _derivatives(z, y, w, beta)
        if slope <= 0.0 and beta == greatest:
            return low, steps, "The best temperature is below the bounds."
        if slope >= 0.0 and beta == least:
            return high, steps, "The best temperature is above the bounds."
        if slope < 0.0:
            left = beta
        else:
            right = beta
        following = _next(beta, slope, curvature, left, right, least, greatest)
        # Newton's error after a step is of the order of the step squared.
        if abs(following - beta) <= 1e-6 * beta:
            return 1.0 / following, steps, None
        beta = following
    return 1.0 / beta, steps, "Newton's method did not settle in 100 steps."


def _next(
    beta: float, slope: float, curvature: float, left: float, right: float, least: float, greatest: float
) -> float:
    """Newton's step if it stays inside the bracket and is not wild, else one that halves the bracket in ln β."""
    lower, upper = max(left, least), min(right, greatest)
    if curvature > 0.0:
        step = beta - slope / curvature
        if lower < step < upper and beta / 8.0 < step < beta * 8.0:
            return step
    if slope <= 0.0 and right == math.inf:
        return min(beta * 8.0, greatest)
    if slope > 0.0 and left == 0.0:
        return max(beta / 8.0, least)
    return math.sqrt(lower * upper)


def _limits(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> tuple[float, float, float]:
    """The derivative as β → 0 and as β → ∞, and the largest difference between two logits of a row."""
    at_zero = at_infinity = spread = 0.0
    for part, label, weight in _chunks(z, y, w):
        open_class = part > _MASKED
        logits = torch.where(open_class, part, 0.0)
        mean = logits.sum(dim=1) / open_class.sum(dim=1)
        at_label = part.gather(1, label[:, None])[:, 0]
        at_zero += _sum(mean - at_label, weight)
        at_infinity += _sum(-at_label, weight)
        spread = max(spread, float(-part.amin()))
    return at_zero, at_infinity, spread


def _derivatives(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, beta: float) -> tuple[float, float]:
    """Σ w (⟨p, z⟩ - z_y) and Σ w Var_p z at β, in one pass over chunks of rows."""
    slope = curvature = 0.0
    for part, label, weight in _chunks(z, y, w):
        at_label = part.gather(1, label[:, None])[:, 0]
        p = torch.softmax(part * beta, dim=1)
        p *= part
        first = p.sum(dim=1)
        p *= part
        slope += _sum(first - at_label, weight)
        curvature += _sum((p.sum(dim=1) - first * first).clamp_(min=0.0), weight)
    return slope, curvature


def _chunks(
    z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Chunks of rows, measured from the row's maximum, where the probability is: float32 keeps its digits."""
    rows = max(1, (_CHUNK_ELEMENTS if z.device.type == "cpu" else 1 << 27) // z.shape[1])
    for start in range(0, z.shape[0], rows):
        part = z[start : start + rows]
        part = (part - part.amax(dim=1, keepdim=True)).clamp_(min=_MASKED)
        yield part, y[start : start + rows], None if w is None else w[start : start + rows]


def _sum(values: torch.Tensor, weight: torch.Tensor | None) -> float:
    values = values if values.device.type == "mps" else values.double()
    return float((values if weight is None else values * weight).sum())
