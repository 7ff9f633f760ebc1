"""Cross-entropy with label smoothing: all arguments of F.cross_entropy, with the same numbers."""

from __future__ import annotations

from functools import partial
from typing import Literal, overload

from torch import Tensor

from labelsmooth.kernels.rows import row_loss
from labelsmooth.kernels.usual import usual_loss
from labelsmooth.loss.arguments import Options, Reduction, WeightBy, as_rows, is_dtensor, traceable
from labelsmooth.loss.dtensor import dtensor_cross_entropy
from labelsmooth.loss.mixture import mixed_cross_entropy, policy_of
from labelsmooth.loss.targets import reduced_loss
from labelsmooth.target import Mixture, Policy


@overload
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: Reduction = ...,
    label_smoothing: float | Tensor | Policy = ...,
    *,
    class_mask: Tensor | None = ...,
    z_loss: float = ...,
    weight_by: WeightBy = ...,
    return_nll: Literal[False] = ...,
    inplace: bool = ...,
    check: bool = ...,
) -> Tensor: ...


@overload
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: Reduction = ...,
    label_smoothing: float | Tensor | Policy = ...,
    *,
    class_mask: Tensor | None = ...,
    z_loss: float = ...,
    weight_by: WeightBy = ...,
    return_nll: Literal[True],
    inplace: bool = ...,
    check: bool = ...,
) -> tuple[Tensor, Tensor]: ...


@traceable
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor | Policy = 0.0,
    *,
    class_mask: Tensor | None = None,
    z_loss: float = 0.0,
    weight_by: WeightBy = "class",
    return_nll: bool = False,
    inplace: bool = False,
    check: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Cross-entropy between softmax(input) and smoothed targets.

    With p = softmax(z) and the target distribution q of a label y under ``label_smoothing``,

        loss = -sum_k w_k * q_k * log p_k,        q = (1 - epsilon) * onehot(y) + epsilon / K  for a number epsilon,

    so the loss is (1 - epsilon) * ce(y) + epsilon * sum_j ce(j) / K.  The label gets epsilon / K too.
    The other convention, epsilon / (K - 1) on the other classes only, is ``smoothing.Uniform(epsilon, over="others")``;
    others(epsilon) = all(epsilon * K / (K - 1)).

    Args:
        input: logits of shape (K,), (N, K) or (N, K, d1, ...), any floating dtype.  Sums are kept in float32 (float64
            for float64 input), and the loss has that dtype.  Or a DTensor, replicated or sharded over its rows, its
            classes or both; ``target`` and the other tensors are then those of all rows, the same on each process.
        target: labels in [0, K), shape (), (N,) or (N, d1, ...), any integer dtype; or class probabilities in the
            shape of ``input``, floating, smoothed likewise; or a mixture of two labels from ``smoothing.mix``.
        weight: [K] class weights w, or None for ones.
        ignore_index: labels with this value are ignored: no loss, no gradient, not in the mean, whatever their logits.
            It does not apply to class probabilities.
        reduction: "mean" divides by the number of labels that count, or by the sum of their weights; for class
            probabilities by the number of rows.  "sum", or "none" for one loss for each label.
        label_smoothing: epsilon in [0, 1]; a tensor in the shape of the labels with one epsilon for each; or a
            policy from ``labelsmooth.smoothing``.
        class_mask: bool, [K] or in the shape of ``input``: True for valid classes.  The others are left out of the
            softmax, whatever their logits (also -inf and NaN), get no gradient, and no share of the smoothing, which
            is renormalized over the valid classes: padding a vocabulary does not change its loss.
        z_loss: the coefficient, 0 or more, of logsumexp(z)^2, which is added to the loss of each label that counts.
        weight_by: "class" weighs each class of q by its own weight, as PyTorch does: the smoothed share of a rare class
            counts more in every row.  "label" weighs the whole row by the weight of its label,
            loss = -w_y * sum_k q_k * log p_k, and leaves q as it is; for class probabilities t by sum_k w_k * t_k, and
            the mean divides by the sum of these weights too.
        return_nll: also return the unsmoothed loss, the result for ``label_smoothing=0`` and ``z_loss=0``, from the
            same pass and without a gradient.  Compare it in validation: losses with different epsilons are not
            comparable.
        inplace: allow the gradient to overwrite ``input``, which saves memory of the size of ``input``.  Do not use
            ``input`` after the call, or differentiate twice.
        check: raise for labels out of range on devices other than the CPU too, which synchronizes.

    Returns:
        A scalar, or the shape of the labels for "none".  As in PyTorch, the mean over no label (an empty batch, or all
        labels ignored) is NaN, and the sum is 0.  NaN logits give NaN in their row.  K = 1 gives 0.
        With ``return_nll``, that and the unsmoothed loss.  For a DTensor a plain tensor, the same on each process; for
        "none" a DTensor where the rows are sharded.

    Raises:
        IndexError: a label outside [0, K) on the CPU (on other devices its loss and gradient are NaN).
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, epsilon, reduction or coefficient; a label on a class that ``class_mask`` marks as
            not valid; ``inplace`` for a leaf.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 2])
        >>> cross_entropy(logits, labels, label_smoothing=0.1)
        tensor(0.3276)
        >>> cross_entropy(logits, labels, reduction="none")
        tensor([0.1698, 0.1520])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.
    """
    if (
        type(label_smoothing) is float
        and type(ignore_index) is int
        and weight is None
        and class_mask is None
        and z_loss == 0.0
        and reduction in ("mean", "sum")
        and not return_nll
        and not check
        and not (inplace and isinstance(input, Tensor) and input.is_leaf)
        and isinstance(target, Tensor)
    ):
        usual = usual_loss(input, target, ignore_index, label_smoothing, reduction == "mean", inplace)
        if usual is not None:
            return usual
    if isinstance(target, Mixture):
        if is_dtensor(input):
            raise TypeError(
                "input is a DTensor and target a mixture of two labels; give class probabilities as the target, or "
                "input.full_tensor()."
            )
        if return_nll or inplace:
            raise ValueError(
                "return_nll and inplace do not apply to a mixture: its loss takes two passes over the logits, and it "
                "has no single label. Leave them out."
            )
        smoothing = policy_of(target, label_smoothing)
        options = Options(weight, ignore_index, reduction, smoothing, class_mask, z_loss, check, weight_by)
        return mixed_cross_entropy(input, target, options)
    options = Options(weight, ignore_index, reduction, label_smoothing, class_mask, z_loss, check, weight_by)
    if is_dtensor(input):
        if weight_by != "class":
            raise ValueError(f"weight_by={weight_by!r} does not apply to a DTensor; use input.full_tensor().")
        if inplace:
            raise ValueError("inplace does not apply to a DTensor, whose memory is that of its parts. Leave it out.")
        return dtensor_cross_entropy(input, target, options, return_nll, cross_entropy)
    rows = as_rows(input, target)
    if inplace and input.is_leaf and input.requires_grad:
        raise ValueError(
            "inplace=True writes the gradient over input, but input is a leaf that requires a gradient, so its values "
            "would be lost. Leave inplace out, or apply it to the output of a model."
        )
    losses = partial(row_loss, rows.blocks, inplace=inplace, with_nll=return_nll)
    return reduced_loss(losses, rows.target, input.shape, rows.shape, input.dtype, options, return_nll)
