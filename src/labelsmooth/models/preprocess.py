"""From an image file to the network's input, by the rules of training."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labelsmooth.data.photos import center_crop, decode, read_image, read_photo, short_side, upright_rgb

THUMBNAIL = 160  # pixels of the longer side


@dataclass(frozen=True)
class Input:
    """The images that a network takes: uint8 [N, ``channels``, ``height``, ``width``].

    ``size`` is for photos: their short side is scaled to size / 0.875, and the middle ``height`` x ``width`` is
    cropped.  It is None for small images, which are resized to ``height`` x ``width``.
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


def preprocess(image: Image.Image, spec: Input) -> Tensor:
    """One image as the network takes it.

    The short side of a photo is scaled to size / 0.875 and the middle square is cropped.  A small image is converted to
    grey if the network takes one channel, and resized to the network's height and width.

    Args:
        image: any Pillow image.
        spec: the images that the network takes.

    Returns:
        uint8 [C, H, W].

    Example:
        >>> preprocess(Image.new("RGB", (640, 480)), Input.photo(224)).shape
        torch.Size([3, 224, 224])
        >>> preprocess(Image.new("RGB", (28, 28)), Input(1, 8, 8)).shape
        torch.Size([1, 8, 8])
    """
    if spec.size is not None:
        return center_crop(decode(image, spec.size), spec.height)
    return _small(upright_rgb(image, max(spec.height, spec.width)), spec)


def _small(rgb: Image.Image, spec: Input) -> Tensor:
    """An RGB image resized as a whole, in grey if the network takes one channel."""
    image = rgb.convert("L") if spec.channels == 1 else rgb
    pixels = torch.from_numpy(np.array(image.resize((spec.width, spec.height), Image.Resampling.BILINEAR)))
    return pixels[None] if spec.channels == 1 else pixels.permute(2, 0, 1).contiguous()


def preprocess_file(path: Path, spec: Input) -> Tensor:
    """:func:`preprocess` of a file; raises BadPhoto where it is not a readable image."""
    if spec.size is not None:
        return center_crop(read_photo(path, spec.size).pixels, spec.height)
    image, _, _ = read_image(path, max(spec.height, spec.width))
    return _small(image, spec)


def in_words(spec: Input) -> dict[str, Any]:
    """The steps of :func:`preprocess` as JSON, for the metadata of an exported model."""
    if spec.size is not None:
        steps = {"short_side": short_side(spec.size), "center_crop": [spec.height, spec.width]}
    else:
        steps = {"resize": [spec.height, spec.width]}
    return {
        "mode": "L" if spec.channels == 1 else "RGB",
        "exif_orientation": "applied",
        "resample": "bilinear, antialiased (Pillow's BILINEAR)",
        **steps,
        "values": "0 to 255, not normalised",
    }


def thumbnail(image: Tensor) -> str:
    """A small picture of a uint8 image [C, H, W], as JPEG in base64."""
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    side = max(picture.size)
    scale = THUMBNAIL / side
    # A small image is enlarged without interpolation, to show its pixels.
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    buffer = io.BytesIO()
    picture.resize((round(scale * picture.width), round(scale * picture.height)), resample).save(
        buffer, "JPEG", quality=80
    )
    return base64.b64encode(buffer.getvalue()).decode()
