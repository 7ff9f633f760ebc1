"""Photos: decoded to a common short side, every unreadable file found before training starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labelsmooth.study.data.dataset import PhotoImages
from labelsmooth.study.errors import StudyError

__all__ = ["decode", "load_photos"]


def decode(image: Image.Image, size: int) -> Tensor:
    """An RGB image with its short side at size / 0.875 (a 224 crop comes from 256 pixels), as uint8 [3, H, W]."""
    side = round(size / 0.875)
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def load_photos(
    names: list[str], read: Callable[[int], Image.Image], size: int, progress: Callable[[int, int], Any]
) -> tuple[PhotoImages, str]:
    """Decode every photo once: to check it, to fill the cache, and for the fingerprint of the pixels.

    Raises:
        StudyError: photos that cannot be read, all of them named at once.
    """
    images = PhotoImages(names, lambda index: decode(read(index), size))
    fingerprint = hashlib.sha256()
    unreadable = []
    for index in range(len(names)):
        try:
            fingerprint.update(images[index].numpy().tobytes())
        except StudyError as error:
            unreadable.append(str(error))
        progress(index + 1, len(names))
    if unreadable:
        listed = "; ".join(unreadable[:10]) + (f"; and {len(unreadable) - 10} more" if len(unreadable) > 10 else "")
        count = "1 image" if len(unreadable) == 1 else f"{len(unreadable)} images"
        raise StudyError(f"{count} cannot be read: {listed}. Replace or remove them, then start again.")
    return images, fingerprint.hexdigest()
