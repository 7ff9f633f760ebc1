"""The sources of data sets: scikit-learn's digits, torchvision, a folder of class folders, or an .npz file."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from labelsmooth.data.dataset import ArrayImages, Dataset, check_classes
from labelsmooth.data.folder import PhotoFile, leads_out, scan_folder
from labelsmooth.data.loading import data_fingerprint, load_files, load_photos
from labelsmooth.data.photos import decode
from labelsmooth.data.problems import Problems
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.progress import Progress

__all__ = ["NAMED", "SMALL_SIDE", "is_small", "load_dataset"]

SMALL_SIDE = 64  # pixels; larger images in arrays are treated like photos
# What numpy and zipfile raise for damaged, truncated, encrypted or otherwise unreadable files.
DAMAGED: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, zlib.error, struct.error, TokenError),
    *(ValueError, OSError, EOFError, KeyError, RuntimeError, SyntaxError, MemoryError),
)
MOST_CLASSES = 1_000_000
NAMED = ("digits", "fashion-mnist", "cifar10", "pets")


def is_small(data: StrPath) -> bool:
    """Whether ``data`` names small images in an array, rather than photos in files."""
    name = os.fspath(data)
    return name in ("digits", "fashion-mnist", "cifar10") or (name not in NAMED and name.endswith(".npz"))


def load_dataset(
    data: StrPath,
    size: int | None = None,
    *,
    data_dir: StrPath | None = None,
    skip_corrupt: bool = False,
    to_train: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load labelled images.

    Args:
        data: "digits", "fashion-mnist", "cifar10", "pets", a folder with a folder of photos for each class, or an
            ``.npz`` file with ``images`` and ``labels``.
        size: photos are decoded for square crops of this side in pixels, by default 224; small images are kept as
            they are by default, and treated like photos with a size.
        data_dir: the folder of torchvision's data sets; by default that which the environment variable
            ``LABELSMOOTH_DATA`` names, or ``~/.cache/labelsmooth/data``.
        skip_corrupt: leave out files that cannot be used and list them in ``skipped``, instead of raising.
        to_train: False for images that are only measured: classes may then be small, and duplicates are left out.
        progress: ``progress.photos`` is called while photos are decoded, from the caller's thread.

    Raises:
        UserError: the data is missing, unreadable or too small; one message names every problem.

    Example:
        >>> load_dataset("digits")
        Dataset('digits', 1797 images, 10 classes)
    """
    name = os.fspath(data)
    progress = progress or Progress()
    problems = Problems(skip_corrupt, to_train)
    if name == "digits":
        return _digits(size, progress)
    if name in NAMED:
        folder = data_dir or os.environ.get("LABELSMOOTH_DATA") or Path.home() / ".cache" / "labelsmooth" / "data"
        return _torchvision(name, Path(folder), size, progress, problems)
    path = Path(name)
    if path.is_dir():
        scan = scan_folder(path, problems)
        options: dict[str, Any] = {"official": scan.official, "notes": scan.notes}
        return load_files(path.resolve().name, scan.classes, scan.files, size or 224, progress, problems, **options)
    if path.suffix == ".npz":
        return _npz(path, size, progress, to_train)
    raise UserError(f"DATA {name!r} is neither a folder, an .npz file nor one of {', '.join(NAMED)}.")


def _digits(size: int | None, progress: Progress) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    # With so few images, the test part needs two fifths of them to distinguish methods.
    return _from_array("digits", images, digits.target, tuple("0123456789"), size, progress, fractions=(0.4, 0.2, 0.4))


