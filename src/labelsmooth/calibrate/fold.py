"""Calibration folded into the last linear layer: the same network, calibrated, at no cost."""

from __future__ import annotations

import torch

from .base import Calibrator
from .linear import DirichletCalibration, MatrixScaling, VectorScaling
from .temperature import TemperatureScaling


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
