"""Photos decoded once, all of them, before training starts: checked, hashed, and kept while there is room."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from labelsmooth.data.dataset import ArrayImages, Dataset, PhotoImages, too_few
from labelsmooth.data.folder import PhotoFile
from labelsmooth.data.photos import EXTENSIONS, BadPhoto, Photo, decode, pillow_quiet, read_photo
from labelsmooth.data.problems import Problems, listed
from labelsmooth.errors import shown
from labelsmooth.progress import Progress

__all__ = ["data_fingerprint", "load_array", "load_files", "load_photos"]

Result = TypeVar("Result")


def load_files(
    name: str,
    classes: tuple[str, ...],
    files: list[PhotoFile],
    size: int,
    progress: Progress,
    problems: Problems,
    *,
    official: bool,
    published: bool = False,
    notes: Sequence[str] = (),
) -> Dataset:
    """Decode every file once and make a data set of them.

    Args:
        official: whether the files have a test part of their own.
        published: the data set is as others know it: photos that are in it twice are said, not refused.

    Raises:
        UserError: everything that is wrong with the files, and what ``problems`` held before.
    """
    images = PhotoImages([file.name for file in files], partial(_pixels, files, size))
    pixels = hashlib.sha256()
    digests: dict[int, bytes] = {}
    renamed = []
    with pillow_quiet():
        for index, photo in enumerate(_in_order(partial(_try_photo, files, size), len(files))):
            if isinstance(photo, BadPhoto):
                problems.add(photo.kind, files[index].name, photo.reason)
            else:
                images.keep(index, photo.pixels)
                pixels.update(photo.pixels.numpy().data)
                digests[index] = photo.digest
                if photo.format != EXTENSIONS.get(files[index].path.suffix.lower()):
                    renamed.append(f"{shown(files[index].name)} ({photo.format})")
            progress.photos(index + 1, len(files))
    copies = _copies(files, digests)
    said = [*notes]
    if renamed:
        said.append(f"Read as what they are, not as what their extension says: {listed(renamed)}.")
    if published:
        pairs = [f"{shown(files[group[0]].name)} = {shown(files[group[-1]].name)}" for group in copies]
        said += [f"In the published data twice, and kept so: {listed(pairs)}."] if pairs else []
        dropped: set[int] = set()
    else:
        dropped = {number for group in copies for number in _judge(files, group, official, problems, said)}
    problems.raise_all()

    kept = [index for index in sorted(digests) if index not in dropped]
    labels = np.array([files[index].label for index in kept], np.int64)
    # Only now, and only of what is left: without --skip-corrupt the scan has counted.
    left_out = f" Left out were: {listed(problems.skipped)}." if problems.skipped else ""
    few = too_few(classes, np.bincount(labels, minlength=len(classes)))
    if few:
        problems.add("counts", few + left_out)
        problems.raise_all()
    if not len(labels):
        problems.add("structure", "There is no image in the class folders: add some." + left_out)
        problems.raise_all()
    fingerprint = pixels.hexdigest()
    if len(kept) < len(files):
        left = [files[index] for index in kept]
        fewer = PhotoImages([file.name for file in left], partial(_pixels, left, size))
        pixels = hashlib.sha256()
        for number, index in enumerate(kept):
            fewer.keep(number, images[index])
            pixels.update(fewer[number].numpy().data)
        images, files, fingerprint = fewer, left, pixels.hexdigest()
    return Dataset(
        name,
        classes,
        images,
        labels,
        data_fingerprint(fingerprint, labels),
        test=np.flatnonzero([file.test for file in files]) if official else None,
        augment="photo",
        files=tuple(file.name for file in files),
        skipped=tuple(problems.skipped),
        notes=tuple(said),
    )


def load_photos(names: Sequence[str], decode: Callable[[int], Tensor], progress: Progress) -> tuple[PhotoImages, str]:
    """Images that are no files, decoded once: for the cache, and for the fingerprint of the pixels."""
    images = PhotoImages(names, decode)
    pixels = hashlib.sha256()
    for index, image in enumerate(_in_order(decode, len(names))):
        images.keep(index, image)
        pixels.update(image.numpy().data)
        progress.photos(index + 1, len(names))
    return images, pixels.hexdigest()


def data_fingerprint(pixels: str, labels: np.ndarray) -> str:
    """What names a data set: a hash of its pixels' hash and its labels."""
    return hashlib.sha256(pixels.encode() + labels.tobytes()).hexdigest()[:16]


def _pixels(files: list[PhotoFile], size: int, index: int) -> Tensor:
    return read_photo(files[index].path, size).pixels


def _try_photo(files: list[PhotoFile], size: int, index: int) -> Photo | BadPhoto:
    try:
        return read_photo(files[index].path, size)
    except BadPhoto as error:
        return error


def _in_order(function: Callable[[int], Result], count: int) -> Iterator[Result]:
    """function(0), function(1), ... computed a little ahead by threads (Pillow decodes without the interpreter's
    lock); no more than a few results wait, and an interrupt drops them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(8, cores)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="photos") as pool:
        try:
            for index in range(count):
                waiting.append(pool.submit(function, index))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _copies(files: list[PhotoFile], digests: dict[int, bytes]) -> list[list[int]]:
    """The groups of photos whose files are the same byte for byte."""
    groups: dict[bytes, list[int]] = {}
    for index, digest in digests.items():
        groups.setdefault(digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _judge(files: list[PhotoFile], group: list[int], official: bool, problems: Problems, notes: list[str]) -> list[int]:
    """Report copies of a photo; returns those to leave out, where problems are left out.

    Of two classes neither is known to be right: all copies go.  Of a photo in both parts the training copies go, so
    that the test stays what it is.  Of copies within one part the first stays; within an official test part all do.
    """
    test = [index for index in group if files[index].test]
    train = [index for index in group if not files[index].test]
    if len({files[index].label for index in group}) > 1:
        kind, drop = "classes", group
    elif test and train:
        kind, drop = "parts", train
    elif train:
        kind, drop = "copies", train[1:]
    else:
        notes.append(f"The test part has a photo more than once: {' = '.join(shown(files[i].name) for i in group)}.")
        return []
    problems.add_group(kind, [files[index].name for index in group], [files[index].name for index in drop])
    return drop


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
    options["files"] = names = tuple(f"image {index}" for index in range(len(images)))
    if size is None:
        small = ArrayImages(images)
        return Dataset(name, classes, small, labels, data_fingerprint(small.fingerprint(), labels), **options)
    flat = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    photos, pixels = load_photos(names, partial(_scaled, flat, size), progress)
    return Dataset(name, classes, photos, labels, data_fingerprint(pixels, labels), **options)


def _scaled(images: np.ndarray, size: int, index: int) -> Tensor:
    return decode(Image.fromarray(images[index]), size)
