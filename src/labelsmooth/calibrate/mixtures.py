"""Mixtures with the uniform prediction: ensemble temperature scaling, and structured scaling on top of one."""

from __future__ import annotations

import torch

from labelsmooth.calibrate.affine import Affine, MatrixScaling, VectorScaling, fitted_temperature, mapped
from labelsmooth.calibrate.base import Calibrator
from labelsmooth.calibrate.temperature import PRIOR
from labelsmooth.metrics.rows import Floats, float64, widest


class _Structured(Affine):
    """The first stage: temperature scaling with a uniform share, whose logarithm the map is fitted to."""

    temperature_: float
    uniform_: float

    def _prepared(
        self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        x, weight, self.temperature_ = super()._prepared(z, y, w)
        self.uniform_ = 1.0 / (float(weight.sum()) + 1.0)
        return _log_mixture(x, self.uniform_), weight, 1.0

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        return {"temperature_": (), "uniform_": ()} | super()._shapes(num_classes)

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        x = z.to(tensors["intercept"].dtype) / tensors["temperature"]
        return mapped(_log_mixture(x, tensors["uniform"]), tensors)


class StructuredVectorScaling(_Structured, VectorScaling):
    r"""Temperature scaling, then a scale and a shift of each class's log-probability (SVS).

    .. math:: q = \tfrac{N}{N+1} \operatorname{softmax}(z / T) + \tfrac{1}{N+1} \tfrac1K, \qquad
              \hat p = \operatorname{softmax}(a \odot \ln q + b)

    T is that of :class:`TemperatureScaling`; the uniform share keeps ln q finite.  a and b minimise the objective of
    :class:`VectorScaling` with q's logarithm as the logits and T = 1.

    Args:
        strength: λ > 0.

    Attributes:
        temperature_: T; uniform_: 1 / (N + 1); scale_: a, (K,); intercept_: b, (K,).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(20_000, 3))
        >>> y = (z + [1.0, 0.0, -1.0] + rng.gumbel(size=z.shape)).argmax(1)
        >>> fitted = StructuredVectorScaling().fit(2 * z, y)
        >>> fitted.predict_proba(np.zeros((1, 3))).round(2)  # e / (e + 1 + 1/e)
        array([[0.66, 0.25, 0.09]])

    Source: Berta, Holzmüller, Jordan and Bach (2025).
    """


class StructuredMatrixScaling(_Structured, MatrixScaling):
    r"""Temperature scaling, then a full affine map of the log-probabilities (SMS).

    As :class:`StructuredVectorScaling`, with a matrix for the scales and the objective of :class:`MatrixScaling`.

    Args:
        strength: λ > 0.

    Attributes:
        temperature_: T; uniform_: 1 / (N + 1); matrix_: W, (K, K); intercept_: b, (K,).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 3))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> StructuredMatrixScaling().fit(3 * z, y).matrix_.shape
        (3, 3)

    Source: Berta, Holzmüller, Jordan and Bach (2025).
    """


def _log_mixture(x: torch.Tensor, uniform: float | torch.Tensor) -> torch.Tensor:
    return torch.log((1.0 - uniform) * torch.softmax(x, dim=1) + uniform / x.shape[1])


class EnsembleTemperatureScaling(Calibrator):
    r"""A convex mixture of three predictions: w₁ softmax(z / T) + w₂ softmax(z) + w₃ / K.

    T is that of temperature scaling. The weights then minimise the NLL, a convex problem on the triangle, by
    expectation-maximisation, which never leaves it. The order of the classes in a row stays as it was.

    Args:
        prior: of ln T, as for :class:`TemperatureScaling`.

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
    weights_: Floats

    def __init__(self, prior: float = PRIOR) -> None:
        self.prior = prior

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        self.temperature_ = fitted_temperature(z, y, w, self.prior)
        wide = z.to(widest(z))
        at = y[:, None]
        parts = [
            torch.softmax(wide / self.temperature_, dim=1).gather(1, at),
            torch.softmax(wide, dim=1).gather(1, at),
            torch.full_like(wide[:, :1], 1.0 / z.shape[1]),
        ]
        likelihood = torch.cat(parts, dim=1)
        share = torch.ones_like(wide[:, 0]) if w is None else w.to(wide.dtype)
        self.weights_ = float64(_mixture(likelihood, share / share.sum()))

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        return {"temperature_": (), "weights_": (3,)}

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
