"""A model as one file for others: ONNX, TorchScript or PyTorch's pt2, calibrated, and checked before it is written."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labelsmooth.calibrate import Calibrator
from labelsmooth.errors import UserError
from labelsmooth.files import disk_errors, whole_file
from labelsmooth.models.formats import WRITERS, Run
from labelsmooth.models.model import Input, Model

__all__ = ["SUFFIXES", "TOLERANCE", "export"]

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}
TOLERANCE = 1e-4  # of a probability


def export(model: Model, path: str | os.PathLike[str], format: str | None = None, *, overwrite: bool = False) -> float:
    """Write a model as one file that needs nothing of labelsmooth.

    Normalisation and calibrator are in it.  It takes ``images``, uint8 [N, C, H, W] for any N, and gives
    ``probabilities`` and ``logits``, float32 [N, K]; the logits are calibrated, so that their softmax is the
    probabilities.  Integers from 0 to 255 leave no doubt about the scale, and floats are refused rather than
    misread.  The classes and the preprocessing are in the file's metadata, as JSON.

    What is written has been read back and run beside the model, for several N, on noise, flat images and smooth ones.

    Args:
        model: a loaded model.
        path: the file.
        format: "onnx", "torchscript" or "pt2"; None: by the suffix .onnx, .pt or .pt2.
        overwrite: replace a file that is there.

    Returns:
        The largest difference of a probability that was seen, at most 1e-4.

    Raises:
        UserError: no such format, the file exists, the format cannot express the network, or the exported model
            differs from it; then nothing is written.
    """
    path = Path(path)
    if format is None:
        format = next((name for name, suffix in SUFFIXES.items() if suffix == path.suffix.lower()), "")
        if not format:
            raise UserError(f"{path} ends in none of {', '.join(SUFFIXES.values())}; name the format.")
    if format not in WRITERS:
        raise UserError(f"format {format!r} is unknown; there are {', '.join(WRITERS)}.")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; choose another name, or replace it with --overwrite.")
    network = copy.deepcopy(model.network).cpu()
    module = Exported(network, model.calibrator).eval()
    reference = Model(model.classes, network, model.input, model.calibrator)
    content, run = WRITERS[format](module, torch.zeros((2, *model.input.shape), dtype=torch.uint8), _metadata(model))
    worst = _difference(reference, run)
    if not worst <= TOLERANCE:
        raise UserError(
            f"The {format} model differs from the network by {worst:.2g} in a probability, more than {TOLERANCE}: "
            f"{path} was not written. Try another --format, or other versions of torch and onnxruntime."
        )
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(content)
    return worst


class Exported(nn.Module):
    """uint8 images in, calibrated probabilities and logits out."""

    def __init__(self, network: nn.Module, calibrator: Calibrator | None) -> None:
        super().__init__()
        self.network = network
        self.function: Callable[..., Tensor] | None = None
        self.learnt: list[str] = []
        self.switches: dict[str, bool] = {}
        if calibrator is not None:
            layer = calibrator.to_module()
            self.function = layer.function
            for name in layer.names:
                value = getattr(layer, name)
                if value.dtype == torch.bool and value.ndim == 0:
                    self.switches[name] = bool(value)  # decides the path through the code: a graph has only one
                else:
                    self.learnt.append(name)
                    self.register_buffer(f"calibrator_{name}", value)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(images)
        if self.function is not None:
            learnt = {name: getattr(self, f"calibrator_{name}") for name in self.learnt}
            logits = self.function(logits, **learnt, **self.switches).float()
        return torch.softmax(logits, 1), logits


def _metadata(model: Model) -> dict[str, str]:
    from labelsmooth.models.preprocess import in_words

    values: dict[str, Any] = {
        "classes": list(model.classes),
        "preprocessing": in_words(model.input),
        "calibrator": None if model.calibrator is None else type(model.calibrator).__name__,
        "backbone": model.config.get("backbone"),
        "versions": model.config.get("versions"),
    }
    return {key: json.dumps(value) for key, value in values.items()}


def _difference(model: Model, run: Run) -> float:
    """The largest difference of a probability over the test images; NaN or wrong shapes count as infinite."""
    worst = 0.0
    for images in _test_images(model.input):
        expected = model.probabilities(images).numpy()
        probabilities, logits = run(images)
        for found in (probabilities, torch.softmax(torch.from_numpy(logits).double(), 1).numpy()):
            if found.shape != expected.shape:
                return float("inf")
            worst = max(worst, float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()))
    return worst


def _test_images(spec: Input) -> list[Tensor]:
    """Batches of 4, 1 and 3: noise, flat images, and smooth ones with edges, as photos are."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (4, *spec.shape), dtype=torch.uint8, generator=random)
    flat = torch.full((1, *spec.shape), 255, dtype=torch.uint8)
    coarse = torch.rand((3, spec.channels, 4, 4), generator=random)
    smooth = nn.functional.interpolate(coarse, spec.shape[1:], mode="bilinear", align_corners=True)
    smooth[..., spec.width // 2 :] *= 0.5
    return [noise, flat, (smooth * 255).to(torch.uint8)]
