"""The makers of class matrices and priors: their formulas by hand, and the errors for bad inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from labelsmooth.smoothing import ClassMatrix, Prior, confusion, embeddings, gaussian, ordinal, taxonomy

TREE = {"cat": "animal", "dog": "animal", "oak": "plant", "animal": "living", "plant": "living", "car": "root"}
TREE |= {"living": "root"}
CLASSES = ["cat", "dog", "oak", "car"]


def softmax(*scores: float) -> list[float]:
    total = sum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


class TestOrdinal:
    def test_by_hand(self) -> None:
        assert ordinal(4, sharpness=2.0)[1].tolist() == pytest.approx(softmax(-2, 0, -2, -4))
        assert ordinal([1, 2, 4], distance="squared")[0].tolist() == pytest.approx(softmax(0, -1, -9))
        assert ordinal([1.0, 10.0, 100.0], distance="log")[0].tolist() == pytest.approx(
            softmax(0, -math.log(10), -math.log(100))
        )

        assert ordinal([1.0, 10.0, 100.0], distance="squared_log")[0].tolist() == pytest.approx(
            softmax(0, -(math.log(10) ** 2), -(math.log(100) ** 2))
        )

    def test_gaussian_is_the_normal_density_renormalised(self) -> None:
        density = [math.exp(-0.5 * ((k - 2) / 1.5) ** 2) for k in range(5)]
        assert gaussian(5, sigma=1.5)[2].tolist() == pytest.approx([d / sum(density) for d in density])

    def test_float64_ranks_give_float64(self) -> None:
        assert ordinal(torch.arange(1.0, 4.0, dtype=torch.float64)).dtype == torch.float64

    @pytest.mark.parametrize(
        ("call", "sentence"),
        [
            (lambda: ordinal(0), "classes=0; give the number of classes"),
            (lambda: ordinal(3, distance="cubic"), "distance='cubic' is unknown"),
            (lambda: ordinal(3, sharpness=0.0), "sharpness=0.0 must be a finite number above 0"),
            (lambda: ordinal([0.0, 1.0], distance="log"), "needs positive ranks, and the smallest is 0.0"),
            (lambda: ordinal([1.0, float("nan")]), "finite rank of each class"),
            (lambda: gaussian(3, sigma=-1.0), "sigma=-1.0 must be"),
        ],
    )
    def test_errors(self, call, sentence) -> None:
        with pytest.raises(ValueError, match=sentence):
            call()


class TestTaxonomy:
    def test_by_hand(self) -> None:
        # heights: animal and plant 1, living 2, root 3; so cat-dog 1/3, cat-oak 2/3, cat-car 1.
        table = taxonomy(TREE, CLASSES, beta=6.0)
        assert table[0].tolist() == pytest.approx(softmax(0, -2, -4, -6))
        assert table[2].tolist() == pytest.approx(softmax(-4, -4, 0, -6))
        assert table[3].tolist() == pytest.approx(softmax(-6, -6, -6, 0))

    def test_a_single_class(self) -> None:
        assert taxonomy({"a": "root"}, ["a"]).tolist() == [[1.0]]

    @pytest.mark.parametrize(
        ("parents", "classes", "sentence"),
        [
            (TREE, ["cat", "bird"], "'bird' has no parent"),
            (TREE, ["cat", "cat"], "name each once"),
            (TREE, ["cat", "animal"], "'animal' has classes below it"),
            ({"a": "b", "b": "a"}, ["a"], "has a cycle at 'a'"),
            ({"a": "x", "b": "y"}, ["a", "b"], r"several roots, \['x', 'y'\]"),
        ],
    )
    def test_errors(self, parents, classes, sentence) -> None:
        with pytest.raises(ValueError, match=sentence):
            taxonomy(parents, classes)


class TestEmbeddings:
    def test_by_hand(self) -> None:
        vectors = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        c = math.sqrt(0.5)
        assert embeddings(vectors, temperature=0.5)[0].tolist() == pytest.approx(softmax(2, 2 * c, 0), rel=1e-5)
        row = embeddings(vectors, temperature=0.5, include_label=False)[1].tolist()
        assert row == pytest.approx([0.5, 0.0, 0.5])

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (dict(vectors=torch.zeros(3)), r"give a tensor \[K, D\]"),
            (dict(vectors=torch.tensor([[1.0], [0.0]])), "vector of class 1 is zero"),
            (dict(vectors=torch.tensor([[torch.nan], [1.0]])), "vector of class 0 is zero or not finite"),
            (dict(vectors=torch.ones(2, 2), temperature=0.0), "temperature=0.0 must be"),
            (dict(vectors=torch.ones(1, 2), include_label=False), "no class to put epsilon on"),
        ],
    )
    def test_errors(self, options, sentence) -> None:
        with pytest.raises(ValueError, match=sentence):
            embeddings(**options)


class TestConfusion:
    counts = torch.tensor([[8, 1, 1], [0, 5, 0], [2, 2, 4]])

    def test_by_hand(self) -> None:
        expected = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
        assert confusion(self.counts).tolist() == expected  # class 1, never mistaken, gets the uniform others
        included = confusion(self.counts, include_label=True).tolist()
        assert included[0] == pytest.approx([0.8, 0.1, 0.1])
        assert included[1] == [0.0, 1.0, 0.0]
        assert confusion(self.counts, pseudocount=1)[1].tolist() == pytest.approx([0.5, 0.0, 0.5])

    def test_leaves_the_counts_alone(self) -> None:
        before = self.counts.clone()
        confusion(self.counts)
        assert torch.equal(before, self.counts)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"counts has shape \(2, 3\); it must be square"):
            confusion(torch.ones(2, 3))
        with pytest.raises(ValueError, match=r"counts holds -1\.0"):
            confusion(torch.tensor([[0, -1], [1, 0]]))


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
