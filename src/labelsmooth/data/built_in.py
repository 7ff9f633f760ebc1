"""The built-in data sets: scikit-learn's digits, and some of torchvision's, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labelsmooth.data.dataset import Dataset
from labelsmooth.data.folder import leads_out
from labelsmooth.data.loading import Listing, PhotoFile, load_array, load_files
from labelsmooth.data.problems import Problems
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress


def _digits(root: Path, size: int | None, progress: Progress, problems: Problems) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    # With so few images, the test part needs two fifths of them to distinguish methods.
    return load_array("digits", images, digits.target, tuple("0123456789"), size, progress, fractions=(0.4, 0.2, 0.4))


def _arrays(
    name: str, kind: str, augment: str, root: Path, size: int | None, progress: Progress, problems: Problems
) -> Dataset:
    """Small images of torchvision in one array."""
    make = partial(getattr(_torchvision_datasets(), kind), root)
    parts = [_offline_first(name, root, partial(make, train=train)) for train in (True, False)]
    images = np.concatenate([np.asarray(part.data) for part in parts])
    labels = np.concatenate([np.asarray(part.targets) for part in parts])
    test = np.arange(len(parts[0]), len(images))
    return load_array(name, images, labels, tuple(parts[0].classes), size, progress, test=test, augment=augment)


def _pets(root: Path, size: int | None, progress: Progress, problems: Problems) -> Dataset:
    """The Oxford-IIIT Pets in torchvision's layout."""
    make = partial(_torchvision_datasets().OxfordIIITPet, root)
    parts = [_offline_first("pets", root, partial(make, split=split)) for split in ("trainval", "test")]
    files = []
    for part in parts:
        for path, label in zip(part._images, part._labels, strict=True):
            name = path.relative_to(root).as_posix()
            reason = leads_out(path, os.path.realpath(path.parent)) if path.is_symlink() else None
            if reason:
                problems.add("link", name, reason)
            else:
                files.append(PhotoFile(path, name, label, "test" if part is parts[1] else "train"))
    listing = Listing(tuple(parts[0].classes), files)
    return load_files("pets", listing, size or 224, progress, problems, published=True)


def _torchvision_datasets() -> Any:
    import labelsmooth.cpu_torchvision  # noqa: F401  (before torchvision)

    from torchvision import datasets

    return datasets


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


@dataclass(frozen=True)
class BuiltIn:
    """A data set with a name.

    Attributes:
        load: called with the folder of torchvision's data sets, the size in pixels or None, progress and problems.
        small: whether it has small images in an array, for which a small network is made, rather than photos.
        downloaded: whether it lies in the folder of torchvision's data sets.
        epochs: of the small network, by default.
    """

    load: Callable[[Path, int | None, Progress, Problems], Dataset]
    small: bool = True
    downloaded: bool = True
    epochs: int = 30


BUILT_IN = {
    "digits": BuiltIn(_digits, downloaded=False),
    "fashion-mnist": BuiltIn(partial(_arrays, "fashion-mnist", "FashionMNIST", "none"), epochs=15),
    "cifar10": BuiltIn(partial(_arrays, "cifar10", "CIFAR10", "small")),
    "cifar100": BuiltIn(partial(_arrays, "cifar100", "CIFAR100", "small")),
    "pets": BuiltIn(_pets, small=False),
}
"""The built-in data sets, by name."""


def is_small(name: str) -> bool:
    """Whether ``name`` is of small images in an array, rather than of photos in files."""
    return BUILT_IN[name].small if name in BUILT_IN else name.endswith(".npz")


def default_epochs(name: str) -> int:
    """The epochs that the small network is trained for by default."""
    return BUILT_IN[name].epochs if name in BUILT_IN else 30
