"""The split into training, validation and test: stratified, fixed by a seed, with every class in every part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelsmooth.data.dataset import Dataset
from labelsmooth.errors import UserError

__all__ = ["Split", "split_dataset"]


@dataclass(frozen=True)
class Split:
    """The numbers of the examples in each part, sorted."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_dataset(data: Dataset, seed: int, limits: tuple[int, int, int] | None = None) -> Split:
    """Split a data set; ``limits`` keeps a stratified sample of at most so many examples of each part.  A validation
    share of 0 leaves that part empty.

    Raises:
        UserError: a class is missing from the official test part, or has too few images to split.
    """
    rng = np.random.default_rng(seed)
    everything = np.arange(len(data.labels))
    train_share, validation_share, test_share = data.fractions
    if data.test is None:
        rest, test = _divide(everything, data.labels, test_share, rng)
    else:
        test = np.sort(data.test)
        rest = np.setdiff1d(everything, test)
    train, validation = rest, np.empty(0, np.int64)
    if validation_share:
        train, validation = _divide(rest, data.labels, validation_share / (train_share + validation_share), rng)
    parts = [train, validation, test]
    if limits is not None:
        parts = [_sample(part, data.labels, limit, rng) for part, limit in zip(parts, limits, strict=True)]
    split = Split(*parts)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if name == "validation" and not validation_share:
            continue
        missing = np.setdiff1d(np.arange(len(data.classes)), data.labels[part])
        if len(missing):
            raise UserError(
                f"The {name} part has no image of {len(missing)} classes, among them {data.classes[missing[0]]!r}; "
                "every class must be in every part. Add images of it or remove the class."
            )
    return split


def _divide(
    members: np.ndarray, labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take a share of each class, at least one and never all.  (scikit-learn's stratified split may leave a small
    class out of a part altogether.)"""
    kept, taken = [], []
    for label in np.unique(labels[members]):
        ours = rng.permutation(members[labels[members] == label])
        count = min(max(1, round(share * len(ours))), len(ours) - 1)
        taken.append(ours[:count])
        kept.append(ours[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(taken))


def _sample(members: np.ndarray, labels: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """At most ``limit`` of the members, stratified."""
    if len(members) <= limit:
        return members
    return _divide(members, labels, limit / len(members), rng)[1]
