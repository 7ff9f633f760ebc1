"""Load a data set: a built-in one, a folder of class folders, a table of paths and labels, or an .npz file."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import TypeAlias, cast

import numpy as np

from labelsmooth.data.built_in import BUILT_IN
from labelsmooth.data.dataset import Dataset, check_classes
from labelsmooth.data.folder import scan_folder
from labelsmooth.data.hub import HubData, is_hub_data, is_saved_hub_data, scan_hub
from labelsmooth.data.loading import load_array, load_files
from labelsmooth.data.problems import Problems
from labelsmooth.data.table import Columns, scan_table
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.predictions.tables import FORMATS, Frame, table_suffix
from labelsmooth.progress import Progress

DataSource: TypeAlias = "StrPath | Frame | HubData | Dataset"
"""What :func:`load_dataset` reads: a name or a path, a data frame, a data set of the Hugging Face hub, or a Dataset."""

SMALL_SIDE = 64  # pixels; larger images in arrays are treated like photos
# What numpy and zipfile raise for damaged, truncated, encrypted or otherwise unreadable files.
DAMAGED: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, zlib.error, struct.error, TokenError),
    *(ValueError, OSError, EOFError, KeyError, RuntimeError, SyntaxError, MemoryError),
)
MOST_CLASSES = 1_000_000
SOFT = (
    "The labels are probabilities: they are trained on. The split, the metrics and the calibrator take the most "
    "probable class of each.",
)


def load_dataset(
    data: DataSource,
    size: int | None = None,
    *,
    columns: Columns | None = None,
    nested: bool = False,
    data_dir: StrPath | None = None,
    skip_corrupt: bool = False,
    to_train: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load labelled images.

    Args:
        data: the name of a built-in data set ("digits", "fashion-mnist", "cifar10", "cifar100", "pets"), a folder with
            a folder of photos for each class, a table with a path and a label in each row (CSV, Parquet, JSON lines, or
            a data frame of pandas, Polars or pyarrow), a ``Dataset`` or ``DatasetDict`` of Hugging Face's ``datasets``,
            a folder that it was saved to, an ``.npz`` file with ``images`` and ``labels``, or a data set
            that is loaded already.
        size: photos are decoded for square crops of this side in pixels, by default 224; small images are kept as
            they are by default, and treated like photos with a size.
        columns: of a table; by default they are found by their names.
        nested: in a folder, each folder that holds photos is a class, named by its path ("cat/siamese").
        data_dir: the folder that the paths of a table are relative to, by default its own, for a data frame the current
            one; or that of torchvision's data sets, by default that which the environment variable
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
    if isinstance(data, Dataset):
        return data
    progress, columns = progress or Progress(), columns or Columns()
    problems = Problems(skip_corrupt, to_train)
    name = source_name(data)
    base = None if data_dir is None else Path(data_dir)
    if not isinstance(data, str | os.PathLike):
        if is_hub_data(data):
            listing = scan_hub(cast(HubData, data), columns, problems)
        else:
            listing = scan_table(cast(Frame, data), base, columns, problems)
        return load_files(name, listing, size or 224, progress, problems)
    path = Path(data)
    if name in BUILT_IN:
        folder = data_dir or os.environ.get("LABELSMOOTH_DATA") or Path.home() / ".cache" / "labelsmooth" / "data"
        return BUILT_IN[name].load(Path(folder), size, progress, problems)
    if path.suffix == ".npz":
        return _npz(path, size, progress, to_train)
    if path.is_dir() and is_saved_hub_data(path):
        listing = scan_hub(path, columns, problems)
    elif path.is_dir():
        listing = scan_folder(path, problems, nested)
    elif table_suffix(path) in FORMATS and path.is_file():
        listing = scan_table(path, base, columns, problems)
    else:
        raise UserError(
            f"DATA {name!r} is neither a folder, a table of paths and labels ({', '.join(FORMATS)}), an .npz file nor "
            f"one of {', '.join(BUILT_IN)}."
        )
    return load_files(path.resolve().name, listing, size or 224, progress, problems)


def source_name(data: DataSource) -> str:
    """The data as text, for records and messages."""
    if isinstance(data, Dataset):
        return data.name
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    return "data set" if is_hub_data(data) else "data frame"


def _npz(path: Path, size: int | None, progress: Progress, to_train: bool) -> Dataset:
    expected = (
        "an .npz with images ([N, H, W] or [N, H, W, C] uint8), labels ([N] integers, or [N, K] probabilities) and "
        "optionally classes (names)"
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
    soft = None
    if labels.ndim == 2 and len(labels) == len(images) and np.issubdtype(labels.dtype, np.floating):
        soft, labels = _probabilities(path, labels), labels.argmax(1)
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{path}: labels is {labels.dtype} of shape {labels.shape}; expected {len(images)} integers or "
            f"probabilities of shape ({len(images)}, K)."
        )
    if images.size == 0:
        raise UserError(f"{path} holds no image: images has shape {images.shape}; expected {expected}.")
    if names is None:
        if labels.max() >= MOST_CLASSES:
            raise UserError(f"{path}: labels run to {labels.max()}; without classes they must be below {MOST_CLASSES}.")
        classes = tuple(str(k) for k in range(int(labels.max()) + 1 if soft is None else soft.shape[1]))
    else:
        classes = tuple(str(name) for name in names.ravel())
        if names.ndim != 1 or names.dtype.kind not in "US" or len(set(classes)) < len(classes):
            raise UserError(f"{path}: classes must be one name for each class, and no name twice.")
    if soft is not None and soft.shape[1] != len(classes):
        raise UserError(f"{path}: labels has {soft.shape[1]} columns, and classes {len(classes)} names.")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(
            f"{path}: labels run from {labels.min()} to {labels.max()}; they must lie in [0, {len(classes)})."
        )
    if to_train:
        check_classes(classes, labels)
    if max(images.shape[1:3]) > SMALL_SIDE:
        size = size or 224
    return load_array(path.stem, images, labels, classes, size, progress, soft=soft, notes=SOFT * (soft is not None))


def _probabilities(path: Path, labels: np.ndarray) -> np.ndarray:
    """Labels [N, K] as float32, each row a distribution."""
    wrong = ~((labels >= 0).all(1) & (np.abs(labels.sum(1) - 1) < 1e-3))  # also NaN
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"{path}: labels of shape {labels.shape} are probabilities, but row {row} is {labels[row]}: give numbers "
            "of at least 0 that sum to 1."
        )
    distributions: np.ndarray = (labels / labels.sum(1, keepdims=True)).astype(np.float32)
    return distributions
