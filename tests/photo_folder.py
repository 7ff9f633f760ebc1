"""A folder of class folders with small photos of random pixels."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def photo_folder(root: Path, counts: dict[str, int]) -> Path:
    """``counts`` is the number of photos of each class; other folders have other pixels."""
    rng = np.random.default_rng(zlib.crc32(root.name.encode()))
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(root / name / f"{index}.png")
    return root
