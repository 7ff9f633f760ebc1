"""Class matrices from a tree, from vectors and from errors: their formulas by hand, and the errors for bad inputs."""

from __future__ import annotations

import math

import pytest
import torch

from labelsmooth.smoothing import confusion, embeddings, taxonomy

TREE = {"cat": "animal", "dog": "animal", "oak": "plant", "animal": "living", "plant": "living", "car": "root"}
TREE |= {"living": "root"}
CLASSES = ["cat", "dog", "oak", "car"]


def softmax(*scores: float) -> list[float]:
    total = sum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


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
