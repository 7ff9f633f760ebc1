"""Structured scaling: temperature scaling, then a regularised affine map of the log-probabilities."""

from __future__ import annotations

import torch

from .affine import Affine, MatrixScaling, VectorScaling


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

    def _tensors(self) -> dict[str, torch.Tensor]:
        numbers = {"temperature": self.temperature_, "uniform": self.uniform_}
        return {k: torch.tensor(v, dtype=torch.float64) for k, v in numbers.items()} | super()._tensors()


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

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        log_q = _log_mixture(z.to(tensors["scale"].dtype) / tensors["temperature"], tensors["uniform"])
        return log_q * tensors["scale"] + tensors["intercept"]


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

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        log_q = _log_mixture(z.to(tensors["matrix"].dtype) / tensors["temperature"], tensors["uniform"])
        return log_q @ tensors["matrix"].T + tensors["intercept"]


def _log_mixture(x: torch.Tensor, uniform: float | torch.Tensor) -> torch.Tensor:
    return torch.log((1.0 - uniform) * torch.softmax(x, dim=1) + uniform / x.shape[1])
