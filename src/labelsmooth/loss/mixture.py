"""The loss of two mixed labels: H(q, p) is linear in q, so it is the same mixture of the losses of the two."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labelsmooth.kernels.mixture import Share, mixed_row_loss
from labelsmooth.kernels.reference import Terms, accumulation_dtype
from labelsmooth.loss.arguments import Options, Reduction, as_rows, check_device, check_reduction
from labelsmooth.loss.targets import prepare
from labelsmooth.target import Mixture, Policy, Target


def mixed(
    loss: Callable[..., Tensor],
    input: Tensor,
    mixture: Mixture,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    **options: object,
) -> Tensor:
    """lam * loss(input, a) + (1 - lam) * loss(input, b), for any loss that is linear in the target distribution.

    It makes two passes over the logits and two gradients; :func:`mixed_cross_entropy` makes one gradient.

    Args:
        loss: called as ``loss(input, labels, ignore_index=..., reduction="none", **options)``, with ``weight`` if one
            is given.
        reduction: "mean" divides by sum_i lam_i * w(a_i) + (1 - lam_i) * w(b_i), where w is the class weight, 1
            without weights, and 0 for an ignored label: PyTorch's mean over labels, each counted by its share.
    """
    check_reduction(reduction)
    check_device("lam", mixture.lam, input.device)
    if weight is not None:
        options["weight"] = weight
    lam: float | Tensor = mixture.lam
    total, count = None, None
    for labels, share in ((mixture.a.long(), lam), (mixture.b.long(), 1.0 - lam)):
        losses = loss(input, labels, ignore_index=ignore_index, reduction="none", **options)
        # A share of 0 leaves the label out: its loss may be infinite, and 0 * inf is NaN.
        shares = torch.zeros_like(losses) + share  # torch.as_tensor would wait for a GPU
        part = torch.where(shares == 0, torch.zeros_like(losses), shares * losses)
        worth = (labels != ignore_index).to(losses.dtype)
        if weight is not None:  # labels out of range are the loss's to refuse
            worth = worth * weight[labels.clamp(0, weight.shape[0] - 1)].to(losses.dtype)
        total = part if total is None else total + part
        count = share * worth if count is None else count + share * worth
    assert total is not None
    assert count is not None
    if reduction == "none":
        return total
    return total.sum() if reduction == "sum" else total.sum() / count.sum()


def mixed_cross_entropy(input: Tensor, mixture: Mixture, options: Options) -> Tensor:
    """What :func:`mixed` computes for :func:`labelsmooth.cross_entropy`, in the memory of one gradient.

    Two passes over the logits, each by the kernel for labels.  A single pass would read the logits once but needs a
    second index in Target and in every kernel; a dense target writes and reads N x K, which costs more than the
    second pass.
    """
    check_device("lam", mixture.lam, input.device)
    parts, counts = [], []
    lam: float | Tensor = mixture.lam
    dtype = accumulation_dtype(input.dtype)
    for labels, share in ((mixture.a, lam), (mixture.b, 1.0 - lam)):
        rows = as_rows(input, labels)
        prepared = prepare(rows.target, input.shape, rows.shape, input.dtype, options)
        share = share.reshape(-1) if isinstance(share, Tensor) and share.dim() else share
        weights = (torch.zeros(rows.target.shape, dtype=dtype, device=input.device) + share).to(dtype)
        q, valid, z_loss = prepared.terms
        assert q.index is not None
        counts.append(weights * ((q.index != -1) if prepared.of_label is None else prepared.of_label))
        # A share of 0 leaves the label out: its loss may be infinite, and 0 * inf is NaN.
        q = Target(q.num_classes, torch.where(weights == 0, -1, q.index), q.keep, q.scale, q.base, q.rows)
        parts.append(Share(Terms(q, valid, z_loss), weights))
    divisor: float | Tensor | None = None
    if options.reduction != "none":
        divisor = 1.0 if options.reduction == "sum" else (counts[0] + counts[1]).sum()
    loss = mixed_row_loss(rows.blocks, tuple(parts), divisor)
    return loss.reshape(rows.shape) if divisor is None else loss


def policy_of(mixture: Mixture, label_smoothing: float | Tensor | Policy) -> float | Tensor | Policy:
    """The smoothing of a mixture: its own policy, or that of the loss.

    Raises:
        ValueError: both are given.
    """
    if mixture.policy is None:
        return label_smoothing
    if isinstance(label_smoothing, int | float) and label_smoothing == 0:
        return mixture.policy
    raise ValueError(
        "the mixture has a policy of its own and the loss has label smoothing too, which would smooth twice. Leave the "
        "policy out of mix(...), or use a loss without label smoothing (epsilon=0.0)."
    )
