"""One photo: from the bytes of a file to upright RGB pixels of a common short side, or why not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

__all__ = [
    "EXTENSIONS",
    "BadPhoto",
    "Photo",
    "center_crop",
    "decode",
    "image_format",
    "pillow_quiet",
    "read_photo",
    "short_side",
]

# The formats of photos, by extension.  Pillow knows more, some of which start other programs (EPS).
EXTENSIONS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **dict.fromkeys((".jp2", ".j2k"), "JPEG2000"),
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".avif": "AVIF",
}
# More pixels than this (Pillow's own warning level) are not decoded: a file of a few kB can claim, and fill, gigabytes.
PIXEL_LIMIT = 89_478_485
FILE_LIMIT = 1 << 30  # bytes
ASPECT_LIMIT = 32  # scaled to a common short side, a strip of 1 x 60,000 pixels would fill gigabytes too
# What Pillow raises for a file that is not an image, is truncated or damaged.
CORRUPT = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class BadPhoto(Exception):
    """A file that cannot be used: the kind of problem, and the reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True)
class Photo:
    """A decoded photo: uint8 pixels [3, H, W], a hash of the file's bytes, and the format that they are in."""

    pixels: Tensor
    digest: bytes
    format: str


def read_photo(path: Path, size: int) -> Photo:
    """Read and decode a file for a square crop of side ``size``.

    Raises:
        BadPhoto: the file is empty, not an image, damaged, or too large to decode.
    """
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length > FILE_LIMIT:
                raise BadPhoto("huge", f"{length:,} bytes; the limit is {FILE_LIMIT:,}")
            content = file.read()
    except OSError as error:
        raise BadPhoto("unreadable", error.strerror or type(error).__name__) from error
    if not content:
        raise BadPhoto("unreadable", "empty file")
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            _check_size(image)
            known = "JPEG" if image.format == "MPO" else str(image.format)
            pixels = decode(image, size)
    except UnidentifiedImageError as error:
        raise BadPhoto("unreadable", "not an image") from error
    except BOMB as error:
        raise BadPhoto("huge", f"more than {PIXEL_LIMIT:,} pixels") from error
    except CORRUPT as error:
        raise BadPhoto("unreadable", " ".join(str(error).split()) or type(error).__name__) from error
    return Photo(pixels, hashlib.blake2b(content, digest_size=16).digest(), known)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise BadPhoto("huge", f"{width} x {height} pixels; the limit is {PIXEL_LIMIT:,}")
    if max(width, height) > ASPECT_LIMIT * max(1, min(width, height)):
        raise BadPhoto("huge", f"{width} x {height} pixels; one side may be {ASPECT_LIMIT} times the other")


def short_side(size: int) -> int:
    """The short side of a decoded photo whose training crops have a side of ``size``."""
    return round(size / 0.875)


def decode(image: Image.Image, size: int) -> Tensor:
    """An image, upright and in RGB, its short side at size / 0.875 (256 pixels for 224), as uint8 [3, H, W]; of several
    frames the first."""
    side = short_side(size)
    # A JPEG decodes at 1/2, 1/4 or 1/8 for less than its pixels cost; twice the side leaves the resizing its quality.
    image.draft(None, (2 * side, 2 * side))
    image.load()
    with contextlib.suppress(*CORRUPT):  # a damaged EXIF block beside sound pixels
        ImageOps.exif_transpose(image, in_place=True)
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    resized = _rgb(image).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1)))


def center_crop(pixels: Tensor, side: int) -> Tensor:
    """The middle square of an image [C, H, W] whose sides are at least ``side``."""
    top, left = (round((length - side) / 2) for length in pixels.shape[1:])
    return pixels[:, top : top + side, left : left + side]


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits, three channels: 16-bit greys scaled (Pillow clips them), what is transparent over white."""
    if image.mode[0] in "IF":
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit pixels, whose white is not known; save it with 8 or 16 bits")
        return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return image.convert("RGB")


def image_format(path: Path) -> str | None:
    """The format of an image file, by its first bytes; None for anything else."""
    try:
        with Image.open(path, formats=_formats()) as image:
            return image.format
    except (*CORRUPT, *BOMB):
        return None


def _formats() -> list[str]:
    Image.init()
    return [name for name in dict.fromkeys(EXTENSIONS.values()) if name in Image.OPEN]


@contextlib.contextmanager
def pillow_quiet() -> Iterator[None]:
    """Keep Pillow's remarks on odd metadata from the terminal; a file that claims too many pixels is an error."""
    Image.init()  # before threads do it at once
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # read_photo looks for itself, and says more
        yield
