"""Smoothing with a row of its own for every class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from labelsmooth.smoothing.base import Smoothing, distribution, smoothed
from labelsmooth.target import Target

__all__ = ["ClassMatrix"]

REMEDY = (
    "Give a square table of non-negative numbers, row y the distribution for label y; labelsmooth.smoothing has the "
    "makers ordinal, gaussian, taxonomy, embeddings and confusion."
)


class ClassMatrix(Smoothing):
    """Move epsilon of the label's probability to the classes that resemble it.

        q = (1 - epsilon) * onehot(y) + epsilon * matrix[y]

    Args:
        epsilon: in [0, 1], or a tensor in the shape of the labels.  1 makes ``matrix[y]`` itself the target, as in
            the soft labels of Díaz & Marathe (``ordinal``) and Bertinetto et al. (``taxonomy``).
        matrix: [K, K] non-negative, each row scaled to sum 1.

    Raises:
        TypeError: epsilon or matrix are no numbers.
        ValueError: epsilon outside [0, 1]; a matrix that is not square, holds a negative number or NaN, or has a row
            of sum 0; when called, a matrix for another number of classes.

    Example:
        >>> import torch
        >>> from labelsmooth.smoothing import ordinal
        >>> ClassMatrix(0.5, ordinal(3))(torch.tensor([0]), num_classes=3).dense()
        tensor([[0.8326, 0.1224, 0.0450]])
    """

    matrix: Tensor

    def __init__(self, epsilon: float | Tensor, matrix: Tensor | Sequence[Sequence[float]]) -> None:
        super().__init__(epsilon)
        shape = tuple(matrix.shape) if isinstance(matrix, Tensor) else None
        if shape is not None and (len(shape) != 2 or shape[0] != shape[1] or not shape[0]):
            raise ValueError(f"matrix has shape {shape}; it must be square, [K, K]. {REMEDY}")
        table = distribution(matrix, "matrix", REMEDY)
        if table.dim() != 2 or table.shape[0] != table.shape[1] or not table.numel():
            raise ValueError(f"matrix has shape {tuple(table.shape)}; it must be square, [K, K]. {REMEDY}")
        self.register_buffer("matrix", table, persistent=False)  # given, not learned: not in the state

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        if len(self.matrix) != num_classes:
            raise ValueError(
                f"matrix has shape {tuple(self.matrix.shape)}, but the input has {num_classes} classes. {REMEDY}"
            )
        return smoothed(labels, num_classes, self.epsilon, self.matrix)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, matrix={list(self.matrix.shape)}"
