"""From an image file to the network's input, as the evaluation during training does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

import labelsmooth._torchvision  # noqa: F401  (before torchvision)
from labelsmooth.data.photos import BadPhoto, decode, read_photo, short_side
from labelsmooth.models.model import Input

__all__ = ["in_words", "preprocess", "preprocess_file"]


def preprocess(image: Image.Image, spec: Input) -> Tensor:
    """One image as the network takes it.

    A photo is resized until its short side is size / 0.875 and the middle square is cropped from it.  A small image
    is made grey where the network takes one channel, and resized to the network's height and width.

    Args:
        image: any Pillow image.
        spec: what the network takes.

    Returns:
        uint8 [C, H, W].

    Example:
        >>> preprocess(Image.new("RGB", (640, 480)), Input.photo(224)).shape
        torch.Size([3, 224, 224])
        >>> preprocess(Image.new("RGB", (28, 28)), Input(1, 8, 8)).shape
        torch.Size([1, 8, 8])
    """
    if spec.size is not None:
        return _crop(decode(image, spec.size), spec.height)
    upright = ImageOps.exif_transpose(image).convert("L" if spec.channels == 1 else "RGB")
    resized = upright.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized))
    return pixels[None] if spec.channels == 1 else pixels.permute(2, 0, 1).contiguous()


def preprocess_file(path: Path, spec: Input) -> Tensor:
    """:func:`preprocess` of a file.

    Raises:
        BadPhoto: the file is empty, not an image, damaged, or too large to decode.
    """
    # What a photo is checked for is worth checking in a small image too; a small image costs little to read twice.
    photo = read_photo(path, spec.size or max(spec.height, spec.width))
    if spec.size is not None:
        return _crop(photo.pixels, spec.height)
    try:
        with Image.open(path) as image:
            return preprocess(image, spec)
    except (OSError, ValueError) as error:
        raise BadPhoto("unreadable", str(error)) from error


def _crop(pixels: Tensor, size: int) -> Tensor:
    from torchvision.transforms.v2.functional import center_crop

    return center_crop(pixels, [size, size])  # type: ignore[no-any-return]


def in_words(spec: Input) -> dict[str, Any]:
    """The same as data, for the metadata of an exported model."""
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
