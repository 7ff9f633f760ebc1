"""Temperature scaling: one number, found by a bracketed third-order method in 1/T, where the problem is convex."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from .base import Calibrator

Result = TypeVar("Result")

# Elements per chunk of rows: logits and exponentials stay in a core's cache, and PyTorch does not split the work on
# them among threads. Threads take whole chunks instead, which never wait for each other.
_CHUNK_ELEMENTS = 1 << 15
# Far below any logit that matters, and its square is still finite in float32.
_MASKED = -1e15
# Rows of the first, rough fits. The larger leaves an error of about a percent, from which one step is enough.
_SAMPLES = (500, 5000)
# The error of Halley's method is of the order of the cube of its last step, 1e-6, that of Newton's of its square.
_TOLERANCE, _NEWTON_TOLERANCE = 1e-2, 2e-4


class TemperatureScaling(Calibrator):
    r"""Divide the logits by one temperature: p = softmax(z / T), with the T of the least held-out NLL.

    .. math:: \min_{\beta = 1/T} \frac1N \sum_i \ln \sum_k e^{\beta z_{ik}} - \beta z_{i y_i}

    is convex in β. Its derivative, E[⟨p, z⟩ - z_y], only rises, so steps inside a bracket find the zero from any start.
    Each is one pass over the logits, which gives the derivative, its slope and its curvature (mean, variance and third
    moment of z under p), so that Halley's method can be used: fits to a few hundred and a few thousand of many rows
    come first, and then all the rows are mostly read once.

    Args:
        bounds: the least and the greatest temperature, (1e-3, 1e3) unless told. They are the answer where no finite
            T > 0 is best: the least for separable data (every label has the largest logit of its row, so sharper is
            always better), the greatest where the logits do not point to the labels at all. Both warn. Logits that
            are the same for every class leave T at 1, with a warning, since T then changes nothing.

    Attributes:
        temperature_: T > 0. Above 1 the model was over-confident, below 1 under-confident.
        n_iter_: steps over all the rows.

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
    """Find T in [low, high]: (T, steps over all rows, what is wrong with the data)."""
    size = max((n for n in _SAMPLES if len(y) >= 4 * n), default=0)
    if size:
        # Evenly spread rows say nearly where the answer is.
        rows = torch.arange(size, device=z.device) * (len(y) // size)
        found, _, problem = _solve(z[rows], y[rows], None if w is None else w[rows], low, high)
        if problem is None:
            # A finite zero of the whole derivative is then seen, rather than proven beforehand, to exist.
            return _halley(z, y, w, low, high, 1.0 / found)
    at_zero, at_infinity, spread = _limits(z, y, w)
    # The derivative rises from at_zero to at_infinity; it has a zero in between just when their signs differ.
    if spread == 0.0:
        return min(max(1.0, low), high), 0, "The logits are the same for every class: T has no effect."
    if at_zero >= 0.0:
        return high, 0, "The logits do not point to the labels: the likelihood rises for ever with T."
    if at_infinity <= 0.0:
        return low, 0, "The labels are separable: the likelihood rises for ever as T falls."
    return _halley(z, y, w, low, high, 1.0)


def _halley(
    z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, low: float, high: float, start: float
) -> tuple[float, int, str | None]:
    """Halley's method in β = 1/T inside a bracket."""
    least, greatest = 1.0 / high, 1.0 / low
    beta = min(max(start, least), greatest)
    left, right = 0.0, math.inf  # the derivative is below 0 at left and above 0 at right, once seen there
    for steps in range(1, 101):
        slope, curvature, bend = _derivatives(z, y, w, beta)
        if slope <= 0.0 and beta == greatest:
            return low, steps, "The best temperature is below the bounds."
        if slope >= 0.0 and beta == least:
            return high, steps, "The best temperature is above the bounds."
        if slope < 0.0:
            left = beta
        else:
            right = beta
        following = _next(beta, slope, curvature, bend, left, right, least, greatest)
        if abs(following - beta) <= (_TOLERANCE if bend else _NEWTON_TOLERANCE) * beta:
            return 1.0 / following, steps, None
        beta = following
    return 1.0 / beta, steps, "The search did not settle in 100 steps."


def _next(
    beta: float,
    slope: float,
    curvature: float,
    bend: float,
    left: float,
    right: float,
    least: float,
    greatest: float,
) -> float:
    """Halley's step if it stays inside the bracket and is not wild, else one that halves the bracket in ln β."""
    lower, upper = max(left, least), min(right, greatest)
    if curvature > 0.0:
        newton = slope / curvature
        shrunk = 1.0 - 0.5 * newton * bend / curvature
        step = beta - newton / (shrunk if shrunk > 0.5 else 1.0)
        if lower < step < upper and beta / 8.0 < step < beta * 8.0:
            return step
    if slope <= 0.0 and right == math.inf:
        return min(beta * 8.0, greatest)
    if slope > 0.0 and left == 0.0:
        return max(beta / 8.0, least)
    return math.sqrt(lower * upper)


def _limits(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> tuple[float, float, float]:
    """The derivative as β → 0 and as β → ∞, and the largest difference between two logits of a row."""

    def chunk(part: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None) -> tuple[float, float, float]:
        open_class = ~torch.isneginf(part)
        mean = torch.where(open_class, part, 0.0).sum(dim=1) / open_class.sum(dim=1)
        at_label = part.gather(1, label[:, None])[:, 0]
        return _sum(mean - at_label, weight), _sum(-at_label, weight), float(-part.amin())

    at_zero, at_infinity, spread = zip(*_over_chunks(chunk, z, y, w), strict=True)
    return math.fsum(at_zero), math.fsum(at_infinity), max(spread)


def _derivatives(
    z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, beta: float, masked: bool = False
) -> tuple[float, float, float]:
    """Σ w (⟨p, z⟩ - z_y), Σ w Var_p z and Σ w E_p (z - ⟨p, z⟩)³ at β, in one pass over chunks of rows."""

    def chunk(part: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None) -> tuple[float, float, float]:
        if masked:
            part.clamp_(min=_MASKED)
        at_label = part.gather(1, label[:, None])[:, 0]
        power = (part * beta).exp_()
        moments = []
        total = power.sum(dim=1)
        for _ in range(3):
            power *= part
            moments.append(power.sum(dim=1) / total)
        first, second, third = moments
        variance = (second - first * first).clamp_(min=0.0)
        central = third - first * (second + 2.0 * variance)
        return _sum(first - at_label, weight), _sum(variance, weight), _sum(central, weight)

    slopes, curvatures, bends = zip(*_over_chunks(chunk, z, y, w), strict=True)
    slope = math.fsum(slopes)
    if math.isnan(slope) and not masked:  # 0 · inf of a masked class: rare enough to be found out afterwards
        return _derivatives(z, y, w, beta, masked=True)
    bend = math.fsum(bends)
    # The cube of a logit can leave float32; the step is then Newton's.
    return slope, math.fsum(curvatures), bend if math.isfinite(bend) else 0.0


def _over_chunks(
    function: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], Result],
    z: torch.Tensor,
    y: torch.Tensor,
    w: torch.Tensor | None,
) -> list[Result]:
    """The function of each chunk of rows, measured from the row's maximum, where float32 keeps its digits."""
    rows = max(1, (_CHUNK_ELEMENTS if z.device.type == "cpu" else 1 << 27) // z.shape[1])

    def one(start: int) -> Result:
        part = z[start : start + rows]
        part = part - part.amax(dim=1, keepdim=True)
        return function(part, y[start : start + rows], None if w is None else w[start : start + rows])

    starts = range(0, z.shape[0], rows)
    threads = min(torch.get_num_threads(), len(starts)) if z.device.type == "cpu" else 1
    if threads < 2 or z.numel() < 16 * _CHUNK_ELEMENTS:
        return [one(start) for start in starts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, starts, chunksize=8))


def _sum(values: torch.Tensor, weight: torch.Tensor | None) -> float:
    values = values if values.device.type == "mps" else values.double()
    return float((values if weight is None else values * weight).sum())
