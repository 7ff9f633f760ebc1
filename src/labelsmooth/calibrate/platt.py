"""Platt scaling: a logistic regression on each class's log-odds, binary or one-vs-rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .base import Calibrator
from .scores import binary_logits, log_odds, normalised

# float64 elements of scores held at once while fitting.
_CHUNK_ELEMENTS = 1 << 24


class PlattScaling(Calibrator):
    r"""Logistic regression of "is the label k" on the log-odds of class k, then normalised over the classes.

    .. math:: q_k = \sigma(a_k s_k + b_k), \quad s_k = \ln\frac{p_k}{1 - p_k}, \quad \hat p_k = q_k / \sum_j q_j

    With two classes there is one regression, on s = z_1 - z_0. Targets are Platt's, (n₊ + 1)/(n₊ + 2) and
    1/(n₋ + 2) rather than 1 and 0, which keeps the answer finite on separable data (sample weights count as repetitions
    there). Each class is a convex problem in two variables, solved by damped Newton steps, all classes together.

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

    slope_: npt.NDArray[np.float64]
    intercept_: npt.NDArray[np.float64]

    def __init__(self) -> None:
        pass

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        scores = log_odds(z)
        classes = [1] if z.shape[1] == 2 else list(range(z.shape[1]))
        weight = torch.ones_like(scores[:, 0]) if w is None else w.to(scores.dtype)
        parts = []
        step = max(1, _CHUNK_ELEMENTS // len(y))
        for start in range(0, len(classes), step):
            chosen = torch.tensor(classes[start : start + step], device=z.device)
            parts.append(_regress(scores[:, chosen], y[:, None] == chosen, weight))
        slope, intercept = torch.cat(parts, dim=1).cpu().double().numpy()
        self.slope_, self.intercept_ = slope, intercept

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"slope": torch.from_numpy(self.slope_), "intercept": torch.from_numpy(self.intercept_)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        scores = log_odds(z)
        if z.shape[1] == 2:
            return binary_logits(tensors["slope"] * scores[:, 1] + tensors["intercept"])
        return normalised(torch.nn.functional.logsigmoid(tensors["slope"] * scores + tensors["intercept"]))


def _regress(scores: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Slopes and intercepts (2, C) of C logistic regressions on (N, C) scores, by Newton steps with halving."""
    weight = weight[:, None]
    n_positive = (weight * positive).sum(0)
    n_negative = weight.sum() - n_positive
    target = torch.where(positive, (n_positive + 1.0) / (n_positive + 2.0), 1.0 / (n_negative + 2.0))
    # Centred and scaled scores make the 2 x 2 systems well conditioned, whatever the logits' scale.
    mean = (weight * scores).sum(0) / weight.sum()
    deviation = ((weight * (scores - mean) ** 2).sum(0) / weight.sum()).sqrt()
    spread = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    x = (scores - mean) / spread

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        t = a * x + b
        return (weight * (torch.nn.functional.softplus(t) - target * t)).sum(0)

    prior = (weight * target).sum(0) / weight.sum()
    a, b = torch.zeros_like(mean), torch.log(prior / (1.0 - prior))
    value = loss(a, b)
    for _ in range(100):
        p = torch.sigmoid(a * x + b)
        residual, curvature = weight * (p - target), weight * p * (1.0 - p)
        ga, gb = (residual * x).sum(0), residual.sum(0)
        haa, hab, hbb = (curvature * x * x).sum(0), (curvature * x).sum(0), curvature.sum(0)
        haa, hbb = haa + 1e-12 * weight.sum(), hbb + 1e-12 * weight.sum()
        determinant = haa * hbb - hab * hab
        da, db = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        size = torch.ones_like(a)
        decrease = ga * da + gb * db
        for _ in range(40):
            trial = loss(a - size * da, b - size * db)
            good = trial <= value - 1e-4 * size * decrease + 1e-12 * value.abs()
            if bool(good.all()):
                break
            size = torch.where(good, size, size / 2.0)
        a, b, value = a - size * da, b - size * db, torch.minimum(trial, value)
        if float((decrease / weight.sum()).max()) < 1e-16:
            break
    slope = torch.where(deviation > 0, a / spread, torch.zeros_like(a))
    return torch.stack([slope, b - slope * mean])
