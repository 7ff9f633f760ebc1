"""Cross-entropy with any label smoothing: everything F.cross_entropy takes, with the same numbers."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from labelsmooth.kernels.fused import row_loss
from labelsmooth.kernels.small import small_batch_loss
from labelsmooth.loss.arguments import as_rows, check_reduction, check_weight, check_z_loss
from labelsmooth.loss.mixture import mixed_cross_entropy, policy_of
from labelsmooth.loss.targets import prepare
from labelsmooth.target import Mixture, Policy

__all__ = ["cross_entropy"]


@overload
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: str = ...,
    label_smoothing: float | Tensor | Policy = ...,
    *,
    class_mask: Tensor | None = ...,
    z_loss: float = ...,
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
    reduction: str = ...,
    label_smoothing: float | Tensor | Policy = ...,
    *,
    class_mask: Tensor | None = ...,
    z_loss: float = ...,
    return_nll: Literal[True],
    inplace: bool = ...,
    check: bool = ...,
) -> tuple[Tensor, Tensor]: ...


def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float | Tensor | Policy = 0.0,
    *,
    class_mask: Tensor | None = None,
    z_loss: float = 0.0,
    return_nll: bool = False,
    inplace: bool = False,
    check: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
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
            shape of ``input``, floating, smoothed likewise; or a mixture of two labels from ``smoothing.mix``.
        weight: [K] class weights w, or None for ones.
        ignore_index: labels with this value do not count: no loss, no gradient, not in the mean, whatever
            their logits hold.  It does not apply to class probabilities.
        reduction: "mean" divides by the number of labels that count, or by the sum of their weights; for class
            probabilities by the number of rows.  "sum", or "none" for one loss for each label.
        label_smoothing: epsilon in [0, 1]; a tensor in the shape of the labels with one epsilon for each; or a
            policy from ``labelsmooth.smoothing``.
        class_mask: bool, [K] or in the shape of ``input``: True for the classes that are valid.  The others have no
            part in the softmax, whatever their logits hold (-inf and NaN included), no gradient, and no share of the
            smoothing, which is spread over the valid classes in its proportions: a vocabulary padded from K to K'
            classes has the loss it has without the padding.
        z_loss: the coefficient, 0 or more, of logsumexp(z)^2, which is added to the loss of each label that counts.
        return_nll: also return the unsmoothed loss, what this call gives with ``label_smoothing=0`` and ``z_loss=0``,
            from the same pass and without a gradient.  Report it for validation: smoothed losses of different
            epsilons do not compare.
        inplace: allow the memory of ``input`` to become that of its gradient, which saves as much again; ``input``
            must then not be used after the call, nor be differentiated twice.
        check: raise for labels out of range on other devices than the CPU too, which waits for the device.

    Returns:
        A scalar, or the shape of the labels for "none".  As in PyTorch the mean over no label at all, of an empty
        batch or with every label ignored, is NaN; the sum is 0.  NaN logits give NaN in their row.  K = 1 gives 0.
        With ``return_nll``, that and the unsmoothed loss.

    Raises:
        IndexError: a label outside [0, K) on the CPU (on other devices its loss and gradient are NaN).
        TypeError: a dtype that does not fit.
        ValueError: a shape, epsilon or reduction that does not fit; a label that ``class_mask`` marks as not valid;
            ``inplace`` for a leaf.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 2])
        >>> cross_entropy(logits, labels, label_smoothing=0.1)
        tensor(0.3276)
        >>> cross_entropy(logits, labels, reduction="none")
        tensor([0.1698, 0.1520])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.
    """
    check_reduction(reduction)
    if (
        type(label_smoothing) is float
        and weight is None
        and class_mask is None
        and z_loss == 0.0
        and reduction != "none"
        and not return_nll
        and not (inplace and isinstance(input, Tensor) and input.is_leaf)
        and isinstance(target, Tensor)
    ):
        small = small_batch_loss(input, target, ignore_index, label_smoothing, reduction == "mean", inplace)
        if small is not None:
            return small
    check_z_loss(z_loss)
    if isinstance(target, Mixture):
        if return_nll or inplace:
            raise ValueError(
                "return_nll and inplace do not apply to a mixture: its loss is made in two passes over the logits, and "
                "it has no one label. Leave them out."
            )
        return mixed_cross_entropy(
            input,
            target,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=policy_of(target, label_smoothing),
            class_mask=class_mask,
            z_loss=z_loss,
            check=check,
        )
    rows = as_rows(input, target)
    weight = check_weight(weight, rows.blocks)
    if inplace and input.is_leaf and input.requires_grad:
        raise ValueError(
            "inplace=True writes the gradient over input, but input is a leaf that requires a gradient, whose values "
            "you will want to keep. Leave inplace out, or apply it to the output of a model."
        )
    prepared = prepare(
        rows.target,
        input.shape,
        rows.shape,
        input.dtype,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        class_mask=class_mask,
        z_loss=z_loss,
        check=check,
    )
    nll = None
    if return_nll and rows.has_probabilities:
        nll = _unsmoothed(input, target, weight, reduction, class_mask)
    loss, likelihoods = row_loss(rows.blocks, prepared.targets, prepared.divisor, inplace=inplace, with_nll=return_nll)
    if not return_nll:
        return prepared.finished(loss)
    nll = prepared.reduced(likelihoods) if likelihoods is not None else nll
    assert nll is not None
    return prepared.finished(loss), nll


def _unsmoothed(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, class_mask: Tensor | None
) -> Tensor:
    """The loss of class probabilities as they are: their row kernel sees the smoothed ones only."""
    with torch.no_grad():
        return cross_entropy(input, target, weight, reduction=reduction, class_mask=class_mask)
