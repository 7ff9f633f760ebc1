"""Binary and multi-label cross-entropy with label smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labelsmooth.kernels.reference import accumulation_dtype
from labelsmooth.loss.arguments import Reduction, check_input, check_reduction, traceable
from labelsmooth.target import check_epsilon


@traceable
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    pos_weight: Tensor | None = None,
    label_smoothing: float | Tensor | tuple[float, float] = 0.0,
    *,
    ignore_index: int = -100,
) -> Tensor:
    """Cross-entropy between sigmoid(input) and smoothed binary targets, independently for each entry.

        loss = -w * (pos_weight * y' * log s + (1 - y') * log(1 - s)),       s = sigmoid(z)
        y' = y * (1 - epsilon) + epsilon / 2

    so a positive becomes 1 - epsilon / 2 and a negative epsilon / 2: uniform smoothing over the two classes.  With
    separate epsilons for the two,

        y' = y * (1 - epsilon_positive / 2) + (1 - y) * epsilon_negative / 2,

    for labels of which one kind is more reliable than the other (missed findings, missing tags).

    Args:
        input: logits of any shape, floating.  Sums are kept in float32 (float64 for float64), and so is the loss.
        target: in the shape of ``input``: 0 and 1, or probabilities; floating, integer or bool.
        weight: a weight for each entry, in a shape that broadcasts to that of ``input``, or None.
        reduction: "mean" divides by the number of entries that count, whatever their weights, as PyTorch does;
            "sum"; or "none".
        pos_weight: the weight of positives, in a shape that broadcasts to that of ``input``, or None.
        label_smoothing: epsilon in [0, 1]; a tensor of epsilons that broadcasts to ``input`` (one for each class, for
            example); or a pair (epsilon_positive, epsilon_negative).
        ignore_index: entries of the target with this value are ignored: no loss, no gradient, not in the mean.

    Returns:
        A scalar, or the shape of ``input`` for "none".  The mean over no entry is NaN.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, epsilon or reduction.

    Example:
        >>> import torch
        >>> logits, tags = torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[1, 0, 1]])
        >>> binary_cross_entropy_with_logits(logits, tags, label_smoothing=0.1)
        tensor(0.4278)
        >>> binary_cross_entropy_with_logits(logits, tags, label_smoothing=(0.2, 0.0), reduction="none")
        tensor([[0.3269, 0.3133, 0.6931]])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, with K = 2.
    """
    check_reduction(reduction)
    check_input(input, "the logits, before any sigmoid", target=target)
    if target.shape != input.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)} and input {tuple(input.shape)}; give a target for each logit."
        )
    if target.is_complex():
        raise TypeError(f"target has dtype {target.dtype}; give zeros and ones, or probabilities.")
    _check_broadcast(weight, "weight", input)
    _check_broadcast(pos_weight, "pos_weight", input)
    dtype = accumulation_dtype(input.dtype)
    # Small integer types cannot hold every ignore_index.
    target = target if target.is_floating_point() else target.long()
    ignored = target == ignore_index
    # Zeroed before the formula: a NaN logit times a zero gradient would still be NaN.
    logits = torch.where(ignored, 0.0, input.to(dtype))
    y = torch.where(ignored, 0.0, target.to(dtype))
    low, high = _targets_of(label_smoothing, input)
    losses = F.binary_cross_entropy_with_logits(
        logits,
        y * high + (1.0 - y) * low,
        weight=None if weight is None else weight.to(dtype),
        pos_weight=None if pos_weight is None else pos_weight.to(dtype),
        reduction="none",
    )
    losses = torch.where(ignored, 0.0, losses)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / (~ignored).sum()


def _targets_of(
    label_smoothing: float | Tensor | tuple[float, float], input: Tensor
) -> tuple[float | Tensor, float | Tensor]:
    """The smoothed targets of a negative and of a positive."""
    if isinstance(label_smoothing, tuple):
        if len(label_smoothing) != 2:
            raise ValueError(
                f"label_smoothing={label_smoothing} has {len(label_smoothing)} numbers; give one epsilon, or a pair "
                "(for positives, for negatives)."
            )
        positive, negative = label_smoothing
        check_epsilon(positive, "label_smoothing[0] (for positives)")
        check_epsilon(negative, "label_smoothing[1] (for negatives)")
        return negative / 2, 1.0 - positive / 2
    check_epsilon(label_smoothing, "label_smoothing")
    if isinstance(label_smoothing, Tensor):
        _check_broadcast(label_smoothing, "label_smoothing", input)
    return label_smoothing / 2, 1.0 - label_smoothing / 2


def _check_broadcast(value: Tensor | None, name: str, input: Tensor) -> None:
    if value is None:
        return
    check_input(input, "the logits, before any sigmoid", **{name: value})
    try:
        fits = torch.broadcast_shapes(value.shape, input.shape) == input.shape  # type: ignore[no-untyped-call]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, which does not broadcast to the shape of input, "
            f"{tuple(input.shape)}."
        )
