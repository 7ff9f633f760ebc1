"""Fewer training examples and wrong labels: as many as asked, nested over the levels, in the training part alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from labelsmooth.data import ArrayImages, Dataset, harder, load_noise_matrix, split_dataset
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


def test_a_matrix_says_which_labels_are_wrong_and_how() -> None:
    data = dataset([4000, 2000, 2000])
    split = split_dataset(data)
    matrix = np.array([[0.6, 0.3, 0.1], [0.0, 1.0, 0.0], [0.2, 0.0, 0.8]])
    shares = np.bincount(data.labels[split.train]) / len(split.train)
    own = float(shares @ (1 - np.diag(matrix)))
    noisy, _ = harder(data, split, label_noise=own, noise_matrix=matrix)
    drawn = confusion_matrix(data.labels[split.train], noisy.labels[split.train], normalize="true")
    assert np.allclose(drawn, matrix, atol=0.03)
    counts, _ = harder(data, split, label_noise=own, noise_matrix=(1000 * matrix).tolist())
    assert np.array_equal(counts.labels, noisy.labels), "counts of one sum mean the same as shares"
    low, _ = harder(data, split, label_noise=own / 2, noise_matrix=matrix)
    wrong = low.labels != data.labels
    assert wrong.sum() == round(own / 2 * len(split.train))
    assert np.array_equal(low.labels[wrong], noisy.labels[wrong]), "levels are nested"
    assert np.array_equal(np.delete(noisy.labels, split.train), np.delete(data.labels, split.train))


def test_a_matrix_that_does_not_fit() -> None:
    data = dataset([100, 100, 100])
    split = split_dataset(data)
    with pytest.raises(UserError, match="noise_matrix is of 2 classes, but d has 3"):
        harder(data, split, label_noise=0.1, noise_matrix=[[9, 1], [1, 9]])
    one = [[5, 5, 0], [0, 10, 0], [0, 0, 10]]
    assert (harder(data, split, label_noise=0.3, noise_matrix=one)[0].labels != data.labels).sum() == 54
    with pytest.raises(UserError, match=r"label_noise=0.34 leaves no right label of the class '0'.*less than 0.333"):
        harder(data, split, label_noise=0.34, noise_matrix=one)


def test_a_matrix_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "confusion.csv"
    file.write_text("8,2\n0,10\n")
    assert load_noise_matrix(file) == load_noise_matrix(np.array([[8, 2], [0, 10]])) == ((8.0, 2.0), (0.0, 10.0))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cat,dog\n8,2\n0,10\n", "confusion.csv cannot be read as a confusion matrix.*without headings"),
        ("8,2\n", r"is of shape \(1, 2\); give K rows of K numbers"),
        ("8,-2\n0,10\n", "must hold finite numbers of at least 0"),
        ("8,2\n0,0\n", "in each row one above 0"),
        ("8,0\n0,10\n", "has no wrong label"),
    ],
)
def test_a_file_that_is_no_matrix(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "confusion.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_noise_matrix(file)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lost.csv is no file that can be read"):
        load_noise_matrix(tmp_path / "lost.csv")
