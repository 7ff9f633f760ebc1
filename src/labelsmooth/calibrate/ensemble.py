"""Ensemble temperature scaling: a mixture of the tempered, the untouched and the uniform prediction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .affine import fitted_temperature
from .base import Calibrator


class EnsembleTemperatureScaling(Calibrator):
    r"""A convex mixture of three predictions: w₁ softmax(z / T) + w₂ softmax(z) + w₃ / K.

    T is that of temperature scaling. The weights then minimise the NLL, a convex problem on the triangle, by
    expectation-maximisation, which never leaves it. The order of the classes in a row stays as it was.

    Attributes:
        temperature_: T; weights_: w, (3,), at least 0 and summing to 1.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(5_000, 4))
        >>> y = np.where(rng.random(5_000) < 0.3, rng.integers(0, 4, 5_000), (4 * z).argmax(1))
        >>> ensemble = EnsembleTemperatureScaling().fit(10 * z, y)  # right 70% of the time, else a coin
        >>> bool(0.2 < ensemble.weights_[2] < 0.35)
        True

    Source: Zhang, Kailkhura and Han (2020).
    """

    temperature_: float
    weights_: npt.NDArray[np.float64]

    def __init__(self) -> None:
        pass

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        self.temperature_ = fitted_temperature(z, y, w)
        wide = z if z.device.type == "mps" else z.double()
        at = y[:, None]
        parts = [
            torch.softmax(wide / self.temperature_, dim=1).gather(1, at),
            torch.softmax(wide, dim=1).gather(1, at),
            torch.full_like(wide[:, :1], 1.0 / z.shape[1]),
        ]
        likelihood = torch.cat(parts, dim=1)
        share = torch.ones_like(wide[:, 0]) if w is None else w.to(wide.dtype)
        self.weights_ = _mixture(likelihood, share / share.sum()).cpu().double().numpy()

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        return {"temperature_": (), "weights_": (3,)}

    def _tensors(self) -> dict[str, torch.Tensor]:
        temperature = torch.tensor(self.temperature_, dtype=torch.float64)
        return {"temperature": temperature, "weights": torch.from_numpy(self.weights_)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        weights = tensors["weights"]
        z = z.to(weights.dtype)
        p = weights[0] * torch.softmax(z / tensors["temperature"], dim=1) + weights[1] * torch.softmax(z, dim=1)
        return torch.log(p + weights[2] / z.shape[1])


def _mixture(likelihood: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Weights (3,) of the mixture with the greatest mean log-likelihood; likelihood (N, 3), share (N,) summing to 1."""
    weights = torch.full_like(likelihood[0], 1.0 / likelihood.shape[1])
    for _ in range(5000):
        ratio = share @ (likelihood / (likelihood @ weights)[:, None])
        weights = weights * ratio
        weights = weights / weights.sum()
        # At the optimum every ratio is at most 1: the gap bounds how much mean log-likelihood is left to gain.
        if float(ratio.max()) - 1.0 < 1e-6:
            break
    return weights
