"""A trained classifier in memory: its classes, its network, the images that it takes, and its calibrator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from labelsmooth.calibrate import Calibrator
from labelsmooth.data.photos import pillow_quiet
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.models.held_out import HeldOut
from labelsmooth.models.predict import Prediction, predict
from labelsmooth.models.preprocess import Input
from labelsmooth.training.head import features_of
from labelsmooth.training.network import Network


@dataclass(frozen=True, repr=False)
class Model:
    """A trained classifier.

    Args:
        classes: the names of the K classes, in the order of the probabilities.
        network: uint8 images in, logits out; in evaluation mode.
        input: the images that the network takes.
        calibrator: applied to the logits; None leaves them as they are.
        config: the content of ``config.json``.
        bfloat16: compute the network in bfloat16 (faster on processors that have it, about three digits).
        held_out: what it knows of images that it was not trained on, for prediction sets and the mark ``unlike``.
    """

    classes: tuple[str, ...]
    network: Network
    input: Input
    calibrator: Calibrator | None = None
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    bfloat16: bool = False
    held_out: HeldOut | None = None

    def __repr__(self) -> str:
        backbone = self.config.get("backbone", type(self.network.model).__name__)
        calibrator = "no calibrator" if self.calibrator is None else repr(self.calibrator)
        shape = " x ".join(map(str, self.input.shape))
        return f"Model({backbone}, {len(self.classes)} classes, images of {shape}, {calibrator})"

    def logits(self, images: Tensor) -> Tensor:
        """The network's logits of images, before the calibrator.

        Args:
            images: [N, C, H, W] uint8, of the shape that ``input`` gives.

        Returns:
            [N, K] float32 on the CPU.

        Raises:
            UserError: images of another type or shape, or logits that are not finite.
        """
        return self.outputs(images)[0]

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits of images as :meth:`logits` gives them, and the inputs [N, D] of the network's last layer."""
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != self.input.shape:
            expected = ", ".join(str(length) for length in self.input.shape)
            raise UserError(
                f"images is {images.dtype} of shape {tuple(images.shape)}; this model takes torch.uint8 of shape "
                f"(N, {expected}). labelsmooth.models.preprocess makes one of a Pillow image."
            )
        device = self.network.mean.device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, features = features_of(self.network.head, lambda: self.network(images.to(device)).float().cpu())
        if not bool(torch.isfinite(logits).all()):
            raise UserError("The network's logits are not finite: its weights are damaged; train it again.")
        return logits, features

    def calibrated(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities [N, K] of the network's logits, in float64."""
        if self.calibrator is None:
            return torch.softmax(logits.double(), 1)
        probabilities: Tensor = self.calibrator.predict_proba(logits.double())
        return probabilities

    def probabilities(self, images: Tensor) -> Tensor:
        """Calibrated probabilities of uint8 images.

        Args:
            images: [N, C, H, W] uint8, of the shape that ``input`` gives.

        Returns:
            [N, K] float64 on the CPU, each row summing to 1.

        Raises:
            UserError: images of another type or shape.
        """
        return self.calibrated(self.logits(images))

    def predict(
        self, paths: StrPath | Iterable[StrPath], top: int = 1, *, sets: float | None = None, unlike: float = 0.01
    ) -> list[Prediction]:
        """Predict image files, and every image in a folder.

        Args:
            paths: files and folders, or one of them.
            top: the number of classes of each image, the most probable first.
            sets, unlike: as in :func:`labelsmooth.models.predict`.

        Returns:
            One :class:`Prediction` for each image, in order; ``error`` says why a file could not be read.
        """
        with pillow_quiet():
            return list(predict(self, paths, top, sets=sets, unlike=unlike))
