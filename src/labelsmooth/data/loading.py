"""Photos decoded once, all of them, before training starts: checked, hashed, and kept while there is room."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labelsmooth.data.dataset import ArrayImages, ArrayInputs, Dataset, PhotoImages, check_classes, too_few
from labelsmooth.data.photos import EXTENSIONS, BadPhoto, Photo, Source, decode, pillow_quiet, read_photo
from labelsmooth.data.problems import Problems, listed
from labelsmooth.errors import UserError, shown
from labelsmooth.progress import Progress

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class PhotoFile:
    """A photo: its file or a function that returns its bytes, its name within the data, its label, and its part."""

    source: Source
    name: str
    label: int
    part: Part = "train"


@dataclass
class Listing:
    """The classes and photos of a data set, in a fixed order.

    Args:
        classes, files: the names of the K classes, and the photos.
        notes: what the user should know, in sentences.
        parts_named: whether each photo's part is written beside it, so that the parts belong to the fingerprint.
    """

    classes: tuple[str, ...]
    files: list[PhotoFile]
    notes: list[str] = field(default_factory=list)
    parts_named: bool = False


def load_files(
    name: str, listing: Listing, size: int, progress: Progress, problems: Problems, *, published: bool = False
) -> Dataset:
    """Decode every file once and make a data set of them.

    Args:
        published: the data set is a known one: duplicates in it are noted, not refused.

    Raises:
        UserError: every problem with the files, and what ``problems`` held before.
    """
    files = listing.files
    present = {file.part for file in files}
    images = PhotoImages([file.name for file in files], partial(_pixels, files, size))
    pixels = hashlib.sha256()
    digests: dict[int, bytes] = {}
    renamed = []
    with pillow_quiet():
        for index, photo in enumerate(in_order(partial(_try_photo, size), files)):
            if isinstance(photo, BadPhoto):
                problems.add(photo.kind, files[index].name, photo.reason)
            else:
                images.keep(index, photo.pixels)
                pixels.update(photo.pixels.numpy().data)
                digests[index] = photo.digest
                if photo.format != EXTENSIONS.get(Path(files[index].name).suffix.lower(), photo.format):
                    renamed.append(f"{shown(files[index].name)} ({photo.format})")
            progress.photos(index + 1, len(files))
    copies = _copies(digests)
    notes = [*listing.notes]
    if renamed:
        notes.append(f"Read as what they are, not as what their extension says: {listed(renamed)}.")
    dropped: set[int] = set()
    if not published:
        dropped = {number for group in copies for number in _report_copies(files, group, problems, notes)}
    elif copies:
        pairs = [f"{shown(files[group[0]].name)} = {shown(files[group[-1]].name)}" for group in copies]
        notes.append(f"In the published data twice, and kept so: {listed(pairs)}.")
    problems.raise_all()

    kept = [index for index in sorted(digests) if index not in dropped]
    labels = np.array([files[index].label for index in kept], np.int64)
    _check_counts(listing.classes, labels, problems)
    fingerprint = pixels.hexdigest()
    if len(kept) < len(files):
        files = [files[index] for index in kept]
        fewer = PhotoImages([file.name for file in files], partial(_pixels, files, size))
        pixels = hashlib.sha256()
        for number, index in enumerate(kept):
            image = images[index]
            fewer.keep(number, image)
            pixels.update(image.numpy().data)
        images, fingerprint = fewer, pixels.hexdigest()
    parts = np.array([PARTS.index(file.part) for file in files], np.int64)
    return Dataset(
        name,
        listing.classes,
        images,
        labels,
        data_fingerprint(fingerprint, labels, *([parts] if listing.parts_named else [])),
        validation=np.flatnonzero(parts == 1) if "validation" in present else None,
        test=np.flatnonzero(parts == 2) if "test" in present else None,
        augment="photo",
        files=tuple(file.name for file in files),
        skipped=tuple(problems.skipped),
        notes=tuple(notes),
    )


def _check_counts(classes: tuple[str, ...], labels: np.ndarray, problems: Problems) -> None:
    """Raise a UserError for classes that are too small without the files that were left out."""
    left_out = f" Left out were: {listed(problems.skipped)}." if problems.skipped else ""
    if few := too_few(classes, np.bincount(labels, minlength=len(classes))):
        problems.add("counts", few + left_out)
        problems.raise_all()
    if not len(labels):
        problems.add("structure", "There is no image in the data: add some." + left_out)
        problems.raise_all()


def load_photos(names: Sequence[str], decode: Callable[[int], Tensor], progress: Progress) -> tuple[PhotoImages, str]:
    """Images that are no files, decoded once: for the cache, and for the fingerprint of the pixels."""
    images = PhotoImages(names, decode)
    pixels = hashlib.sha256()
    for index, image in enumerate(in_order(decode, range(len(names)))):
        images.keep(index, image)
        pixels.update(image.numpy().data)
        progress.photos(index + 1, len(names))
    return images, pixels.hexdigest()


def data_fingerprint(pixels: str, *arrays: np.ndarray) -> str:
    """What names a data set: a hash of its pixels' hash, its labels, and what else the training depends on."""
    return hashlib.sha256(b"".join([pixels.encode(), *(array.tobytes() for array in arrays)])).hexdigest()[:16]


