"""Export of a model with its calibrator to one ONNX, TorchScript or pt2 file, checked before it is written."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from labelsmooth.calibrate import Calibrator
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath, write_bytes
from labelsmooth.models.formats import WRITERS, Run
from labelsmooth.models.model import Model
from labelsmooth.models.preprocess import Input, in_words

Format: TypeAlias = Literal["onnx", "torchscript", "pt2"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}
TOLERANCE = 1e-4  # of a probability
COVERAGES = (0.8, 0.9, 0.95, 0.99)


def export(model: Model, path: StrPath, format: Format | None = None, *, overwrite: bool = False) -> float:
    """Write a model as one file that runs without labelsmooth, normalisation and calibrator included.

    The exported model takes ``images``, uint8 [N, C, H, W] for any N, and returns ``probabilities`` and ``logits``,
    float32 [N, K]; the logits are calibrated: their softmax is the probabilities.  Floats are refused, since their
    scale would be ambiguous.  The classes, the preprocessing and the thresholds of prediction sets are in the file's
    metadata, as JSON.

    The exported model is read back and compared with the model on batches of several sizes before the file is written.

    Args:
        model: a loaded model.
        path: the file.
        format: "onnx", "torchscript" or "pt2"; by default from the suffix .onnx, .pt or .pt2.
        overwrite: replace an existing file.

    Returns:
        The largest difference of a probability, at most 1e-4.

    Raises:
        UserError: an unknown format, an existing file, a network that the format cannot express, or an exported model
            that differs from it; then nothing is written.
    """
    path = Path(path)
    if format is None:
        format = next((name for name, suffix in SUFFIXES.items() if suffix == path.suffix.lower()), None)
        if format is None:
            raise UserError(f"{path} has none of the suffixes {', '.join(SUFFIXES.values())}; give the format.")
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
    write_bytes(path, content)
    return worst


class Exported(nn.Module):
    """uint8 images in, calibrated probabilities and logits out."""

    def __init__(self, network: nn.Module, calibrator: Calibrator | None) -> None:
        super().__init__()
        self.network = network
        self.calibrator = nn.Identity() if calibrator is None else calibrator.to_module()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.calibrator(self.network(images))
        return torch.softmax(logits, 1), logits


def _metadata(model: Model) -> dict[str, str]:
    values: dict[str, Any] = {
        "classes": list(model.classes),
        "preprocessing": in_words(model.input),
        "calibrator": None if model.calibrator is None else type(model.calibrator).__name__,
        "prediction_sets": _sets(model),
        "backbone": model.config.get("backbone"),
        "versions": model.config.get("versions"),
    }
    return {key: json.dumps(value) for key, value in values.items()}


def _sets(model: Model) -> dict[str, Any] | None:
    """The least probability of a class in a set, by the probability that the set holds the label."""
    if model.held_out is None:
        return None
    thresholds = {}
    for coverage in COVERAGES:
        with contextlib.suppress(UserError):  # too few images for it
            thresholds[str(coverage)] = 1 - float(model.held_out.sets(coverage).threshold_[0])
    rule = "the classes with at least this probability; if there is none, the most probable"
    return {"rule": rule, "thresholds": thresholds}


def _difference(model: Model, run: Run) -> float:
    """The largest difference of a probability over the test images; NaN or wrong shapes count as infinite."""
    worst = 0.0
    for images in _test_images(model.input):
        expected = model.probabilities(images).numpy()
        probabilities, logits = run(images)
        for exported in (probabilities, torch.softmax(torch.from_numpy(logits).double(), 1).numpy()):
            if exported.shape != expected.shape:
                return float("inf")
            worst = max(worst, float(np.nan_to_num(np.abs(exported - expected), nan=np.inf).max()))
    return worst


def _test_images(spec: Input) -> list[Tensor]:
    """Batches of 4, 1 and 3 images: noise, a flat image, and smooth images with edges."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (4, *spec.shape), dtype=torch.uint8, generator=random)
    flat = torch.full((1, *spec.shape), 255, dtype=torch.uint8)
    coarse = torch.rand((3, spec.channels, 4, 4), generator=random)
    smooth = nn.functional.interpolate(coarse, spec.shape[1:], mode="bilinear", align_corners=True)
    smooth[..., spec.width // 2 :] *= 0.5
    return [noise, flat, (smooth * 255).to(torch.uint8)]
