"""Platt scaling and beta calibration: logistic regressions on each class's log-odds, binary or one-vs-rest."""

from __future__ import annotations

import torch

from labelsmooth.calibrate.base import Calibrator
from labelsmooth.metrics.rows import Floats, float64, widest


class PlattScaling(Calibrator):
    r"""Logistic regression of "is the label k" on the log-odds of class k, then normalised over the classes.

    .. math:: q_k = \sigma(a_k s_k + b_k), \quad s_k = \ln\frac{p_k}{1 - p_k}, \quad \hat p_k = q_k / \sum_j q_j

    With two classes there is one regression, on s = z_1 - z_0. Targets are Platt's, (n₊ + 1)/(n₊ + 2) and
    1/(n₋ + 2) rather than 1 and 0, which keeps the answer finite on separable data (sample weights count as
    repetitions there). They also cap the confidence in a class of few rows, so the fit warns below 50 rows of a class.
    Each class is a convex problem in two variables, solved by damped Newton steps.

    Attributes:
        slope_: a_k, (K,); (1,) for two classes.
        intercept_: b_k, likewise.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=20_000)
        >>> y = (rng.random(20_000) < 1 / (1 + np.exp(-(2 * z - 1)))).astype(int)
        >>> platt = PlattScaling().fit(z, y)
        >>> platt.slope_.round(1), platt.intercept_.round(1)
        (array([2.]), array([-1.]))

    Source: Platt (1999); Lin, Lin and Weng (2007); one-vs-rest: Zadrozny and Elkan (2002).
    """

    slope_: Floats
    intercept_: Floats
    rows_per_class = 50

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        scores = log_odds(z)
        weight = torch.ones_like(scores[:, 0]) if w is None else w.to(scores.dtype)
        fits = [_platt(scores[:, k], y == k, weight) for k in questions(z.shape[1])]
        self.slope_, self.intercept_ = float64(torch.stack(fits, dim=1))

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        fits = len(questions(num_classes))
        return {"slope_": (fits,), "intercept_": (fits,)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        scores = log_odds(z)[:, questions(z.shape[1]).start :]
        return joined(tensors["slope"] * scores + tensors["intercept"])


def _platt(score: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Slope and intercept (2,) of one question, with Platt's targets."""
    n_positive = (weight * positive).sum()
    n_negative = weight.sum() - n_positive
    target = torch.where(positive, (n_positive + 1.0) / (n_positive + 2.0), 1.0 / (n_negative + 2.0))
    # A centred and scaled score makes the 2 x 2 systems well conditioned, whatever the logits' scale.
    mean = (weight * score).sum() / weight.sum()
    deviation = ((weight * (score - mean) ** 2).sum() / weight.sum()).sqrt()
    spread = torch.where(deviation > 0, deviation, 1.0)
    x = torch.stack([(score - mean) / spread, torch.ones_like(score)], dim=-1)
    base = (weight * target).sum() / weight.sum()
    start = torch.stack([torch.zeros_like(base), torch.log(base / (1.0 - base))])
    a, b = _newton(x, target, weight, start, [True, True])
    return torch.stack([a / spread, b - a / spread * mean])


class BetaCalibration(Calibrator):
    r"""The calibration map of two beta distributions, per class (one-vs-rest, normalised) or one for two classes.

    .. math:: \operatorname{logit} q_k = a_k \ln p_k - b_k \ln(1 - p_k) + c_k, \qquad a_k, b_k \ge 0

    a = b = 1, c = 0 is the identity. A prior worth one example, N(0, 1) on a - 1, b - 1 and c, keeps the answer finite
    where the data are separable; it is nothing beside a few hundred rows. A slope that would be negative is set to 0
    and the rest is fitted again, so the map always rises.

    Attributes:
        coefficients_: a, b, c per class, (K, 3); (1, 3) for two classes.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> p = rng.random(50_000)
        >>> y = (rng.random(50_000) < p).astype(int)  # p is calibrated: the map should be the identity
        >>> beta = BetaCalibration().fit(np.log(p / (1 - p)), y)
        >>> bool(abs(beta.coefficients_ - [1, 1, 0]).max() < 0.1)
        True

    Source: Kull, Silva Filho and Flach (2017).
    """

    coefficients_: Floats
    rows_per_class = 10

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        scores = log_odds(z)
        weight = torch.ones_like(scores[:, 0]) if w is None else w.to(scores.dtype)
        classes = questions(z.shape[1])
        rows = [_fit_one(_features(scores[:, k]), (y == k).to(scores.dtype), weight) for k in classes]
        self.coefficients_ = float64(torch.stack(rows))

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        return {"coefficients_": (len(questions(num_classes)), 3)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        scores = log_odds(z)[:, questions(z.shape[1]).start :]
        return joined((_features(scores) * tensors["coefficients"]).sum(dim=-1))


def _features(s: torch.Tensor) -> torch.Tensor:
    """ln p, -ln(1 - p) and 1 from the log-odds s."""
    softplus = torch.nn.functional.softplus
    return torch.stack([-softplus(-s), softplus(s), torch.ones_like(s)], dim=-1)


def _fit_one(x: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(a, b, c) of one question, with a and b at least 0."""
    free = [True, True, True]
    identity = torch.tensor([1.0, 1.0, 0.0], dtype=x.dtype, device=x.device)
    while True:
        coefficients = _newton(x, positive, weight, identity, free, prior=1.0)
        negative = [j for j in (0, 1) if coefficients[j] < 0]
        if not negative:
            return coefficients
        free[min(negative, key=lambda j: float(coefficients[j]))] = False


def _newton(
    x: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    start: torch.Tensor,
    free: list[bool],
    prior: float = 0.0,
) -> torch.Tensor:
    """Minimise Σ w·log-loss + prior · |θ - start|² / 2 over the free coefficients θ; the others are 0."""
    at = torch.tensor(free, device=x.device)
    theta = torch.where(at, start, torch.zeros_like(start))
    rows = float(weight.sum())
    ridge = (prior + 1e-12 * rows) * torch.eye(len(start), dtype=x.dtype, device=x.device)

    def loss(value: torch.Tensor) -> torch.Tensor:
        t = x @ value
        fit = (weight * (torch.nn.functional.softplus(t) - target * t)).sum()
        return fit + 0.5 * prior * ((value - start)[at] ** 2).sum()

    current = loss(theta)
    for _ in range(100):
        p = torch.sigmoid(x @ theta)
        gradient = (x.T @ (weight * (p - target)) + prior * (theta - start))[at]
        hessian = x.T @ (x * (weight * p * (1.0 - p))[:, None]) + ridge
        step = torch.zeros_like(theta)
        step[at] = torch.linalg.solve(hessian[at][:, at], gradient)
        decrease = float(gradient @ step[at])
        size = 1.0
        while size > 1e-12 and loss(theta - size * step) > current - 1e-4 * size * decrease + 1e-12 * abs(current):
            size /= 2.0
        theta = theta - size * step
        current = loss(theta)
        if decrease <= 1e-16 * rows:
            break
    return theta


def log_odds(z: torch.Tensor) -> torch.Tensor:
    r"""ln p_k / (1 - p_k) = z_k - ln Σ_{j≠k} exp z_j of softmax(z), (N, K) in float64.

    Unlike a raw logit it does not change when a constant is added to the row, and with two classes it is the binary
    logit z_1 - z_0. Exact for probabilities next to 1, where ln(1 - p) computed from p has no digits left.
    """
    log_p = torch.log_softmax(z.to(widest(z)), dim=1)
    top = log_p.argmax(dim=1, keepdim=True)
    # Every class but the largest has p of at most 1/2, where 1 - p is exact enough; the largest is 1 minus the others.
    others = log_p.scatter(1, top, -torch.inf)
    rest = torch.log1p(-others.exp())
    rest.scatter_(1, top, torch.logsumexp(others, dim=1, keepdim=True))
    # A masked class (-inf) keeps a finite place at the bottom; its only competitor one at the top.
    return (log_p - rest).clamp_(-1e30, 1e30)


def questions(num_classes: int) -> range:
    """The classes with a question of their own, "is it this one?": of two classes the second alone."""
    return range(1 if num_classes == 2 else 0, num_classes)


def joined(log_odds: torch.Tensor) -> torch.Tensor:
    """The log-odds of each question, (N, K) or (N, 1), as logits of all classes."""
    if log_odds.shape[1] == 1:
        return torch.cat([torch.zeros_like(log_odds), log_odds], dim=1)
    return normalised(torch.nn.functional.logsigmoid(log_odds))


def joined_shares(shares: torch.Tensor) -> torch.Tensor:
    """The probability of each question, (N, K) or (N, 1), as logits of all classes."""
    if shares.shape[1] == 1:
        return torch.cat([torch.log1p(-shares), torch.log(shares)], dim=1)
    return normalised(shares.log())


def normalised(log_q: torch.Tensor) -> torch.Tensor:
    """One-vs-rest log-probabilities (N, K) as logits; a row of zeros (all -inf) says nothing and becomes uniform."""
    return torch.where(torch.isneginf(log_q).all(dim=1, keepdim=True), torch.zeros_like(log_q), log_q)
