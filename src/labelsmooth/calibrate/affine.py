"""Vector, matrix and Dirichlet scaling: an affine map of the logits, or of the log-probabilities, fitted by L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from .base import Calibrator
from .temperature import TemperatureScaling

Floats = npt.NDArray[np.float64]


class VectorScaling(Calibrator):
    r"""A scale and a shift per class: softmax(a ⊙ z + b).

    .. math:: \min_{a, b} \frac1N \sum_i H(y_i, a \odot z_i + b)
              + \frac{\lambda}{2N} \Big( \sum_k (a_k T - 1)^2 + \sum_k b_k^2 \Big)

    The second term is a prior worth λ examples, centred on temperature scaling with the T of these data. It makes the
    problem strictly convex: a class without a label in the calibration set keeps a finite shift.

    Args:
        prior: λ > 0, 1.0 unless told.

    Attributes:
        scale_: a, (K,); intercept_: b, (K,).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(20_000, 3))
        >>> y = (z + [1.0, 0.0, -1.0] + rng.gumbel(size=z.shape)).argmax(1)
        >>> VectorScaling().fit(z, y).intercept_.round(1)
        array([ 1.,  0., -1.])

    Source: Guo et al. (2017).
    """

    scale_: Floats
    intercept_: Floats

    def __init__(self, prior: float = 1.0) -> None:
        self.prior = prior

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        _check_positive("prior", self.prior)
        z = _finite(z, type(self).__name__)
        beta = 1.0 / _temperature(z, y, w)
        weight = _weights(z, w)
        share = self.prior / (2.0 * float(weight.sum()))
        a, b = (torch.ones_like(z[0])).requires_grad_(), torch.zeros_like(z[0]).requires_grad_()

        def objective() -> torch.Tensor:
            fit = _cross_entropy(beta * a * z + b, y, weight)
            return fit + share * (((a - 1.0) ** 2).sum() + (b**2).sum())

        _minimise(objective, [a, b])
        self.scale_, self.intercept_ = _array(beta * a), _array(b - b.mean())

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"scale": torch.from_numpy(self.scale_), "intercept": torch.from_numpy(self.intercept_)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return z.to(tensors["scale"].dtype) * tensors["scale"] + tensors["intercept"]


class MatrixScaling(Calibrator):
    r"""A full affine map of the logits: softmax(W z + b), with off-diagonal and intercept regularisation (ODIR).

    .. math:: \min_{W, b} \frac1N \sum_i H(y_i, W z_i + b) + \frac{\lambda}{K(K-1)} \sum_{j \ne k} w_{jk}^2
              + \frac{\mu}{K} \sum_k b_k^2 + \frac{1}{2N} \sum_k (w_{kk} T - 1)^2

    The last term is a prior worth one example on the diagonal, which ODIR leaves free: separable data stay finite.

    Args:
        off_diagonal: λ > 0, and intercept: μ > 0. Their best values depend on the data; choose among a few decades
            by cross-validation, as the paper does.

    Attributes:
        matrix_: W, (K, K); intercept_: b, (K,).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 3))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> MatrixScaling().fit(3 * z, y).matrix_.shape
        (3, 3)

    Source: Guo et al. (2017); the regularisation: Kull et al. (2019).
    """

    matrix_: Floats
    intercept_: Floats

    def __init__(self, off_diagonal: float = 0.01, intercept: float = 0.01) -> None:
        self.off_diagonal = off_diagonal
        self.intercept = intercept

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        _check_positive("off_diagonal", self.off_diagonal)
        _check_positive("intercept", self.intercept)
        x = type(self)._inputs(_finite(z, type(self).__name__))
        beta = 1.0 / _temperature(x, y, w)
        weight, classes = _weights(x, w), x.shape[1]
        off, shift = self.off_diagonal / (classes * (classes - 1)), self.intercept / classes
        diagonal = torch.eye(classes, dtype=torch.bool, device=x.device)
        matrix = torch.eye(classes, dtype=x.dtype, device=x.device).requires_grad_()
        b = torch.zeros_like(x[0]).requires_grad_()

        def objective() -> torch.Tensor:
            outside = (beta * matrix).masked_select(~diagonal)
            prior = ((matrix.diagonal() - 1.0) ** 2).sum() / (2.0 * float(weight.sum()))
            fit = _cross_entropy(x @ (beta * matrix).T + b, y, weight)
            return fit + off * (outside**2).sum() + shift * (b**2).sum() + prior

        _minimise(objective, [matrix, b])
        self.matrix_, self.intercept_ = _array(beta * matrix), _array(b - b.mean())

    @staticmethod
    def _inputs(z: torch.Tensor) -> torch.Tensor:
        return z

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"matrix": torch.from_numpy(self.matrix_), "intercept": torch.from_numpy(self.intercept_)}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return z.to(tensors["matrix"].dtype) @ tensors["matrix"].T + tensors["intercept"]


class DirichletCalibration(MatrixScaling):
    r"""Matrix scaling of log-probabilities: softmax(W ln p + b), with ODIR; ln p = ln softmax(z).

    The map of one Dirichlet distribution per class. Unlike :class:`MatrixScaling` it does not change when a constant is
    added to a row of logits. Arguments, attributes and objective are :class:`MatrixScaling`'s, with ln p for z.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 3))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> fitted = DirichletCalibration().fit(z, y)
        >>> bool(abs(fitted.predict_proba(z + 7) - fitted.predict_proba(z)).max() < 1e-9)
        True

    Source: Kull et al. (2019).
    """

    @staticmethod
    def _inputs(z: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(z, dim=1)

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        log_p = torch.log_softmax(z.to(tensors["matrix"].dtype), dim=1)
        return log_p @ tensors["matrix"].T + tensors["intercept"]


def _check_positive(name: str, value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise ValueError(
            f"{name} must be a finite number above 0, not {value!r}; without it the answer need not exist."
        )


def _finite(z: torch.Tensor, name: str) -> torch.Tensor:
    if bool(torch.isneginf(z).any()):
        raise ValueError(f"{name} mixes or scales classes one by one and cannot take masked classes (-inf logits).")
    return z if z.device.type == "mps" else z.double()


def _temperature(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> float:
    # A starting point and a scale only: what is wrong with the data shows in the fit itself.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return TemperatureScaling().fit(z, y, w).temperature_


def _weights(z: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
    return torch.ones_like(z[:, 0]) if w is None else w.to(z.dtype)


def _cross_entropy(z: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    losses = torch.nn.functional.cross_entropy(z, y, reduction="none")
    return (weight * losses).sum() / weight.sum()


def _minimise(objective: Callable[[], torch.Tensor], parameters: list[torch.Tensor]) -> None:
    """L-BFGS with a strong-Wolfe search until the gradient is nothing; warn where it is not."""
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=1000, tolerance_grad=1e-8, tolerance_change=1e-14, line_search_fn="strong_wolfe"
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
        warnings.warn(f"The fit stopped with a gradient of {largest:.1e}, not at its minimum.", stacklevel=4)


def _array(value: torch.Tensor) -> Floats:
    array: Floats = value.detach().cpu().double().numpy()
    return array


def fold(calibrator: Calibrator, layer: torch.nn.Linear) -> torch.nn.Linear:
    r"""A new last layer whose logits are the calibrated ones: M(Wh + b) + c = (MW)h + (Mb + c).

    Args:
        calibrator: a fitted :class:`TemperatureScaling`, :class:`VectorScaling` or :class:`MatrixScaling`.
        layer: the ``nn.Linear`` (D → K) that made the logits the calibrator was fitted on; it is not changed.

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
    weight = layer.weight.detach().double()
    bias = None if layer.bias is None else layer.bias.detach().double()
    shift: torch.Tensor | None = None
    if isinstance(calibrator, TemperatureScaling):
        weight, bias = weight / calibrator.temperature_, None if bias is None else bias / calibrator.temperature_
    elif isinstance(calibrator, VectorScaling):
        scale = torch.from_numpy(calibrator.scale_).to(weight.device)
        weight, bias = scale[:, None] * weight, None if bias is None else scale * bias
        shift = torch.from_numpy(calibrator.intercept_).to(weight.device)
    elif isinstance(calibrator, MatrixScaling) and not isinstance(calibrator, DirichletCalibration):
        matrix = torch.from_numpy(calibrator.matrix_).to(weight.device)
        weight, bias = matrix @ weight, None if bias is None else matrix @ bias
        shift = torch.from_numpy(calibrator.intercept_).to(weight.device)
    else:
        raise TypeError(f"{type(calibrator).__name__} is not an affine map of logits; use to_module() after the layer.")
    if shift is not None:
        bias = shift if bias is None else bias + shift
    folded = torch.nn.Linear(layer.in_features, layer.out_features, bias=bias is not None)
    folded = folded.to(layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        folded.weight.copy_(weight)
        if bias is not None:
            folded.bias.copy_(bias)
    return folded
