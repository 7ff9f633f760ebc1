"""Batches that are the same for every method of a seed: they depend on (seed, epoch, example) alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

import labelsmooth._torchvision  # noqa: F401  (before torchvision)
from labelsmooth.study.data.dataset import Dataset, PhotoImages

__all__ = ["evaluation_batches", "training_batches"]


class EpochSampler(Sampler[int]):
    """A fresh permutation each epoch, from a generator of its own: a method that draws random numbers, as dropout
    does, must not change the order.  The number that it yields holds the epoch too, epoch * n + example."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(self._count)
        start = self._epoch * self._count
        self._epoch += 1
        return iter((start + order).tolist())


class Part(TorchDataset[tuple[Tensor, int]]):
    """The examples of one part, transformed."""

    def __init__(self, data: Dataset, members: np.ndarray, size: int | None, augment: bool, seed: int = 0) -> None:
        self._data = data
        self._members = members
        self._seed = seed
        self._augmenting = augment and data.augment != "none"
        self._transform = _transform(data, size, self._augmenting)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        member = int(self._members[number % len(self._members)])
        image = self._data.images[member]
        if self._augmenting:
            # Seeded for each draw, in a fork, so that neither workers nor the network's own random numbers matter.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((self._seed << 40) + number)
                image = self._transform(image)
        elif self._transform is not None:
            image = self._transform(image)
        return image, int(self._data.labels[member])


def _transform(data: Dataset, size: int | None, augmenting: bool) -> Any:
    if size is None and not augmenting:
        return None
    from torchvision.transforms import v2

    if not augmenting:
        return v2.CenterCrop(size)
    if data.augment == "small" and size is None:
        height, width = data.images[0].shape[1:]
        return v2.Compose([v2.RandomCrop((height, width), padding=height // 8), v2.RandomHorizontalFlip()])
    return v2.Compose([v2.RandomResizedCrop(size, scale=(0.35, 1.0), antialias=True), v2.RandomHorizontalFlip()])


def training_batches(
    data: Dataset, members: np.ndarray, size: int | None, batch_size: int, seed: int
) -> DataLoader[Any]:
    """Shuffled, augmented batches of (uint8 images [B, C, H, W], labels [B]); an odd last one is dropped, because
    batch normalisation cannot train on a single example."""
    part = Part(data, members, size, augment=True, seed=seed)
    drop_last = len(members) > batch_size
    return DataLoader(
        part, batch_size, sampler=EpochSampler(len(members), seed), drop_last=drop_last, num_workers=_workers(data)
    )


def evaluation_batches(data: Dataset, members: np.ndarray, size: int | None, batch_size: int) -> DataLoader[Any]:
    """Batches in order, not augmented."""
    part = Part(data, members, size, augment=False)
    return DataLoader(part, batch_size, num_workers=_workers(data))


def _workers(data: Dataset) -> int:
    """Worker processes only where photos are decoded again and again."""
    if isinstance(data.images, PhotoImages) and not data.images.all_cached:
        return min(8, os.cpu_count() or 1)
    return 0
