"""Matrices for ClassMatrix: the similarity of the classes, as a row of probabilities for each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from labelsmooth.smoothing.base import as_tensor, check_positive, distribution, table_dtype


def taxonomy(parents: Mapping[str, str], classes: Sequence[str], *, beta: float = 10.0) -> Tensor:
    """Soft labels from a tree of classes: confusing classes with a close common ancestor costs less.

        M[y, k] = exp(-beta * d(y, k)) / sum_j exp(-beta * d(y, j)),      d(y, k) = height(LCA(y, k)) / height(tree)

    where LCA is the lowest common ancestor and the height of a node is the longest way down to a leaf.  With
    ``ClassMatrix(1.0, taxonomy(...))`` these are the paper's soft labels.

    Args:
        parents: the parent of every node but the root, by name.
        classes: the leaves in the order of the labels.
        beta: above 0; the paper uses 4 to 30, and large values leave all of the probability on the label.

    Returns:
        [K, K], each row a distribution.

    Raises:
        ValueError: a class that is not a leaf or not in the tree, a class named twice, a cycle, or several roots.

    Example:
        >>> tree = {"cat": "animal", "dog": "animal", "car": "thing", "animal": "root", "thing": "root"}
        >>> taxonomy(tree, ["cat", "dog", "car"], beta=2.0)
        tensor([[0.6652, 0.2447, 0.0900],
                [0.2447, 0.6652, 0.0900],
                [0.1065, 0.1065, 0.7870]])

    Source: Bertinetto et al., "Making Better Mistakes: Leveraging Class Hierarchies with Deep Networks", 2020.
    """
    check_positive(beta, "beta")
    if len(set(classes)) != len(classes) or not classes:
        raise ValueError(f"classes names {len(classes)} leaves, {len(set(classes))} of them distinct; name each once.")
    paths = [_path(name, parents) for name in classes]
    roots = {path[-1] for path in paths}
    if len(roots) > 1:
        raise ValueError(f"the tree has several roots, {sorted(roots)}; give them a common parent.")
    height: dict[str, int] = {}
    below: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        for steps, node in enumerate(path):
            height[node] = max(steps, height.get(node, 0))
            below.setdefault(node, []).append(i)
    for name in classes:
        if height[name]:
            raise ValueError(f"the class {name!r} has classes below it; classes are the leaves of the tree.")
    distance = torch.zeros(len(classes), len(classes), dtype=table_dtype(), device="cpu")
    # From the root to the leaves: the lowest common ancestor of two leaves writes their distance last.
    for node in sorted(below, key=lambda node: -height[node]):
        leaves = torch.tensor(below[node], device="cpu")
        distance[leaves[:, None], leaves] = height[node] / max(max(height.values()), 1)
    return (-beta * distance).softmax(-1)


def embeddings(vectors: Tensor, *, temperature: float = 0.1, include_label: bool = True) -> Tensor:
    """Soft labels from the similarity of one vector for each class: word vectors, class weights, mean features.

        M[y, k] = softmax_k(cos(v_y, v_k) / temperature)

    Args:
        vectors: [K, D].
        temperature: above 0; small values leave the most similar class, which is the label itself.
        include_label: False sets M[y, y] to 0, so that all of epsilon goes to other classes.

    Returns:
        [K, K], each row a distribution.

    Raises:
        ValueError: vectors that are not [K, D], a vector that is zero or not finite, or a temperature that is not
            positive; ``include_label=False`` with a single class.

    Example:
        >>> embeddings(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), temperature=0.5)[0]
        tensor([0.4683, 0.4683, 0.0634])

    Source: Liu & JaJa, "Class-Similarity Based Label Smoothing for Confidence Calibration", 2021.
    """
    check_positive(temperature, "temperature")
    if not isinstance(vectors, Tensor) or vectors.dim() != 2 or not len(vectors):
        shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
        raise ValueError(f"vectors is {shape}; give a tensor [K, D] with a vector for each class.")
    table = vectors.detach().to(table_dtype(vectors.dtype))
    norms = torch.linalg.vector_norm(table, dim=-1, keepdim=True)
    bad = ~(norms.isfinite() & (norms > 0)).squeeze(-1)
    if bool(bad.any()):
        raise ValueError(
            f"the vector of class {int(bad.nonzero()[0])} is zero or not finite, so it has no direction; give a finite "
            "vector other than zero for each class."
        )
    if not include_label and len(table) < 2:
        raise ValueError("include_label=False with a single class leaves no class to put epsilon on.")
    table = table / norms
    similarity = table @ table.T / temperature
    if not include_label:
        similarity.fill_diagonal_(-math.inf)
    return torch.softmax(similarity, -1)


def confusion(counts: Tensor | ArrayLike, *, include_label: bool = False, pseudocount: float = 0.0) -> Tensor:
    """Soft labels from a confusion matrix: each class is smoothed towards the classes it was confused with.

        M[y, k] = (C[y, k] + pseudocount) / sum_j (C[y, j] + pseudocount),      j and k over the other classes

    Args:
        counts: [K, K], C[y, k] the examples of class y that a model predicted as k (as in scikit-learn), on data held
            out from training.
        include_label: True counts the correct predictions too.
        pseudocount: added to every count.

    Returns:
        [K, K], each row a distribution.  A class without errors gets the uniform distribution over the others.

    Raises:
        TypeError, ValueError: counts that are not square, or hold a negative number or NaN.

    Example:
        >>> confusion(torch.tensor([[90, 8, 2], [5, 95, 0], [0, 0, 100]]))
        tensor([[0.0000, 0.8000, 0.2000],
                [1.0000, 0.0000, 0.0000],
                [0.5000, 0.5000, 0.0000]])
    """
    remedy = "Give counts [K, K], a row for each true class."
    table = as_tensor(counts)
    if table.dim() != 2 or table.shape[0] != table.shape[1] or not table.numel():
        raise ValueError(f"counts has shape {tuple(table.shape)}; it must be square, [K, K]. {remedy}")
    if not include_label and len(table) < 2:
        raise ValueError("include_label=False with a single class leaves no class to put epsilon on.")
    table = table.to(table_dtype(table.dtype)) + pseudocount
    if not include_label:
        table = table.clone().fill_diagonal_(0.0)
    empty = table.sum(-1) == 0
    others = 1.0 - torch.eye(len(table), dtype=table.dtype, device=table.device)
    return distribution(torch.where(empty[:, None], others, table), "counts", remedy)


def _path(name: str, parents: Mapping[str, str]) -> list[str]:
    """The nodes from a leaf up to its root."""
    if name not in parents:
        raise ValueError(f"the class {name!r} has no parent in the tree; every class needs one.")
    path = [name]
    while path[-1] in parents:
        above = parents[path[-1]]
        if above in path:
            raise ValueError(f"the tree has a cycle at {above!r}: {' -> '.join([*path, above])}.")
        path.append(above)
    return path