def _torchvision(name: str, root: Path, size: int | None, progress: Progress, problems: Problems) -> Dataset:
    import labelsmooth._torchvision  # noqa: F401  (before torchvision)

    # isort: split
    from torchvision import datasets

    if name == "pets":
        pets = partial(datasets.OxfordIIITPet, root)
        parts = [_offline_first(name, root, partial(pets, split=split)) for split in ("trainval", "test")]
        return _pets(root, parts, size or 224, progress, problems)
    maker = partial({"fashion-mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[name], root)
    parts = [_offline_first(name, root, partial(maker, train=train)) for train in (True, False)]
    images = np.concatenate([np.asarray(part.data) for part in parts])
    labels = np.concatenate([np.asarray(part.targets) for part in parts])
    test = np.arange(len(parts[0]), len(images))
    augment = "small" if name == "cifar10" else "none"
    return _from_array(name, images, labels, tuple(parts[0].classes), size, progress, test=test, augment=augment)


def _offline_first(name: str, root: Path, make: Callable[..., Any]) -> Any:
    """The data set in ``root``, downloaded only if it is missing."""
    try:
        return make(download=False)
    except RuntimeError:  # torchvision's "Dataset not found"
        pass
    try:
        return make(download=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{name} is not in {root} and could not be downloaded ({reason}). Connect to the internet once, or point "
            "--data-dir or LABELSMOOTH_DATA at a folder that has it in torchvision's layout."
        ) from error


def _pets(root: Path, parts: list[Any], size: int, progress: Progress, problems: Problems) -> Dataset:
    """The Oxford-IIIT Pets in torchvision's layout."""
    files = []
    for part in parts:
        for path, label in zip(part._images, part._labels, strict=True):
            name = path.relative_to(root).as_posix()
            reason = leads_out(path, os.path.realpath(path.parent)) if path.is_symlink() else None
            if reason:
                problems.add("link", name, reason)
            else:
                files.append(PhotoFile(path, name, label, test=part is parts[1]))
    classes = tuple(parts[0].classes)
    return load_files("pets", classes, files, size, progress, problems, official=True, published=True)


def _npz(path: Path, size: int | None, progress: Progress, to_train: bool) -> Dataset:
    expected = (
        "an .npz with images ([N, H, W] or [N, H, W, C] uint8), labels ([N] integers) and optionally classes (names)"
    )
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in ("images", "labels") if name not in file]
            if missing:
                raise UserError(f"{path} has no array named {' or '.join(missing)}; expected {expected}.")
            images, labels = file["images"], file["labels"]
            names = np.atleast_1d(file["classes"]) if "classes" in file else None
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give the path of {expected}.") from error
    except UserError:
        raise
    except DAMAGED as error:
        raise UserError(f"{path} cannot be read ({error}); expected {expected}.") from error
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise UserError(
            f"{path}: images is {images.dtype} of shape {images.shape}; expected {expected}, with C 1 or 3."
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path}: labels is {labels.dtype} of shape {labels.shape}; expected {len(images)} integers.")
    if images.size == 0:
        raise UserError(f"{path} holds no image: images has shape {images.shape}; expected {expected}.")
    if names is None:
        if labels.max() >= MOST_CLASSES:
            raise UserError(f"{path}: labels run to {labels.max()}; without classes they must be below {MOST_CLASSES}.")
        classes = tuple(str(k) for k in range(int(labels.max()) + 1))
    else:
        classes = tuple(str(name) for name in names.ravel())
        if names.ndim != 1 or names.dtype.kind not in "US" or len(set(classes)) < len(classes):
            raise UserError(f"{path}: classes must be one name for each class, and no name twice.")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(
            f"{path}: labels run from {labels.min()} to {labels.max()}; they must lie in [0, {len(classes)})."
        )
    if to_train:
        check_classes(classes, labels)
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
    """A data set of an array: small images as they are or, with a size, treated like photos."""
    labels = labels.astype(np.int64)
    options["files"] = names = tuple(f"image {index}" for index in range(len(images)))
    if size is None:
        small = ArrayImages(images)
        return Dataset(name, classes, small, labels, data_fingerprint(small.fingerprint(), labels), **options)
    flat = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    photos, pixels = load_photos(names, partial(_scaled, flat, size), progress)
    return Dataset(name, classes, photos, labels, data_fingerprint(pixels, labels), **options)


def _scaled(images: np.ndarray, size: int, index: int) -> Tensor:
    return decode(Image.fromarray(images[index]), size)
