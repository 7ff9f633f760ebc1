"""A labelled set of images in memory or on disk, all of one shape once loaded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.data.photos import BadPhoto
from labelsmooth.data.problems import listed
from labelsmooth.errors import UserError, shown
from labelsmooth.files import disk_errors

CACHE_BYTES = 4 << 30  # of decoded photos; the rest are decoded each time they are read


class Images(Protocol):
    """Images by index, each uint8 of shape [C, H, W]; or, for a network of the user's own, inputs of any one shape."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Tensor: ...


class ArrayInputs:
    """Inputs of any shape in one tensor, [N, ...]: rows of a table, word numbers, images as a network takes them."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.tensor.shape)}, {self.tensor.dtype})"

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensor[index]

    def fingerprint(self) -> str:
        """A hash of shape and values."""
        return hashlib.sha256(str(tuple(self.tensor.shape)).encode() + self.tensor.numpy().tobytes()).hexdigest()


class ArrayImages(ArrayInputs):
    """Small images in one array, [N, H, W] or [N, H, W, C] uint8."""

    def __init__(self, array: np.ndarray) -> None:
        array = array[..., None] if array.ndim == 3 else array
        super().__init__(torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2))))


class PhotoImages:
    """Photos decoded on demand by ``decode(index)`` and cached up to CACHE_BYTES."""

    def __init__(self, names: Sequence[str], decode: Callable[[int], Tensor]) -> None:
        self._names = names
        self._decode = decode
        self._cache: list[Tensor | None] = [None] * len(names)
        self._bytes = 0
        self._file: Path | None = None

    def __len__(self) -> int:
        return len(self._cache)

    def __getitem__(self, index: int) -> Tensor:
        image = self._cache[index]
        if image is None:
            try:
                image = self._decode(index)
            except BadPhoto as error:
                raise UserError(
                    f"{shown(self._names[index])} cannot be read any more ({error.reason}); do not change the data "
                    "while a training or study runs."
                ) from error
            self.keep(index, image)
        return image

    def keep(self, index: int, image: Tensor) -> None:
        """Cache a decoded image, up to the limit."""
        if self._bytes + image.nbytes <= CACHE_BYTES:
            self._cache[index] = image
            self._bytes += image.nbytes

    @contextlib.contextmanager
    def shared(self, path: Path) -> Iterator[None]:
        """Within the block, the cached images are in a new file: pickled copies of this object map it into memory, so
        that several processes hold the images once."""
        with disk_errors(path), path.open("xb") as file:
            for image in self._cache:
                if image is not None:
                    file.write(image.contiguous().numpy().data)
        self._file = path
        try:
            yield
        finally:
            self._file = None
            path.unlink()

    def __getstate__(self) -> dict[str, object]:
        if self._file is None:
            return self.__dict__
        return {**self.__dict__, "_cache": [None if image is None else image.shape for image in self._cache]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self._file is None:
            return
        flat = torch.from_file(str(self._file), shared=False, size=self._bytes, dtype=torch.uint8)
        shapes, offset = state["_cache"], 0
        for index, shape in enumerate(shapes):
            if shape is not None:
                self._cache[index] = flat[offset : offset + shape.numel()].view(shape)
                offset += shape.numel()
        self._file = None

    @property
    def all_cached(self) -> bool:
        return all(image is not None for image in self._cache)


@dataclass(frozen=True, repr=False)
class Dataset:
    """A labelled set of images.

    Args:
        name: for messages and records.
        classes: the names of the K classes.
        images: N images, uint8 [C, H, W].
        labels: [N] int64, each in [0, K).
        fingerprint: a hash of pixels and labels.
        soft: [N, K] float32 probabilities to train on in place of the labels, which are then their largest, or None.
        teacher: [N, K] float32 logits of a teacher, to train a student on beside the labels; only those of the training
            part are read.
        fractions: the shares of the training, validation and test part; with an official test part, of training and
            validation only.
        validation, test: the indices of the official validation and test part, or None where there is none.
        augment: the augmentation in training: none, for small images (shift and flip), or for photos (random crops).
        files: the name of each example, by its path within the data folder or by its index.
        skipped: what was left out and why, as "cat/1.jpg (empty file)".
        notes: what else the user should know, in sentences.
    """

    name: str
    classes: tuple[str, ...]
    images: Images
    labels: np.ndarray
    fingerprint: str
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    validation: np.ndarray | None = None
    test: np.ndarray | None = None
    soft: np.ndarray | None = None
    teacher: np.ndarray | None = None
    augment: Literal["none", "small", "photo"] = "none"
    files: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kind = "examples" if type(self.images) is ArrayInputs else "images"
        return f"Dataset({self.name!r}, {len(self.labels)} {kind}, {len(self.classes)} classes)"

    @property
    def remarks(self) -> list[str]:
        """What was left out, and what else the user should know, in sentences."""
        files = f"{len(self.skipped)} file{'s' * (len(self.skipped) != 1)}"
        return [*([f"{files} left out: {listed(self.skipped)}."] if self.skipped else []), *self.notes]

    @property
    def targets(self) -> np.ndarray:
        """What to train on: the labels [N], or the probabilities [N, K]."""
        return self.labels if self.soft is None else self.soft

    @property
    def photos(self) -> bool:
        return isinstance(self.images, PhotoImages)


def check_classes(classes: tuple[str, ...], labels: np.ndarray) -> None:
    """Raise a UserError unless there are two classes or more, each with enough images for three parts."""
    sentence = class_count(classes) or too_few(classes, np.bincount(labels, minlength=len(classes)))
    if sentence:
        raise UserError(sentence)


def class_count(classes: tuple[str, ...]) -> str:
    """What to say where there are fewer than two classes; empty where there are enough."""
    if len(classes) >= 2:
        return ""
    present = f"one class only, {classes[0]!r}" if classes else "no class"
    return (
        f"The data has {present}; a classifier needs at least 2. Of a folder of photos, is DATA the folder above the "
        "class folders?"
    )


def too_few(classes: tuple[str, ...], counts: npt.ArrayLike) -> str:
    """What to say where a class has fewer than three images; empty where all have enough."""
    counts = np.asarray(counts)
    few = [f"{classes[k]!r} has {counts[k]}" for k in np.flatnonzero(counts < 3)]
    if not few:
        return ""
    more = f" and {len(few) - 5} more classes have fewer than 3" if len(few) > 5 else ""
    return (
        "Each class needs at least 3 images, one each for training, validation and test: "
        f"{', '.join(few[:5])}{more}. Add images or remove the class."
    )
