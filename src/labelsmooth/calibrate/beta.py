"""Beta calibration: a logistic regression on ln p and ln(1 - p), so that the identity is among its maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .base import Calibrator
from .scores import binary_logits, log_odds, normalised


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

    coefficients_: npt.NDArray[np.float64]

    def __init__(self) -> None:
        pass

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        scores = log_odds(z)
        weight = torch.ones_like(scores[:, 0]) if w is None else w.to(scores.dtype)
        classes = [1] if z.shape[1] == 2 else range(z.shape[1])
        rows = [_fit_one(_features(scores[:, k]), (y == k).to(scores.dtype), weight) for k in classes]
        self.coefficients_ = torch.stack(rows).cpu().double().numpy()

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"coefficients": torch.from_numpy(self.coefficients_)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        scores = log_odds(z)
        scores = scores[:, 1:] if z.shape[1] == 2 else scores
        logit = (_features(scores) * tensors["coefficients"]).sum(dim=-1)
        return binary_logits(logit[:, 0]) if z.shape[1] == 2 else normalised(torch.nn.functional.logsigmoid(logit))


def _features(s: torch.Tensor) -> torch.Tensor:
    """ln p, -ln(1 - p) and 1 from the log-odds s."""
    softplus = torch.nn.functional.softplus
    return torch.stack([-softplus(-s), softplus(s), torch.ones_like(s)], dim=-1)


def _fit_one(x: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(a, b, c) of one question, with a and b at least 0."""
    free = [True, True, True]
    while True:
        coefficients = _newton(x, positive, weight, free)
        negative = [j for j in (0, 1) if coefficients[j] < 0]
        if not negative:
            return coefficients
        free[min(negative, key=lambda j: float(coefficients[j]))] = False


def _newton(x: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor, free: list[bool]) -> torch.Tensor:
    """Minimise Σ w·log-loss + |coefficients - identity|² / 2 over the free coefficients; the others are 0."""
    at = torch.tensor(free, device=x.device)
    identity = torch.tensor([1.0, 1.0, 0.0], dtype=x.dtype, device=x.device)
    theta = torch.where(at, identity, torch.zeros_like(identity))

    def loss(value: torch.Tensor) -> torch.Tensor:
        t = x @ value
        fit = (weight * (torch.nn.functional.softplus(t) - positive * t)).sum()
        return fit + 0.5 * ((value - identity)[at] ** 2).sum()

    current = loss(theta)
    for _ in range(100):
        p = torch.sigmoid(x @ theta)
        gradient = (x.T @ (weight * (p - positive)) + theta - identity)[at]
        hessian = x.T @ (x * (weight * p * (1.0 - p))[:, None]) + torch.eye(3, dtype=x.dtype, device=x.device)
        step = torch.zeros_like(theta)
        step[at] = torch.linalg.solve(hessian[at][:, at], gradient)
        decrease = float(gradient @ step[at])
        size = 1.0
        while size > 1e-12 and loss(theta - size * step) > current - 1e-4 * size * decrease + 1e-12 * abs(current):
            size /= 2.0
        theta = theta - size * step
        current = loss(theta)
        if decrease <= 1e-12 * max(1.0, float(weight.sum())):
            break
    return theta
