"""Batches for training and evaluation; a training batch depends on (seed, epoch, example) alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from labelsmooth.data.dataset import Dataset, PhotoImages
from labelsmooth.data.loading import available_cores
from labelsmooth.data.photos import center_crop
from labelsmooth.errors import UserError

CPU_PIXELS = 1 << 20  # of a batch of photos: 16 of 256 x 256


class EpochSampler(Sampler[int]):
    """A new permutation each epoch, from a generator of its own, so that dropout and other draws of random numbers do
    not change the order.  Yields epoch * count + example, from which :class:`Part` seeds the augmentation.

    With ``balanced`` labels each epoch draws the examples anew, with replacement, every class equally often on average.

    With R processes each takes every R-th example of a batch: together they see the batches of a single process.
    """

    def __init__(self, count: int, seed: int, batch_size: int, world: int, balanced: np.ndarray | None = None) -> None:
        self._balanced = balanced
        self._seed = seed
        self._count = count
        self._batch_size, self._world = batch_size, world
        self._epoch = 0
        # An incomplete last batch is dropped: batch normalisation cannot train on a single example.
        self._used = count - count % batch_size if count > batch_size else count - count % world

    def __len__(self) -> int:
        return self._used // self._world

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, including the first after a restart."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._seed, self._epoch))
        if self._balanced is None:
            numbers = self._epoch * self._count + rng.permutation(self._count)[: self._used]
        else:  # one number for each draw, so that an example drawn twice is augmented in two ways
            draws = self._epoch * self._used + np.arange(self._used)
            numbers = draws * self._count + balanced_draw(self._balanced, self._used, rng)
        self._epoch += 1
        rank = torch.distributed.get_rank() if self._world > 1 else 0
        batches = (numbers[start : start + self._batch_size] for start in range(0, self._used, self._batch_size))
        return (int(number) for batch in batches for number in batch[rank :: self._world])


def balanced_draw(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``count`` examples drawn with replacement, each class with the same probability."""
    _, of_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    chances = 1.0 / sizes[of_class]
    return rng.choice(len(labels), count, p=chances / chances.sum())


class Part(TorchDataset[tuple[Tensor, Any]]):
    """The examples of one part of the split, augmented or cropped."""

    def __init__(self, data: Dataset, members: np.ndarray, size: int | None, augment: bool, seed: int = 0) -> None:
        self._data = data
        self._members = members
        self._seed = seed
        self._augmenting = augment and data.augment != "none"
        self._transform = _transform(data, size, self._augmenting)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def augments(self) -> bool:
        return self._augmenting

    @property
    def decodes(self) -> bool:
        """Whether photos are decoded in every epoch, so that worker processes pay off."""
        return isinstance(self._data.images, PhotoImages) and not self._data.images.all_cached

    def __getitem__(self, number: int) -> tuple[Tensor, Any]:
        member = int(self._members[number % len(self._members)])
        image = self._data.images[member]
        if self._augmenting:
            # A seed per draw: independent of the worker that loads it and of the network's random numbers.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((self._seed << 40) + number)
                image = self._transform(image)
        elif self._transform is not None:
            image = self._transform(image)
        target, teacher = self._data.targets[member], self._data.teacher
        return image, target if teacher is None else (target, teacher[member])


def _transform(data: Dataset, size: int | None, augmenting: bool) -> Any:
    if not augmenting:
        return None if size is None else partial(center_crop, side=size)
    import labelsmooth.cpu_torchvision  # noqa: F401  (before torchvision)

    from torchvision.transforms import v2

    if data.augment == "small" and size is None:
        height, width = data.images[0].shape[1:]
        return v2.Compose([v2.RandomCrop((height, width), padding=height // 8), v2.RandomHorizontalFlip()])
    return v2.Compose([v2.RandomResizedCrop(size, scale=(0.35, 1.0), antialias=True), v2.RandomHorizontalFlip()])


def training_batches(
    data: Dataset,
    members: np.ndarray,
    size: int | None,
    batch_size: int,
    seed: int,
    world: int = 1,
    *,
    balanced: bool = False,
) -> DataLoader[Any]:
    """Shuffled, augmented batches of (uint8 images [B, C, H, W], labels [B] or probabilities [B, K]).

    With a teacher, pairs of (labels or probabilities, the teacher's logits [B, K]) stand in place of the labels.

    Args:
        world: the number of processes that share each batch of ``batch_size``.
        balanced: whether each class is drawn equally often.

    Raises:
        UserError: the batch cannot be divided among the processes.
    """
    if batch_size % world:
        raise UserError(f"batch_size={batch_size} cannot be divided among {world} processes; give a multiple.")
    if len(members) < world:
        raise UserError(f"{len(members)} training examples are too few for {world} processes; use fewer --devices.")
    part = Part(data, members, size, augment=True, seed=seed)
    sampler = EpochSampler(len(members), seed, batch_size, world, data.labels[members] if balanced else None)
    return _loader(part, batch_size // world, sampler)


def evaluation_batches(data: Dataset, members: np.ndarray, size: int | None, batch_size: int) -> DataLoader[Any]:
    """Batches of (uint8 images [B, C, H, W], labels [B]) in order, without augmentation."""
    return _loader(Part(data, members, size, augment=False), batch_size)


def evaluation_batch_size(side: int | None, device: torch.device, training: int = 1) -> int:
    """Images at a time where no gradients are kept: 128, or as many as in training; on a CPU fewer large photos.

    There a large batch is no faster: its activations take gigabytes, and their page faults more time than they save.

    Args:
        side: of the photos in pixels; None for small images.
        device: of the network.
        training: the size of a training batch, if there is one.
    """
    if side is None or device.type != "cpu":
        return max(128, training)
    return min(128, max(1, CPU_PIXELS // side**2))


def _loader(part: Part, batch_size: int, sampler: EpochSampler | None = None) -> DataLoader[Any]:
    gpu = torch.cuda.is_available()
    workers = _workers() if part.decodes or (gpu and part.augments) else 0  # a GPU is faster than one core augments
    # By default a loader draws its seed from the global generator, which would change the network's dropout.
    return DataLoader(
        part,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0 and sampler is not None,
        pin_memory=gpu,
        generator=torch.Generator(),
    )


def _workers() -> int:
    """The cores of this process: its share, where several processes train on this machine."""
    return min(16, max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
