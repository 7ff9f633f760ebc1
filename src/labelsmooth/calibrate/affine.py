"""Vector, matrix and Dirichlet scaling: regularised affine maps of logits or log-probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch

from labelsmooth.calibrate.base import Calibrator
from labelsmooth.calibrate.temperature import PRIOR, TemperatureScaling
from labelsmooth.metrics.rows import Floats, float64, widest


class Affine(Calibrator):
    """A regularised affine map: of each class by itself, with scales (K,), or of all together, with a matrix (K, K)."""

    linear: ClassVar[Literal["scale_", "matrix_"]]
    intercept_: Floats

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        x, weight, temperature = self._prepared(z, y, w)
        linear, shift = _regularised(x, y, weight, self.strength, full=self.linear == "matrix_")
        setattr(self, self.linear, float64(linear / temperature))
        self.intercept_ = float64(shift)

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        shape = (num_classes, num_classes) if self.linear == "matrix_" else (num_classes,)
        return {self.linear: shape, "intercept_": (num_classes,)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return mapped(z, tensors)

    def _prepared(
        self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """What the map is fitted to: logits at the right temperature, weights, and the temperature to put back."""
        if not 0.0 < self.strength < float("inf"):
            raise ValueError(f"strength must be a finite number above 0, not {self.strength!r}.")
        if bool(torch.isneginf(z).any()):
            raise ValueError(
                f"{type(self).__name__} scales or mixes classes and cannot take masked classes (-inf logits)."
            )
        z = z.to(widest(z))
        temperature = fitted_temperature(z, y, w)
        weight = torch.ones_like(z[:, 0]) if w is None else w.to(z.dtype)
        return z / temperature, weight, temperature


class VectorScaling(Affine):
    r"""A scale and a shift per class: softmax(a ⊙ z + b).

    .. math:: \min_{a, b} \frac1N \sum_i H(y_i, a \odot z_i + b)
              + \lambda \frac{K}{N} \Big( \sum_k (a_k T - 1)^2 + \sum_k b_k^2 \Big)

    T is that of :class:`TemperatureScaling` on the same rows.  The second term pulls towards it, more so the more
    classes share the rows: the strength is that of structured vector scaling, of which this is the form whose map is
    affine in the logits, so that :func:`fold` can put it into the last layer.

    Args:
        strength: λ > 0.

    Attributes:
        scale_: a, (K,); intercept_: b, (K,).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(20_000, 3))
        >>> y = (z + [1.0, 0.0, -1.0] + rng.gumbel(size=z.shape)).argmax(1)
        >>> VectorScaling().fit(z, y).intercept_.round(1)
        array([ 1.,  0., -1.])

    Source: Guo et al. (2017); the regularisation: Berta et al. (2025).
    """

    linear = "scale_"
    scale_: Floats


class MatrixScaling(Affine):
    r"""A full affine map of the logits: softmax(W z + b).

    .. math:: \min_{W, b} \frac1N \sum_i H(y_i, W z_i + b) + \frac{\lambda}{N} \Big( K \sum_k (w_{kk} T - 1)^2
              + K (K - 1) \sum_{j \ne k} (w_{jk} T)^2 + K \sum_k b_k^2 \Big)

    The strengths are those of structured matrix scaling, of which this is the form that :func:`fold` can put into the
    last layer: they pull towards temperature scaling with the T of these rows.

    Args:
        strength: λ > 0.

    Attributes:
        matrix_: W, (K, K); intercept_: b, (K,).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 3))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> MatrixScaling().fit(3 * z, y).matrix_.shape
        (3, 3)

    Source: Guo et al. (2017); the regularisation: Berta et al. (2025).
    """

    linear = "matrix_"
    matrix_: Floats


class DirichletCalibration(MatrixScaling):
    r"""Matrix scaling of log-probabilities: softmax(W ln p + b), p = softmax(z).

    The map of one Dirichlet distribution per class.  Unlike :class:`MatrixScaling` it does not change when a constant
    is added to a row of logits.  Argument, attributes and objective are :class:`MatrixScaling`'s, with ln p for z.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 3))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> fitted = DirichletCalibration().fit(z, y)
        >>> bool(abs(fitted.predict_proba(z + 7) - fitted.predict_proba(z)).max() < 1e-9)
        True

    Source: Kull et al. (2019); the regularisation: Berta et al. (2025).
    """

    def _prepared(
        self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        return super()._prepared(torch.log_softmax(z, dim=1), y, w)

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return mapped(torch.log_softmax(z.to(tensors["matrix"].dtype), dim=1), tensors)


def fold(calibrator: Calibrator, layer: torch.nn.Linear) -> torch.nn.Linear:
    r"""A new last layer whose logits are the calibrated ones: M(Wh + b) + c = (MW)h + (Mb + c).

    Args:
        calibrator: a fitted :class:`TemperatureScaling`, :class:`VectorScaling` or :class:`MatrixScaling`.
        layer: the ``nn.Linear`` (D → K) whose logits the calibrator was fitted on; it is not changed.

    Returns:
        An ``nn.Linear`` of the same shape, dtype and device (with a bias where the calibrator has shifts).

    Raises:
        TypeError: for a calibrator that is not an affine map of logits.
        ValueError: where the layer has another number of outputs.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> layer, h = torch.nn.Linear(8, 3), torch.randn(100, 8)
        >>> fitted = TemperatureScaling().fit(layer(h), layer(h + torch.randn(100, 8)).argmax(1))
        >>> torch.allclose(fold(fitted, layer)(h), fitted.transform(layer(h)), atol=1e-6)
        True
    """
    calibrator._check_fitted()
    if layer.out_features != calibrator.n_classes_:
        raise ValueError(f"layer has {layer.out_features} outputs, the calibrator {calibrator.n_classes_} classes.")
    shift: Floats | None = None
    if type(calibrator) is TemperatureScaling:
        matrix = np.eye(calibrator.n_classes_) / calibrator.temperature_
    elif type(calibrator) is VectorScaling:
        matrix, shift = np.diag(calibrator.scale_), calibrator.intercept_
    elif type(calibrator) is MatrixScaling:
        matrix, shift = calibrator.matrix_, calibrator.intercept_
    else:
        raise TypeError(f"{type(calibrator).__name__} is not an affine map of logits; use to_module() after the layer.")
    weight = layer.weight.detach()
    m = torch.from_numpy(matrix).to(weight.device)
    bias = None if layer.bias is None else m @ layer.bias.detach().double()
    if shift is not None:
        c = torch.from_numpy(shift).to(weight.device)
        bias = c if bias is None else bias + c
    folded = torch.nn.Linear(layer.in_features, layer.out_features, bias=bias is not None)
    folded = folded.to(weight.device, weight.dtype)
    with torch.no_grad():
        folded.weight.copy_(m @ weight.double())
        if bias is not None:
            folded.bias.copy_(bias)
    return folded


def mapped(x: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The affine map of scores (N, K)."""
    x = x.to(tensors["intercept"].dtype)
    moved = x * tensors["scale"] if "scale" in tensors else x @ tensors["matrix"].T
    return moved + tensors["intercept"]


