"""Where a data set comes from: scikit-learn's digits, torchvision, a folder of class folders, or an .npz file."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import labelsmooth._torchvision  # noqa: F401  (before torchvision)
from labelsmooth.study.data.dataset import ArrayImages, Dataset, check_classes
from labelsmooth.study.data.photos import load_photos
from labelsmooth.study.errors import StudyError

__all__ = ["NAMED", "SMALL_SIDE", "is_small", "load_dataset"]

SMALL_SIDE = 64  # arrays of at most this side are small images, for which a small network is made
NAMED = ("digits", "fashion-mnist", "cifar10", "pets")

Progress = Callable[[int, int], Any]


def is_small(data: str) -> bool:
    """Whether DATA names small images in an array, rather than photos in files."""
    return data in ("digits", "fashion-mnist", "cifar10") or (data not in NAMED and data.endswith(".npz"))


def load_dataset(data: str, data_dir: Path | None, size: int | None, progress: Progress) -> Dataset:
    """Load DATA.

    Args:
        data: a name from ``NAMED``, a folder of class folders, or an ``.npz`` file with ``images`` and ``labels``.
        data_dir: where torchvision's sets lie or go; None: ``LABELSMOOTH_DATA``, else a cache folder of the user.
        size: photos, and small images that are to be treated like photos, are decoded for a square crop of this
            side; None keeps small images as they are.
        progress: called with (done, total) while photos are decoded.

    Raises:
        StudyError: the data is missing, unreadable or too small.
    """
    if data == "digits":
        return _digits(size, progress)
    if data in NAMED:
        root = data_dir or Path(os.environ.get("LABELSMOOTH_DATA") or Path.home() / ".cache" / "labelsmooth" / "data")
        return _torchvision(data, root, size, progress)
    path = Path(data)
    if path.is_dir():
        return _folder(path, size or 224, progress)
    if path.suffix == ".npz":
        return _npz(path, size, progress)
    raise StudyError(f"DATA {data!r} is neither a folder, an .npz file nor one of {', '.join(NAMED)}.")


def _digits(size: int | None, progress: Progress) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    # So few images that the test part needs two fifths of them to tell methods apart.
    return _from_array("digits", images, digits.target, tuple("0123456789"), size, progress, fractions=(0.4, 0.2, 0.4))


def _torchvision(name: str, root: Path, size: int | None, progress: Progress) -> Dataset:
    from torchvision import datasets

    if name == "pets":
        pets = partial(datasets.OxfordIIITPet, root)
        parts = [_offline_first(name, root, partial(pets, split=split)) for split in ("trainval", "test")]
        return _photo_parts("pets", parts, tuple(parts[0].classes), size or 224, progress)
    maker = partial({"fashion-mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[name], root)
    parts = [_offline_first(name, root, partial(maker, train=train)) for train in (True, False)]
    images = np.concatenate([np.asarray(part.data) for part in parts])
    labels = np.concatenate([np.asarray(part.targets) for part in parts])
    test = np.arange(len(parts[0]), len(images))
    augment = "small" if name == "cifar10" else "none"
    return _from_array(name, images, labels, tuple(parts[0].classes), size, progress, test=test, augment=augment)


def _offline_first(name: str, root: Path, make: Callable[..., Any]) -> Any:
    """The data set as it lies in ``root``; downloaded there only where it is missing."""
    try:
        return make(download=False)
    except RuntimeError:  # torchvision's "Dataset not found"
        pass
    try:
        return make(download=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise StudyError(
            f"{name} is not in {root} and could not be downloaded ({reason}). Connect to the internet once, or point "
            "--data-dir or LABELSMOOTH_DATA at a folder that has it in torchvision's layout."
        ) from error


def _photo_parts(name: str, parts: list[Any], classes: tuple[str, ...], size: int, progress: Progress) -> Dataset:
    """One data set of a training part and, if there is a second, an official test part."""
    places = [(part, index) for part in parts for index in range(len(part))]
    labels = np.empty(len(places), np.int64)

    def read(number: int) -> Image.Image:
        part, index = places[number]
        image, labels[number] = part[index]
        return image  # type: ignore[no-any-return]

    names = [_file_name(part, index) for part, index in places]
    images, pixels = load_photos(names, read, size, progress)
    test = np.arange(len(parts[0]), len(places)) if len(parts) > 1 else None
    fingerprint = _fingerprint(pixels, labels)
    return Dataset(name, classes, images, labels, fingerprint, (0.6, 0.2, 0.2), test, "photo")


def _file_name(part: Any, index: int) -> str:
    samples = getattr(part, "samples", None)  # ImageFolder's
    return samples[index][0] if samples else f"image {index}"


def _folder(path: Path, size: int, progress: Progress) -> Dataset:
    from torchvision.datasets import ImageFolder

    def open_folder(folder: Path) -> Any:
        try:
            return ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise StudyError(
                f"{folder} is not a folder of class folders with images in each ({error}); expected CLASS/photo.jpg."
            ) from error

    inner = {entry.name for entry in path.iterdir() if entry.is_dir()}
    if {"train", "test"} <= inner <= {"train", "test", "val", "valid", "validation"}:
        parts = [open_folder(path / part) for part in ("train", "test")]
        if parts[0].classes != parts[1].classes:
            only = sorted(set(parts[0].classes) ^ set(parts[1].classes))
            raise StudyError(
                f"{path}/train and {path}/test have different classes; in one of them only: {', '.join(only[:5])}."
            )
    else:
        parts = [open_folder(path)]
    check_classes(tuple(parts[0].classes), np.concatenate([part.targets for part in parts]))  # before hours of decoding
    return _photo_parts(path.resolve().name, parts, tuple(parts[0].classes), size, progress)


def _npz(path: Path, size: int | None, progress: Progress) -> Dataset:
    expected = (
        "an .npz with images ([N, H, W] or [N, H, W, C] uint8), labels ([N] integers) and optionally classes (names)"
    )
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in ("images", "labels") if name not in file]
            if missing:
                raise StudyError(f"{path} has no array named {' or '.join(missing)}; expected {expected}.")
            images, labels = file["images"], file["labels"]
            names = tuple(str(name) for name in file["classes"]) if "classes" in file else None
    except FileNotFoundError as error:
        raise StudyError(f"{path} does not exist; give the path of {expected}.") from error
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise StudyError(f"{path} cannot be read ({error}); expected {expected}.") from error
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise StudyError(
            f"{path}: images is {images.dtype} of shape {images.shape}; expected {expected}, with C 1 or 3."
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise StudyError(f"{path}: labels is {labels.dtype} of shape {labels.shape}; expected {len(images)} integers.")
    if len(labels) == 0:
        raise StudyError(f"{path} holds no image; expected {expected}.")
    classes = names or tuple(str(k) for k in range(int(labels.max()) + 1))
    if labels.min() < 0 or labels.max() >= len(classes):
        raise StudyError(
            f"{path}: labels run from {labels.min()} to {labels.max()}; they must lie in [0, {len(classes)})."
        )
    if max(images.shape[1:3]) > SMALL_SIDE:
        size = size or 224
    return _from_array(path.stem, images, labels, classes, size, progress)


def _from_array(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    size: int | None,
    progress: Progress,
    **options: Any,
) -> Dataset:
    """A data set of an array, kept as it is or, with a size, treated like photos."""
    labels = labels.astype(np.int64)
    if size is None:
        small = ArrayImages(images)
        return Dataset(name, classes, small, labels, _fingerprint(small.fingerprint(), labels), **options)
    flat = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    numbers = [f"image {index}" for index in range(len(images))]
    photos, pixels = load_photos(numbers, lambda index: Image.fromarray(flat[index]), size, progress)
    return Dataset(name, classes, photos, labels, _fingerprint(pixels, labels), **options)


def _fingerprint(pixels: str, labels: np.ndarray) -> str:
    return hashlib.sha256(pixels.encode() + labels.tobytes()).hexdigest()[:16]
