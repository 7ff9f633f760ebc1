"""One epsilon for each example."""

from __future__ import annotations

from torch import Tensor

from labelsmooth.smoothing.uniform import Uniform
from labelsmooth.target import Over

__all__ = ["PerSample"]


class PerSample(Uniform):
    """Uniform smoothing with an epsilon of its own for each label of the batch.

        q_i = (1 - epsilon_i) * onehot(y_i) + epsilon_i / K                (or over the K - 1 others)

    Made anew for every batch: ``PerSample(epsilons[ids])`` with a table of one epsilon for each training example.
    It is :class:`Uniform` with a tensor, and insists on one; every policy takes a tensor epsilon likewise.

    Args:
        epsilon: a floating tensor in the shape of the labels, in [0, 1].
        over, exclude, allow_negative: as for :class:`Uniform`.

    Raises:
        TypeError: epsilon is not a floating tensor.
        ValueError: an epsilon outside [0, 1], or a single one; when called, not one for each label.

    Example:
        >>> import torch
        >>> PerSample(torch.tensor([0.0, 0.4]))(torch.tensor([0, 1]), num_classes=2).dense()
        tensor([[1.0000, 0.0000],
                [0.2000, 0.8000]])

    Source: Zhang & Sabuncu, "Self-Distillation as Instance-Specific Label Smoothing", 2020.
    """

    def __init__(
        self, epsilon: Tensor, over: Over = "all", *, exclude: tuple[int, ...] = (), allow_negative: bool = False
    ) -> None:
        if not isinstance(epsilon, Tensor):
            raise TypeError(
                f"epsilon is a {type(epsilon).__name__}; give a tensor with one epsilon for each label, or use Uniform."
            )
        if not epsilon.dim():
            raise ValueError("epsilon is a single number; give one epsilon for each label, or use Uniform.")
        super().__init__(epsilon, over, exclude=exclude, allow_negative=allow_negative)
