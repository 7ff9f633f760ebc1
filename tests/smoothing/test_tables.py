"""Smoothing towards tables: class matrices and priors, how they are made, and the errors for bad ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from labelsmooth.smoothing import ClassMatrix, Prior, ordinal

BAD_MATRICES = {
    "not square": (torch.ones(2, 3), r"matrix has shape \(2, 3\); it must be square"),
    "not a matrix": (torch.ones(4), r"matrix has shape \(4,\); it must be square"),
    "empty": (torch.ones(0, 0), "it must be square"),
    "negative": (torch.tensor([[1.0, 0.0], [-0.5, 1.5]]), r"matrix holds -0.5 at \(1, 0\); it may hold no negative"),
    "NaN": (torch.tensor([[1.0, 0.0], [0.0, torch.nan]]), r"matrix holds nan at \(1, 1\); it may hold neither NaN"),
    "infinite": (torch.tensor([[1.0, torch.inf], [0.0, 1.0]]), r"matrix holds inf at \(0, 1\)"),
    "a row of sum 0": (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "row 1 of matrix sums to 0"),
}


@pytest.mark.parametrize(("matrix", "sentence"), BAD_MATRICES.values(), ids=BAD_MATRICES)
def test_a_bad_matrix_raises(matrix, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        ClassMatrix(0.1, matrix)


def test_a_matrix_of_words_raises() -> None:
    with pytest.raises(TypeError, match="matrix is a list that is not a table of numbers"):
        ClassMatrix(0.1, [["a", "b"], ["c", "d"]])


def test_a_matrix_for_other_classes_raises() -> None:
    with pytest.raises(ValueError, match=r"matrix has shape \(3, 3\), but the input has 4 classes"):
        ClassMatrix(0.1, ordinal(3))(torch.tensor([0]), num_classes=4)


def test_matrix_rows_are_scaled_to_one() -> None:
    policy = ClassMatrix(1.0, [[3, 1], [0, 2]])
    assert policy.matrix.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert policy.matrix.dtype == torch.float32


class Pairs(Dataset):
    def __init__(self, labels):
        self.items = [(None, label) for label in labels]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class TestPrior:
    def test_from_counts_labels_and_datasets(self) -> None:
        labels = torch.tensor([0, 2, 2, 2])
        expected = [0.25, 0.0, 0.75]
        assert Prior(0.1, torch.bincount(labels)).prior.tolist() == expected
        assert Prior(0.1, np.array([1.0, 0.0, 3.0])).prior.tolist() == expected
        assert Prior.from_labels(0.1, labels, 3).prior.tolist() == expected
        assert Prior.from_labels(0.1, labels.tolist(), 3).prior.tolist() == expected
        assert Prior.from_dataset(0.1, Pairs([0, 2, 2, 2]), 3).prior.tolist() == expected
        assert Prior.from_dataset(0.1, TensorDataset(torch.zeros(4), labels), 3).prior.tolist() == expected
        held = Pairs([])
        held.targets = [0, 2, 2, 2]
        assert Prior.from_dataset(0.1, held, 3).prior.tolist() == expected
        assert Prior.from_labels(0.1, labels, 3, pseudocount=1.0).prior.tolist() == pytest.approx([2 / 7, 1 / 7, 4 / 7])

    def test_an_array_stays_in_the_precision_of_the_model(self) -> None:
        assert Prior(0.1, np.ones(3)).prior.dtype == torch.float32
        assert Prior(0.1, torch.ones(3, dtype=torch.float64)).prior.dtype == torch.float64

    @pytest.mark.parametrize(
        ("prior", "sentence"),
        [
            ([0.5, -0.5], "prior holds -0.5 at 1; it may hold no negative"),
            ([0.5, float("nan")], "prior holds nan at 1"),
            ([0.0, 0.0], "prior sums to 0"),
            (torch.ones(2, 2), r"prior has shape \(2, 2\); it must be \[K\]"),
            ([], r"prior"),
        ],
    )
    def test_a_bad_prior_raises(self, prior, sentence) -> None:
        with pytest.raises(ValueError, match=sentence):
            Prior(0.1, prior)

    def test_a_prior_of_the_wrong_length_raises(self) -> None:
        with pytest.raises(ValueError, match="prior has 3 entries, but the input has 4 classes"):
            Prior(0.1, [1, 1, 1])(torch.tensor([0]), num_classes=4)

    def test_bad_labels_raise(self) -> None:
        with pytest.raises(ValueError, match=r"between -100 and 2; give integers in \[0, 3\)"):
            Prior.from_labels(0.1, torch.tensor([-100, 2]), 3)
        with pytest.raises(ValueError, match="prior sums to 0"):
            Prior.from_labels(0.1, [], 3)