def fitted_temperature(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, prior: float = PRIOR) -> float:
    """T as a starting point and a scale: what is wrong with the data shows in the fit itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return TemperatureScaling(prior).fit(z, y, w).temperature_


def _regularised(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, strength: float, full: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales (K,) or a matrix (K, K), and shifts (K,), that minimise the regularised cross-entropy of the map of x."""
    rows, classes = float(weight.sum()), x.shape[1]
    linear = strength * classes / rows
    delta = torch.zeros((classes, classes) if full else (classes,), dtype=x.dtype, device=x.device).requires_grad_()
    shift = torch.zeros(classes, dtype=x.dtype, device=x.device).requires_grad_()
    penalties = torch.full_like(delta, linear)
    if full:
        penalties *= classes - 1
        penalties.fill_diagonal_(linear)

    def objective() -> torch.Tensor:
        moved = x @ delta.T if full else x * delta
        losses = torch.nn.functional.cross_entropy(x + moved + shift, y, reduction="none")
        penalty = (penalties * delta**2).sum() + linear * (shift**2).sum()
        return (weight * losses).sum() / rows + penalty

    _minimise(objective, [delta, shift])
    identity = torch.eye(classes, dtype=x.dtype, device=x.device) if full else torch.ones_like(shift)
    return identity + delta.detach(), shift.detach() - shift.detach().mean()


def _minimise(objective: Callable[[], torch.Tensor], parameters: list[torch.Tensor]) -> None:
    """L-BFGS with a strong-Wolfe line search; warns where the gradient does not vanish."""
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=1000, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call]
        closure()
    largest = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
    if not largest < 1e-4:
        warnings.warn(f"The fit stopped with a gradient of {largest:.1e}, not at its minimum.", stacklevel=5)
