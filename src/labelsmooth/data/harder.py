"""A data set made harder on purpose: fewer training examples, and wrong labels among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labelsmooth.data.dataset import Dataset
from labelsmooth.data.split import Split
from labelsmooth.errors import UserError

__all__ = ["harder"]


def harder(
    data: Dataset, split: Split, *, train_size: float = 1.0, label_noise: float = 0.0, seed: int = 0
) -> tuple[Dataset, Split]:
    """Keep a share of the training part, and replace a share of its labels by another class's.

    Validation and test part stay as they are.  Both draws are nested: with the same seed a smaller part lies within a
    larger one, and a label that is wrong at a low level is wrong in the same way at every higher one.

    Args:
        data, split: the data set and its parts.
        train_size: share of the training examples of each class that is kept, in (0, 1]; at least one of each class.
        label_noise: share of the kept labels that are replaced by one of the K - 1 others, each as likely as the others
            (symmetric noise), in [0, 1].
        seed: of both draws.

    Raises:
        UserError: label noise for labels that are probabilities.

    Example:
        >>> from labelsmooth.data import load_dataset, split_dataset
        >>> data = load_dataset("digits")
        >>> split = split_dataset(data)
        >>> noisy, fewer = harder(data, split, train_size=0.5, label_noise=0.2)
        >>> fewer
        Split(358 training, 359 validation, 719 test)
        >>> int((noisy.labels != data.labels).sum())
        72
    """
    if train_size < 1:
        rng = np.random.default_rng((seed, 1))
        kept = []
        for label in np.unique(data.labels[split.train]):
            members = rng.permutation(split.train[data.labels[split.train] == label])
            kept.append(members[: max(1, round(train_size * len(members)))])
        split = replace(split, train=np.sort(np.concatenate(kept)))
    if label_noise > 0:
        if data.soft is not None:
            raise UserError(f"label_noise={label_noise} replaces labels, but those of {data.name} are probabilities.")
        rng = np.random.default_rng((seed, 2))
        wrong = rng.permutation(split.train)[: round(label_noise * len(split.train))]
        shifts = rng.integers(1, len(data.classes), len(split.train))[: len(wrong)]
        labels = data.labels.copy()
        labels[wrong] = (labels[wrong] + shifts) % len(data.classes)
        data = replace(data, labels=labels)
    return data, split