def _pixels(files: list[PhotoFile], size: int, index: int) -> Tensor:
    return read_photo(files[index].source, size).pixels


def _try_photo(size: int, file: PhotoFile) -> Photo | BadPhoto:
    try:
        return read_photo(file.source, size)
    except BadPhoto as error:
        return error


def in_order(function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 32) -> Iterator[Result]:
    """The function of each item, in order, computed by threads (Pillow decodes without the interpreter's lock).

    At most ``ahead`` results wait, and an interrupt drops them.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(min(8, available_cores()), thread_name_prefix="photos")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _copies(digests: dict[int, bytes]) -> list[list[int]]:
    """The groups of photos whose files are the same byte for byte."""
    groups: dict[bytes, list[int]] = {}
    for index, digest in digests.items():
        groups.setdefault(digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _report_copies(files: list[PhotoFile], group: list[int], problems: Problems, notes: list[str]) -> list[int]:
    """Report copies of a photo; returns those to leave out, where problems are left out.

    Of two classes neither is known to be right: all copies go.  Of a photo in several parts the last part keeps it
    (training, validation, test), so that the test stays what it is.  Of copies within one part the first stays; within
    an official test part all do.
    """
    names = [files[index].name for index in group]
    parts = sorted({files[index].part for index in group}, key=PARTS.index)
    if len({files[index].label for index in group}) > 1:
        kind, drop = "classes", group
    elif len(parts) > 1:
        kind, drop = "parts", [index for index in group if files[index].part != parts[-1]]
    elif parts != ["test"]:
        kind, drop = "copies", group[1:]
    else:
        notes.append(f"The test part has a photo more than once: {' = '.join(map(shown, names))}.")
        return []
    problems.add_group(kind, names, [files[index].name for index in drop])
    return drop


def array_dataset(
    name: str,
    inputs: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    test: np.ndarray | None = None,
) -> Dataset:
    """A data set of inputs of any kind in one array, for a study of a network of one's own.

    Args:
        name: for messages, records and the default folder of a study.
        inputs: [N, ...] of one dtype: rows of a table, word numbers, images as the network takes them.
        labels: [N] integers in [0, K).
        classes: K names; by default the numbers.
        fractions: the shares of the training, validation and test part.
        test: indices of an official test part; ``fractions`` then divides the rest.

    Raises:
        UserError: lengths that differ, labels outside the classes, or a class with fewer than three examples.

    Example:
        >>> import torch
        >>> array_dataset("table", torch.randn(90, 5), torch.arange(90) % 3)
        Dataset('table', 90 examples, 3 classes)
    """
    tensor = torch.as_tensor(inputs).cpu().contiguous()
    numbers = np.asarray(labels).astype(np.int64)
    if numbers.ndim != 1 or len(numbers) != len(tensor) or not len(numbers):
        raise UserError(
            f"inputs have the shape {tuple(tensor.shape)} and labels {numbers.shape}; give [N, ...] and [N], N > 0."
        )
    names = tuple(classes) if classes is not None else tuple(str(k) for k in range(int(numbers.max()) + 1))
    if numbers.min() < 0 or numbers.max() >= len(names):
        raise UserError(f"labels run from {numbers.min()} to {numbers.max()}; they must lie in [0, {len(names)}).")
    check_classes(names, numbers)
    held = ArrayInputs(tensor)
    fingerprint = data_fingerprint(f"{tensor.dtype} {held.fingerprint()}", numbers)
    return Dataset(name, names, held, numbers, fingerprint, fractions, test=test)


def load_array(
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
    named = [labels] if options.get("soft") is None else [labels, options["soft"]]
    options["files"] = names = tuple(f"image {index}" for index in range(len(images)))
    if size is None:
        small = ArrayImages(images)
        return Dataset(name, classes, small, labels, data_fingerprint(small.fingerprint(), *named), **options)
    flat = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    photos, pixels = load_photos(names, partial(_scaled, flat, size), progress)
    return Dataset(name, classes, photos, labels, data_fingerprint(pixels, *named), **options)


def _scaled(images: np.ndarray, size: int, index: int) -> Tensor:
    return decode(Image.fromarray(images[index]), size)
