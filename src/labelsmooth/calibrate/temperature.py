"""Temperature scaling: one number, found by a bracketed third-order method in 1/T, where the problem is convex."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch

from labelsmooth.calibrate.base import Calibrator
from labelsmooth.metrics.rows import widest

Result = TypeVar("Result")

# Elements per chunk of rows: few enough to stay in the cache from one operator to the next, enough for PyTorch's
# threads to share and for the time of a call not to count. Threads of our own would wait for Python's lock.
_CHUNK_ELEMENTS = 1 << 19
# Far below any logit that matters, and its square is still finite in float32.
_MASKED = -1e15
# Rows of the first, rough fits. The larger leaves an error of about a percent, from which one step is enough.
_SAMPLES = (500, 5000)
# The error of Halley's method is of the order of the cube of its last step, 1e-6, that of Newton's of its square.
_TOLERANCE, _NEWTON_TOLERANCE = 1e-2, 2e-4


_FLAT = "The logits are the same for every class: T has no effect."
_UNRELATED = "The logits do not point to the labels: the likelihood rises without end with T."
_SEPARABLE = "No row is misclassified: the likelihood rises without end as T falls."


PRIOR = 4.0
"""The precision of ln T in the prior of a temperature."""


class TemperatureScaling(Calibrator):
    r"""Divide the logits by one temperature: p = softmax(z / T).

    .. math:: \min_{T} \sum_i \Big( \ln \sum_k e^{z_{ik} / T} - z_{i y_i} / T \Big) + \frac{c}{2} \ln^2 T

    The second term is a weak prior: ln T has a normal distribution of mean 0 and precision c.  The default c = 4, a
    standard deviation of 1/2, puts T between 0.38 and 2.7 with probability 0.95, the range that trained networks are
    found in.  The data's precision at T = 1 is the variance of a row's logits under p, summed over the rows; for an
    uncertain row that is about 1, so the prior is worth about four such rows, and nothing beside a few hundred.
    Without it, rows that are all classified correctly have no best temperature: T falls without end, and the first
    error on other data costs any number of nats.

    The likelihood is convex in β = 1/T.  Its derivative, ⟨p, z⟩ - z_y summed over the rows, only rises, and the best β
    lies between 1 and its zero, so steps inside a bracket find it from any start.  Each step is one pass over the
    logits, which gives the derivative, its slope and its curvature (mean, variance and third moment of z under p), as
    Halley's method takes: fits to a few hundred and a few thousand of many rows come first, and then all the rows are
    mostly read once.

    Args:
        prior: c, the precision of ln T, at least 0; 0 is maximum likelihood, and warns where that has no finite answer.
        bounds: the least and the greatest temperature.  A fit that ends at one of them warns.

    Attributes:
        temperature_: T > 0.  Above 1 the model was over-confident, below 1 under-confident.
        at_bound_: whether the fit ended at one of the bounds, so that T says nothing more.
        n_iter_: steps over all the rows.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(20_000, 10))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)  # labels drawn from softmax(z)
        >>> TemperatureScaling().fit(5 * z, y)  # a model five times too sure of itself
        TemperatureScaling(temperature=5)
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # no row is misclassified
        ...     TemperatureScaling().fit(3 * np.eye(3), np.arange(3))
        TemperatureScaling(temperature=0.86)

    Source: Platt (1999) with one parameter; Guo et al. (2017).
    """

    temperature_: float
    at_bound_: bool
    n_iter_: int

    def __init__(self, prior: float = PRIOR, bounds: tuple[float, float] = (1e-3, 1e3)) -> None:
        self.prior = prior
        self.bounds = bounds

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        low, high = self.bounds
        if not 0 < low < high < math.inf:
            raise ValueError(f"bounds must be 0 < least < greatest temperature, both finite, not {self.bounds!r}.")
        if not 0 <= self.prior < math.inf:
            raise ValueError(f"prior must be a finite number of at least 0, not {self.prior!r}.")
        fit = _solve(z, y, w, low, high, self.prior)
        self.temperature_, self.at_bound_, self.n_iter_ = fit.temperature, fit.at_bound, fit.steps
        if fit.problem:
            warnings.warn(f"{fit.problem} The temperature is set to {fit.temperature:g}.", UserWarning, stacklevel=3)

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        return {"temperature_": ()}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return z / tensors["temperature"]


class _Fit(NamedTuple):
    temperature: float
    steps: int  # over all the rows
    problem: str | None = None  # what is wrong with the data
    at_bound: bool = False


def _solve(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, low: float, high: float, prior: float) -> _Fit:
    """Find T in [low, high]."""
    size = max((n for n in _SAMPLES if len(y) >= 4 * n), default=0)
    if size:
        # Evenly spread rows say nearly where the answer is.
        rows = torch.arange(size, device=z.device) * (len(y) // size)
        rough = _solve(z[rows], y[rows], None if w is None else w[rows], low, high, prior * size / len(y))
        if rough.problem is None:
            return _halley(z, y, w, low, high, prior, 1.0 / rough.temperature)
    if prior:
        return _halley(z, y, w, low, high, prior, 1.0)
    at_zero, at_infinity, spread = _limits(z, y, w)
    # The derivative rises from at_zero to at_infinity; it has a zero in between just when their signs differ.
    if spread == 0.0:
        return _Fit(min(max(1.0, low), high), 0, _FLAT)
    if at_zero >= 0.0:
        return _Fit(high, 0, _UNRELATED, True)
    if at_infinity <= 0.0:
        return _Fit(low, 0, _SEPARABLE, True)
    return _halley(z, y, w, low, high, prior, 1.0)


def _halley(
    z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, low: float, high: float, prior: float, start: float
) -> _Fit:
    """Halley's method in β = 1/T inside a bracket."""
    least, greatest = 1.0 / high, 1.0 / low
    beta = min(max(start, least), greatest)
    left, right = 0.0, math.inf  # the derivative is below 0 at left and above 0 at right, once seen there
    for steps in range(1, 101):
        slope, curvature, bend, behind = _derivatives(z, y, w, beta)
        problem = _problem(z, y, w, beta, curvature, behind) if prior else None
        log_beta = math.log(beta)
        slope += prior * log_beta / beta
        curvature += prior * (1.0 - log_beta) / beta**2
        bend += prior * (2.0 * log_beta - 3.0) / beta**3
        if slope <= 0.0 and beta == greatest:
            return _Fit(low, steps, problem or "The best temperature is below the bounds.", True)
        if slope >= 0.0 and beta == least:
            return _Fit(high, steps, problem or "The best temperature is above the bounds.", True)
        if slope < 0.0:
            left = beta
        else:
            right = beta
        following = _next(beta, slope, curvature, bend, left, right, least, greatest)
        if abs(following - beta) <= (_TOLERANCE if bend else _NEWTON_TOLERANCE) * beta:
            return _Fit(1.0 / following, steps, problem)
        beta = following
    return _Fit(1.0 / beta, steps, "The search did not settle in 100 steps.")


