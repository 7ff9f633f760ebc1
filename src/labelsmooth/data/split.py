"""The split into training, validation and test part: stratified, fixed by a seed, with every class in every part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelsmooth.data.dataset import Dataset
from labelsmooth.errors import UserError

__all__ = ["Split", "split_dataset", "stopping_half"]


@dataclass(frozen=True, repr=False)
class Split:
    """The indices of the examples in each part, sorted."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __repr__(self) -> str:
        return f"Split({len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test)"


def split_dataset(data: Dataset, seed: int = 0, limits: tuple[int, int, int] | None = None) -> Split:
    """Split a data set by its ``fractions``, and by its official validation and test part where it has them.

    Args:
        data: the data set; a validation share of 0 gives an empty validation part.
        seed: of the random draw.
        limits: the most examples of training, validation and test; of larger parts a stratified sample is kept.

    Raises:
        UserError: a class is missing from the official test part, or has too few images to split.

    Example:
        >>> from labelsmooth.data import load_dataset
        >>> split_dataset(load_dataset("digits"), seed=0)
        Split(719 training, 359 validation, 719 test)
    """
    rng = np.random.default_rng(seed)
    indices = np.arange(len(data.labels))
    train_share, validation_share, test_share = data.fractions
    if data.test is None:
        rest, test = _divide(indices, data.labels, test_share, rng)
    else:
        test = np.sort(data.test)
        rest = np.setdiff1d(indices, test)
    train, validation = rest, np.empty(0, np.int64)
    if data.validation is not None:
        train, validation = np.setdiff1d(rest, data.validation), np.sort(data.validation)
    elif validation_share:
        train, validation = _divide(rest, data.labels, validation_share / (train_share + validation_share), rng)
    parts = [train, validation, test]
    if limits is not None:
        parts = [_sample(part, data.labels, limit, rng) for part, limit in zip(parts, limits, strict=True)]
    split = Split(*parts)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if name == "validation" and data.validation is None and not validation_share:
            continue
        missing = np.setdiff1d(np.arange(len(data.classes)), data.labels[part])
        if len(missing):
            raise UserError(
                f"The {name} part has no image of {len(missing)} classes, among them {data.classes[missing[0]]!r}; "
                "every class must be in every part. Add images of it or remove the class."
            )
    return split


def stopping_half(labels: np.ndarray) -> np.ndarray:
    """Which of the validation examples choose the epoch under early stopping: every second one of each class, [n] bool.

    The other half is left for calibrators, whose rows must not have chosen the weights.
    """
    order = np.argsort(labels, kind="stable")
    chosen = np.zeros(len(labels), bool)
    chosen[order[::2]] = True
    return chosen


def _divide(
    members: np.ndarray, labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take a share of each class, at least one example and never all.  (scikit-learn's stratified split may leave a
    small class out of a part.)"""
    kept, taken = [], []
    for label in np.unique(labels[members]):
        of_class = rng.permutation(members[labels[members] == label])
        count = min(max(1, round(share * len(of_class))), len(of_class) - 1)
        taken.append(of_class[:count])
        kept.append(of_class[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(taken))


def _sample(members: np.ndarray, labels: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """At most ``limit`` of the members, stratified."""
    if len(members) <= limit:
        return members
    return _divide(members, labels, limit / len(members), rng)[1]
