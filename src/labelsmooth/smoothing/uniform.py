"""Uniform label smoothing, in both published conventions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from labelsmooth.target import Target, check_epsilon, check_over

__all__ = ["Uniform"]


@dataclass(frozen=True)
class Uniform:
    """Move epsilon of the label's probability to the uniform distribution.

        over="all":     q = (1 - epsilon) * onehot(y) + epsilon / K
        over="others":  q_y = 1 - epsilon,  q_k = epsilon / (K - 1) for the classes k other than y

    The first is the formula of Szegedy et al. and of PyTorch's ``label_smoothing``: the label itself keeps
    1 - epsilon + epsilon / K.  The second is how the method is often told in words.  They convert by
    others(epsilon) = all(epsilon * K / (K - 1)).

    Args:
        epsilon: the smoothed mass, a float in [0, 1]; or a tensor in the shape of the labels, one value for each.
        over: "all" or "others".

    Raises:
        TypeError: epsilon is not a number or a tensor.
        ValueError: epsilon is outside [0, 1] or NaN, ``over`` is neither word, or "others" meets a single class.

    Example:
        >>> import torch
        >>> Uniform(0.1)(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0250, 0.0250, 0.9250, 0.0250]])
        >>> Uniform(0.1, over="others")(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0333, 0.0333, 0.9000, 0.0333]])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.
    """

    epsilon: float | Tensor = 0.1
    over: str = "all"

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon, "epsilon")
        check_over(self.over)

    def __call__(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        return Target.uniform(labels, num_classes, self.epsilon, over=self.over)
