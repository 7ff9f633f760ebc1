"""One photo: from a file to upright RGB pixels of a common short side, or the reason why it cannot be read."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from labelsmooth.extras import MissingExtraError

try:
    from PIL import Image, ImageOps, UnidentifiedImageError
except ModuleNotFoundError as error:  # all that needs the extras comes by here: data, models, study, report
    raise MissingExtraError("Reading photos needs pillow: pip install 'labelsmooth[study]'.") from error

# The formats of photos, by extension.  Pillow reads more, some of which start other programs (EPS).
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
    **dict.fromkeys((".heic", ".heif"), "HEIF"),
}
# What reads a format that this installation of Pillow does not, by the brand in the first bytes of a file.
PLUGINS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "pip install 'labelsmooth[heic]'"),
    **dict.fromkeys((b"avif", b"avis"), "pip install 'pillow>=11.3'"),
}
# The level at which Pillow warns.  A file of a few kB can decode to gigabytes.
PIXEL_LIMIT = 89_478_485
FILE_LIMIT = 1 << 30  # bytes
ASPECT_LIMIT = 32  # at a common short side, a strip of 1 x 60,000 pixels would take gigabytes
# The errors that Pillow raises for a file that is not an image, is truncated or damaged.
CORRUPT = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, RuntimeError),
    *(EOFError, OverflowError, MemoryError, struct.error, zlib.error),
)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


Source: TypeAlias = "Path | Callable[[], bytes]"
"""A file, or a function that returns the bytes of one."""


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


def read_photo(source: Source, size: int) -> Photo:
    """Read and decode a file for a square crop of side ``size``; raises BadPhoto as :func:`read_image` does."""
    image, digest, name = read_image(source, short_side(size))
    return Photo(scaled(image, size), digest, name)


def read_image(source: Source, side: int) -> tuple[Image.Image, bytes, str]:
    """Read an image: upright and in RGB, a hash of its bytes, and its format.

    Args:
        source: the file, or a function that returns its bytes.
        side: the short side that is needed; a larger JPEG may be decoded at a fraction of its size.

    Raises:
        BadPhoto: the file is empty, not an image, damaged, or too large to decode.
    """
    content = read_bytes(source) if isinstance(source, Path) else source()
    if not content:
        raise BadPhoto("unreadable", "empty file")
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            _check_size(image)
            name = "JPEG" if image.format == "MPO" else str(image.format)
            rgb = upright_rgb(image, side)
    except UnidentifiedImageError as error:
        if content[4:8] == b"ftyp" and content[8:12] in PLUGINS:
            raise BadPhoto("format", f"needs {PLUGINS[content[8:12]]}") from error
        raise BadPhoto("unreadable", "not an image") from error
    except BOMB as error:
        raise BadPhoto("huge", f"more than {PIXEL_LIMIT:,} pixels") from error
    except CORRUPT as error:
        raise BadPhoto("unreadable", " ".join(str(error).split()) or type(error).__name__) from error
    return rgb, hashlib.blake2b(content, digest_size=16).digest(), name


def read_bytes(path: Path) -> bytes:
    """The content of a file of a sensible size; raises BadPhoto where it cannot be read."""
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length > FILE_LIMIT:
                raise BadPhoto("huge", f"{length:,} bytes; the limit is {FILE_LIMIT:,}")
            return file.read()
    except OSError as error:
        raise BadPhoto("unreadable", error.strerror or type(error).__name__) from error
    except ValueError as error:  # a NUL byte in the path
        raise BadPhoto("unreadable", str(error)) from error


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
    return scaled(upright_rgb(image, short_side(size)), size)


def upright_rgb(image: Image.Image, side: int) -> Image.Image:
    """The first frame of an image, upright, in 8-bit RGB; a JPEG may be decoded smaller, to twice ``side``."""
    # A JPEG decodes at 1/2, 1/4 or 1/8 in less time; twice the side preserves the quality of the resizing.
    image.draft(None, (2 * side, 2 * side))
    image.load()
    with contextlib.suppress(*CORRUPT):  # a damaged EXIF block beside sound pixels
        ImageOps.exif_transpose(image, in_place=True)
    return _rgb(image)


def scaled(image: Image.Image, size: int) -> Tensor:
    """An RGB image with its short side at size / 0.875, as uint8 [3, H, W]."""
    side = short_side(size)
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1)))


def center_crop(pixels: Tensor, side: int) -> Tensor:
    """The middle square of an image [C, H, W] whose sides are at least ``side``."""
    top, left = (round((length - side) / 2) for length in pixels.shape[1:])
    return pixels[:, top : top + side, left : left + side]


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits, three channels: 16-bit greys scaled (Pillow clips them), transparency over white.

    32-bit integers of at most 255 or 65535 are taken for 8 or 16 bits; their white is not known otherwise.
    """
    if image.mode[0] in "IF":
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit pixels, whose white is not known; save it with 8 or 16 bits")
        # Older versions of Pillow open a PNG of 16 bits in mode I too.
        white = 255 if image.mode == "I" and image.format != "PNG" and values.max() <= 255 else 65535
        grey = (values.astype(np.uint32) * 255 + white // 2) // white
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
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
    _register_plugins()
    Image.init()
    return [name for name in dict.fromkeys(EXTENSIONS.values()) if name in Image.OPEN]


@cache
def _register_plugins() -> None:
    """Let Pillow read HEIC, the format of phones, where pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


@contextlib.contextmanager
def pillow_quiet() -> Iterator[None]:
    """Silence Pillow's warnings about metadata and about large images, which read_photo refuses itself."""
    _formats()  # before several threads make the list at once
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
