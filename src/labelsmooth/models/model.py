"""A trained classifier in memory: what it takes, its classes, its network and its calibrator."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labelsmooth.calibrate import Calibrator
from labelsmooth.errors import UserError
from labelsmooth.training.network import Network

if TYPE_CHECKING:
    from labelsmooth.models.predict import Prediction

__all__ = ["Input", "Model"]


@dataclass(frozen=True)
class Input:
    """What a network takes: uint8 images [N, ``channels``, ``height``, ``width``].

    ``size`` is for photos, whose short side is scaled to size / 0.875; ``height`` x ``width`` is then the square that
    is cropped from the middle.  None is for small images, which are resized to ``height`` x ``width`` as a whole.
    """

    channels: int
    height: int
    width: int
    size: int | None = None

    @classmethod
    def photo(cls, size: int, crop: int | None = None) -> Input:
        """RGB photos, cropped to a square of side ``crop``, by default ``size``."""
        return cls(3, crop or size, crop or size, size)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


@dataclass(frozen=True)
class Model:
    """A trained classifier.

    Args:
        classes: the names of the K classes, in the order of the probabilities.
        network: uint8 images in, logits out; in evaluation mode.
        input: the images that the network takes.
        calibrator: applied to the logits; None leaves them as they are.
        config: everything that ``config.json`` says.
        bfloat16: compute the network in bfloat16 (faster on processors that have it, about three digits).
    """

    classes: tuple[str, ...]
    network: Network
    input: Input
    calibrator: Calibrator | None = None
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    bfloat16: bool = False

    def logits(self, images: Tensor) -> Tensor:
        """The network's logits of uint8 images [N, C, H, W], before the calibrator: [N, K] float32 on the CPU.

        Raises:
            UserError: images of another type or shape, or logits that are not finite.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != self.input.shape:
            expected = ", ".join(str(length) for length in self.input.shape)
            raise UserError(
                f"images is {images.dtype} of shape {tuple(images.shape)}; this model takes torch.uint8 of shape "
                f"(N, {expected}). labelsmooth.models.preprocess.preprocess makes that of a Pillow image."
            )
        device = self.network.mean.device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            logits: Tensor = self.network(images.to(device)).float().cpu()
        if not bool(torch.isfinite(logits).all()):
            raise UserError("The network gave logits that are not finite: its weights are damaged; train it again.")
        return logits

    def calibrated(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities [N, K] of the network's logits, in float64."""
        if self.calibrator is None:
            return torch.softmax(logits.double(), 1)
        probabilities: Tensor = self.calibrator.predict_proba(logits.double())
        return probabilities

    def probabilities(self, images: Tensor) -> Tensor:
        """Calibrated probabilities of uint8 images.

        Args:
            images: [N, C, H, W] uint8, of the shape that ``input`` says.

        Returns:
            [N, K] float64 on the CPU, each row summing to 1.

        Raises:
            UserError: images of another type or shape.
        """
        return self.calibrated(self.logits(images))

    def predict(
        self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], top: int = 1
    ) -> list[Prediction]:
        """Predict image files, and every image in a folder.

        Args:
            paths: files and folders, or one of them.
            top: how many classes of each image to keep, the most probable first.

        Returns:
            One :class:`Prediction` for each image, in order; where a file cannot be read its ``error`` says why.
        """
        from labelsmooth.data.photos import pillow_quiet
        from labelsmooth.models.predict import predict

        with pillow_quiet():
            return list(predict(self, paths, top=top))
