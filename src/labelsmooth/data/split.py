"""The split into training, validation and test part, stratified and fixed by a seed; and a harder training part."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelsmooth.data.dataset import Dataset
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath

NoiseMatrix: TypeAlias = "Sequence[Sequence[float]] | NDArray[np.floating | np.integer]"
"""[K, K]: of the labels of each class (row), the share or the count that becomes each class (column)."""


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


def load_noise_matrix(source: StrPath | NoiseMatrix) -> tuple[tuple[float, ...], ...]:
    """A confusion matrix of labels [K, K]: how often each right class (row) is labelled as each class (column).

    Args:
        source: the matrix, or a CSV file of K lines of K numbers, without headings.

    Raises:
        UserError: the file cannot be read; the matrix is not square; a number is negative or not finite; a row is all
            zeros; or no number stands beside the diagonal.

    Example:
        >>> load_noise_matrix([[8, 2], [0, 10]])
        ((8.0, 2.0), (0.0, 10.0))
    """
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "noise_matrix"
    try:
        if isinstance(source, str | os.PathLike):
            matrix = np.loadtxt(source, delimiter=",", ndmin=2)
        else:
            matrix = np.asarray(source, float)
    except OSError:
        raise UserError(f"{name} is no file that can be read; give the CSV file of a confusion matrix.") from None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{name} cannot be read as a confusion matrix: {error}. Give K lines of K numbers with commas between "
            "them, without headings: a line for each right class."
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UserError(f"{name} is of shape {matrix.shape}; give K rows of K numbers, one row for each right class.")
    if not np.isfinite(matrix).all() or (matrix < 0).any() or (matrix.sum(1) == 0).any():
        raise UserError(f"{name} must hold finite numbers of at least 0, and in each row one above 0.")
    if not (matrix.sum(1) - np.diag(matrix)).any():
        raise UserError(f"{name} has no wrong label: every number beside the diagonal is 0.")
    return tuple(map(tuple, matrix.tolist()))


def harder(
    data: Dataset,
    split: Split,
    *,
    train_size: float = 1.0,
    label_noise: float = 0.0,
    noise_matrix: NoiseMatrix | None = None,
    seed: int = 0,
) -> tuple[Dataset, Split]:
    """Keep a share of the training part, and replace a share of its labels by another class's.

    Validation and test part stay as they are.  Both draws are nested: with the same seed a smaller part lies within a
    larger one, and a label that is wrong at a low level is wrong in the same way at every higher one.

    Args:
        data, split: the data set and its parts.
        train_size: share of the training examples of each class that is kept, in (0, 1]; at least one of each class.
        label_noise: share of the kept labels that are replaced by one of the K - 1 others, in [0, 1]; each as likely as
            the others (symmetric noise) without a matrix.
        noise_matrix: [K, K], how often each right class (row) is labelled as each class (column), in counts or shares.
            With the row's shares T[i, j], a label of class i is wrong with a probability proportional to 1 - T[i, i],
            and then j with the probability T[i, j] / (1 - T[i, i]).  Where ``label_noise`` is the matrix's own share of
            wrong labels, T is the noise (Patrini et al. 2017).
        seed: of both draws.

    Raises:
        UserError: label noise for labels that are probabilities, a matrix of another size, or a share of wrong labels
            that would leave a class without a right one.

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
        count = round(label_noise * len(split.train))
        labels = data.labels.copy()
        if noise_matrix is None:
            wrong = rng.permutation(split.train)[:count]
            shifts = rng.integers(1, len(data.classes), len(split.train))[:count]
            labels[wrong] = (labels[wrong] + shifts) % len(data.classes)
        else:
            chosen, drawn = _confused(data, split, label_noise, noise_matrix, rng)
            labels[chosen[:count]] = drawn[:count]
        data = replace(data, labels=labels)
    return data, split


def _confused(
    data: Dataset, split: Split, label_noise: float, noise_matrix: NoiseMatrix, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The training examples in the order in which they become wrong, and the wrong label of each, by a matrix."""
    shares = np.array(noise_matrix, float)
    if len(shares) != len(data.classes):
        raise UserError(f"noise_matrix is of {len(shares)} classes, but {data.name} has {len(data.classes)}.")
    shares /= shares.sum(1, keepdims=True)
    np.fill_diagonal(shares, 0)
    cumulative = shares.cumsum(1)
    labels, error = data.labels[split.train], cumulative[:, -1]
    most = error[labels].mean() / error.max()
    if label_noise >= most:
        raise UserError(
            f"label_noise={label_noise:g} leaves no right label of the class {data.classes[error.argmax()]!r}, which "
            f"the noise matrix makes wrong most often; give less than {most:.3g}."
        )
    # An example is wrong from the level that is proportional to its threshold, so that levels are nested.
    thresholds, targets = rng.random(len(labels)), rng.random(len(labels))
    order = np.argsort(thresholds / np.maximum(error[labels], np.finfo(float).tiny), kind="stable")
    drawn = labels.copy()
    for label in np.flatnonzero(error):
        members = labels == label
        drawn[members] = np.searchsorted(cumulative[label], targets[members] * error[label], side="right")
    return split.train[order], drawn[order]


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
