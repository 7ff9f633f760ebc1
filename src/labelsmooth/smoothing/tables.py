"""Smoothing towards a given table: one distribution for all labels (Prior), or a row for each class (ClassMatrix)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from labelsmooth.smoothing.base import Smoothing, as_tensor, distribution, smoothed, table_dtype
from labelsmooth.target import Target

PRIOR_REMEDY = (
    "Give one non-negative number for each class: probabilities or counts, for example torch.bincount(labels)."
)
MATRIX_REMEDY = (
    "Give a square table of non-negative numbers, row y the distribution for label y; ordinal, gaussian, taxonomy, "
    "embeddings and confusion in labelsmooth.smoothing make such tables."
)


class LabelledDataset(Protocol):
    """A dataset of (input, label) pairs."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sequence[object]: ...


class Prior(Smoothing):
    """Move epsilon of the label's probability to a fixed distribution over the classes.

        q = (1 - epsilon) * onehot(y) + epsilon * prior

    With the class frequencies of the training labels as the prior this is unigram smoothing.

    Args:
        epsilon: in [0, 1], or a tensor in the shape of the labels.
        prior: [K] non-negative numbers, scaled to sum 1; counts will do.

    Raises:
        TypeError: an epsilon or a prior that does not hold numbers.
        ValueError: epsilon outside [0, 1]; a prior that is not [K], holds a negative number or NaN, or sums to 0;
            when called, a prior of another length than there are classes.

    Example:
        >>> import torch
        >>> Prior(0.1, torch.tensor([5, 3, 2]))(torch.tensor([2]), num_classes=3).dense()
        tensor([[0.0500, 0.0300, 0.9200]])

    Source: Pereyra et al., "Regularizing Neural Networks by Penalizing Confident Output Distributions", 2017.
    """

    prior: Tensor

    def __init__(self, epsilon: float | Tensor, prior: Tensor | ArrayLike) -> None:
        super().__init__(epsilon)
        table = distribution(prior, "prior", PRIOR_REMEDY)
        if table.dim() != 1 or not table.numel():
            raise ValueError(f"prior has shape {tuple(table.shape)}; it must be [K]. {PRIOR_REMEDY}")
        self.register_buffer("prior", table, persistent=False)  # given, not learned: not in the state

    @classmethod
    def from_labels(
        cls, epsilon: float | Tensor, labels: Tensor | ArrayLike, num_classes: int, *, pseudocount: float = 0.0
    ) -> Prior:
        """The frequencies of ``labels``, with ``pseudocount`` added to each class's count.

        Raises:
            ValueError: a label outside [0, num_classes), or no label at all.
        """
        given = as_tensor(labels)
        flat = given.reshape(-1).long()
        if flat.numel() and (given.is_floating_point() or int(flat.min()) < 0 or int(flat.max()) >= num_classes):
            raise ValueError(
                f"labels of dtype {given.dtype} lie between {flat.min()} and {flat.max()}; give integers in "
                f"[0, {num_classes}), and leave ignored ones out."
            )
        counts = torch.bincount(flat, minlength=num_classes).to(table_dtype())
        return cls(epsilon, counts + pseudocount)

    @classmethod
    def from_dataset(
        cls, epsilon: float | Tensor, dataset: LabelledDataset, num_classes: int, *, pseudocount: float = 0.0
    ) -> Prior:
        """The frequencies of a dataset's labels: its ``targets`` or ``labels``, or the second entry of each item.

        Example:
            >>> import torch
            >>> from torch.utils.data import TensorDataset
            >>> dataset = TensorDataset(torch.zeros(4, 2), torch.tensor([0, 1, 1, 1]))
            >>> Prior.from_dataset(0.1, dataset, num_classes=2).prior
            tensor([0.2500, 0.7500])
        """
        for name in ("targets", "labels"):
            labels = getattr(dataset, name, None)
            if labels is not None:
                break
        else:
            labels = [int(dataset[i][1]) for i in range(len(dataset))]  # type: ignore[call-overload]
        return cls.from_labels(epsilon, labels, num_classes, pseudocount=pseudocount)

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        if len(self.prior) != num_classes:
            raise ValueError(
                f"prior has {len(self.prior)} entries, but the input has {num_classes} classes. {PRIOR_REMEDY}"
            )
        return smoothed(labels, num_classes, self._current_epsilon(), self.prior)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, prior=[{len(self.prior)}]"


class ClassMatrix(Smoothing):
    """Move epsilon of the label's probability to the classes that resemble it.

        q = (1 - epsilon) * onehot(y) + epsilon * matrix[y]

    Args:
        epsilon: in [0, 1], or a tensor in the shape of the labels.  1 makes ``matrix[y]`` itself the target, as in
            the soft labels of Díaz & Marathe (``ordinal``) and Bertinetto et al. (``taxonomy``).
        matrix: [K, K] non-negative, each row scaled to sum 1.

    Raises:
        TypeError: an epsilon or a matrix that does not hold numbers.
        ValueError: epsilon outside [0, 1]; a matrix that is not square, holds a negative number or NaN, or has a row
            of sum 0; when called, a matrix for another number of classes.

    Example:
        >>> import torch
        >>> from labelsmooth.smoothing import ordinal
        >>> ClassMatrix(0.5, ordinal(3))(torch.tensor([0]), num_classes=3).dense()
        tensor([[0.8326, 0.1224, 0.0450]])
    """

    matrix: Tensor

    def __init__(self, epsilon: float | Tensor, matrix: Tensor | ArrayLike) -> None:
        super().__init__(epsilon)
        table = distribution(matrix, "matrix", MATRIX_REMEDY, square=True)
        self.register_buffer("matrix", table, persistent=False)  # given, not learned: not in the state

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        if len(self.matrix) != num_classes:
            raise ValueError(
                f"matrix has shape {tuple(self.matrix.shape)}, but the input has {num_classes} classes. {MATRIX_REMEDY}"
            )
        return smoothed(labels, num_classes, self._current_epsilon(), self.matrix)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, matrix={list(self.matrix.shape)}"
