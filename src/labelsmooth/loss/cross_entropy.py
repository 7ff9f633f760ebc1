"""Cross-entropy with any label smoothing: everything F.cross_entropy takes, with the same numbers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from labelsmooth.kernels import reference
from labelsmooth.loss.arguments import Rows, as_rows, check_reduction, check_weight, counted_labels
from labelsmooth.target import Policy, Target, check_epsilon

__all__ = ["cross_entropy"]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float | Tensor | Policy = 0.0,
) -> Tensor:
    """Cross-entropy between softmax(input) and smoothed targets.

    With p = softmax(z) and the target distribution q that ``label_smoothing`` makes of a label y,

        loss = -sum_k w_k * q_k * log p_k,        q = (1 - epsilon) * onehot(y) + epsilon / K  for a number epsilon,

    which is the familiar (1 - epsilon) * ce(y) + epsilon * sum_j ce(j) / K.  It puts epsilon / K on the label too.
    The other convention, epsilon / (K - 1) on the other classes only, is ``smoothing.Uniform(epsilon, over="others")``;
    others(epsilon) = all(epsilon * K / (K - 1)).

    Args:
        input: logits of shape (K,), (N, K) or (N, K, d1, ...), any floating dtype.  Sums are kept in float32 (float64
            for float64 input), and the loss has that dtype.
        target: labels in [0, K), shape (), (N,) or (N, d1, ...), any integer dtype; or class probabilities in the
            shape of ``input``, floating, smoothed likewise.
        weight: [K] class weights w, or None for ones.
        ignore_index: labels with this value do not count: no loss, no gradient, not in the mean, whatever
            their logits hold.  It does not apply to class probabilities.
        reduction: "mean" divides by the number of labels that count, or by the sum of their weights; for class
            probabilities by the number of rows.  "sum", or "none" for one loss for each label.
        label_smoothing: epsilon in [0, 1]; a tensor in the shape of the labels with one epsilon for each; or a
            policy from ``labelsmooth.smoothing``.

    Returns:
        A scalar, or the shape of the labels for "none".  As in PyTorch the mean over no label at all, of an empty
        batch or with every label ignored, is NaN; the sum is 0.  NaN logits give NaN.  K = 1 gives 0.

    Raises:
        IndexError: a label outside [0, K) on the CPU (on other devices its loss is NaN).
        TypeError: a dtype that does not fit.
        ValueError: a shape, epsilon or reduction that does not fit.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 2])
        >>> cross_entropy(logits, labels, label_smoothing=0.1)
        tensor(0.3276)
        >>> cross_entropy(logits, labels, reduction="none")
        tensor([0.1698, 0.1518])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.
    """
    check_reduction(reduction)
    rows = as_rows(input, target)
    weight = check_weight(weight, rows.logits)
    if rows.has_probabilities:
        if ignore_index >= 0:
            raise ValueError(
                f"ignore_index={ignore_index} does not apply to a target of class probabilities; leave it out, and "
                "give rows that are not to count zero probability everywhere."
            )
        labels, outside = rows.target.to(reference.accumulation_dtype(rows.target.dtype)), None
    else:
        labels, outside = counted_labels(rows.target, rows.logits.shape[1], ignore_index)
    q = _smoothed(labels, rows, label_smoothing)
    if weight is not None:
        q = q.weighted(weight)
    if outside is not None:
        q = replace(q, keep=torch.where(outside, torch.nan, q.keep))
    losses, _ = reference.row_losses(rows.logits, q.index, q.keep, q.scale, q.base, q.rows)
    if reduction == "none":
        return losses.reshape(rows.shape)
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / _mean_denominator(labels, weight)


def _smoothed(labels: Tensor, rows: Rows, label_smoothing: float | Tensor | Policy) -> Target:
    """The targets that a number, a tensor or a policy makes of the labels."""
    num_classes = rows.logits.shape[1]
    if callable(label_smoothing) and not isinstance(label_smoothing, Tensor):
        return label_smoothing(labels, num_classes)
    check_epsilon(label_smoothing, "label_smoothing")
    if isinstance(label_smoothing, Tensor) and label_smoothing.dim() and label_smoothing.shape != rows.shape:
        raise ValueError(
            f"label_smoothing has shape {tuple(label_smoothing.shape)}; give a single number or one epsilon for each "
            f"label, shape {tuple(rows.shape)}."
        )
    return Target.uniform(labels, num_classes, label_smoothing)


def _mean_denominator(labels: Tensor, weight: Tensor | None) -> Tensor | int:
    """PyTorch's: the labels that count, by weight where there are weights; for probabilities the rows."""
    if labels.is_floating_point():
        return labels.shape[0]
    counted = labels >= 0
    if weight is None:
        return counted.sum()
    return torch.where(counted, weight[labels.clamp(min=0)], 0.0).sum()
