"""The losses as modules, for training loops that want an object."""

from __future__ import annotations

from torch import Tensor, nn

from labelsmooth.loss.arguments import check_reduction
from labelsmooth.loss.cross_entropy import cross_entropy
from labelsmooth.target import Policy, check_epsilon

__all__ = ["LabelSmoothingCrossEntropy"]


class LabelSmoothingCrossEntropy(nn.Module):
    """Cross-entropy with label smoothing, the module form of :func:`labelsmooth.cross_entropy`.

        loss = (1 - epsilon) * ce(y) + epsilon * sum_j ce(j) / K,        ce(j) = -log softmax(input)_j

    so the target of a label is 1 - epsilon + epsilon / K, and epsilon / K for each other class.  The other convention
    (the label keeps exactly 1 - epsilon) is ``epsilon=smoothing.Uniform(epsilon, over="others")``; the two convert by
    others(epsilon) = all(epsilon * K / (K - 1)).

    It smooths in ``eval()`` too, as PyTorch's ``nn.CrossEntropyLoss`` does; report the unsmoothed
    ``cross_entropy(input, target)`` for validation.

    Args:
        epsilon: in [0, 1]; a tensor in the shape of the labels; or a policy from ``labelsmooth.smoothing``.
        reduction: "mean", "sum" or "none".
        weight: [K] class weights, or None.
        ignore_index: the label that does not count.

    Shape:
        input (K,), (N, K) or (N, K, d1, ...); target labels (), (N,), (N, d1, ...) or probabilities as ``input``;
        output a scalar, or the shape of the labels for "none".

    Raises:
        TypeError, ValueError: an epsilon outside [0, 1] or an unknown reduction, when made; what
            :func:`labelsmooth.cross_entropy` raises, when called.

    Example:
        >>> import torch
        >>> criterion = LabelSmoothingCrossEntropy(0.1)
        >>> logits = torch.zeros(2, 4, requires_grad=True)
        >>> criterion(logits, torch.tensor([1, 3])).backward()
        >>> logits.grad[0]
        tensor([ 0.1125, -0.3375,  0.1125,  0.1125])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.
    """

    weight: Tensor | None

    def __init__(
        self,
        epsilon: float | Tensor | Policy = 0.1,
        reduction: str = "mean",
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        if isinstance(epsilon, Tensor) or not callable(epsilon):
            check_epsilon(epsilon, "epsilon")
        self.epsilon = epsilon
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.epsilon)

    def extra_repr(self) -> str:
        weight = "" if self.weight is None else f", weight=[{len(self.weight)}]"
        ignore = "" if self.ignore_index == -100 else f", ignore_index={self.ignore_index}"
        return f"epsilon={self.epsilon}, reduction={self.reduction!r}{weight}{ignore}"
