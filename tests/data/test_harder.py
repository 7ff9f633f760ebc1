"""Fewer training examples and wrong labels: as many as asked, nested over the levels, in the training part alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelsmooth.data import ArrayImages, Dataset, harder, split_dataset
from labelsmooth.errors import UserError


def dataset(counts: list[int]) -> Dataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = ArrayImages(np.zeros((len(labels), 4, 4), np.uint8))
    return Dataset("d", tuple(map(str, range(len(counts)))), images, labels, "f")


@given(
    st.lists(st.integers(5, 40), min_size=2, max_size=5), st.floats(0.01, 1.0), st.floats(0.0, 0.99), st.integers(0, 9)
)
def test_the_training_part_alone_is_made_harder(counts: list[int], size: float, noise: float, seed: int) -> None:
    data = dataset(counts)
    split = split_dataset(data)
    noisy, fewer = harder(data, split, train_size=size, label_noise=noise, seed=seed)
    assert np.array_equal(fewer.validation, split.validation)
    assert np.array_equal(fewer.test, split.test)
    assert np.isin(fewer.train, split.train).all()
    kept = np.bincount(data.labels[fewer.train], minlength=len(counts))
    whole = np.bincount(data.labels[split.train], minlength=len(counts))
    assert np.array_equal(kept, np.maximum(np.round(size * whole), 1))
    wrong = np.flatnonzero(noisy.labels != data.labels)
    assert np.isin(wrong, fewer.train).all()
    assert len(wrong) == round(noise * len(fewer.train))


def test_levels_are_nested() -> None:
    data = dataset([200, 200, 200])
    split = split_dataset(data)
    few, many = (harder(data, split, train_size=size)[1].train for size in (0.1, 0.5))
    assert np.isin(few, many).all()
    low, high = (harder(data, split, label_noise=noise)[0].labels for noise in (0.2, 0.6))
    wrong = low != data.labels
    assert np.array_equal(low[wrong], high[wrong])
    assert not np.array_equal(low, harder(data, split, label_noise=0.2, seed=1)[0].labels)


def test_wrong_labels_are_each_of_the_others_equally_often() -> None:
    data = dataset([5000, 50, 50, 50])
    split = split_dataset(data)
    noisy, _ = harder(data, split, label_noise=0.6)
    counts = np.bincount(noisy.labels[(noisy.labels != data.labels) & (data.labels == 0)], minlength=4)
    assert counts[0] == 0
    assert counts[1:].min() > 0.9 * counts[1:].mean()


def test_probabilities_are_no_labels_to_replace() -> None:
    data = dataset([20, 20])
    soft = replace(data, soft=np.eye(2, dtype=np.float32)[data.labels])
    with pytest.raises(UserError, match=r"label_noise=0.2 replaces labels, but those of d are probabilities"):
        harder(soft, split_dataset(soft), label_noise=0.2)