def _problem(
    z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, beta: float, curvature: float, behind: float
) -> str | None:
    """Why the prior, not the data, decides; checked again only where what is known already makes it possible."""
    if behind == 0.0 and curvature > 0.0:
        return _SEPARABLE
    if (behind == 0.0 or beta < 0.1) and (limits := _limits(z, y, w))[0] >= 0.0:
        return _FLAT if limits[2] == 0.0 else _UNRELATED
    return None


def _next(
    beta: float, slope: float, curvature: float, bend: float, left: float, right: float, least: float, greatest: float
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
) -> tuple[float, float, float, float]:
    """Σ w (⟨p, z⟩ - z_y), Σ w Var_p z, Σ w E_p (z - ⟨p, z⟩)³ at β, and Σ w (max z - z_y), in one pass over the rows."""

    def chunk(part: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None) -> tuple[float, ...]:
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
        sums = first - at_label, variance, central, -at_label
        return tuple(_sum(value, weight) for value in sums)

    slopes, curvatures, bends, behinds = zip(*_over_chunks(chunk, z, y, w), strict=True)
    slope = math.fsum(slopes)
    if math.isnan(slope) and not masked:  # 0 · inf of a masked class: rare enough to be found out afterwards
        return _derivatives(z, y, w, beta, masked=True)
    bend = math.fsum(bends)
    # The cube of a logit can leave float32; the step is then Newton's.
    return slope, math.fsum(curvatures), bend if math.isfinite(bend) else 0.0, math.fsum(behinds)


def _over_chunks(
    function: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], Result],
    z: torch.Tensor,
    y: torch.Tensor,
    w: torch.Tensor | None,
) -> list[Result]:
    """The function of each chunk of rows, measured from the row's maximum, where float32 keeps its digits."""
    rows = max(1, (_CHUNK_ELEMENTS if z.device.type == "cpu" else 1 << 27) // z.shape[1])

    results = []
    for start in range(0, z.shape[0], rows):
        part = z[start : start + rows]
        part = part - part.amax(dim=1, keepdim=True)
        results.append(function(part, y[start : start + rows], None if w is None else w[start : start + rows]))
    return results


def _sum(values: torch.Tensor, weight: torch.Tensor | None) -> float:
    values = values.to(widest(values))
    return float((values if weight is None else values * weight).sum())
