"""The loss of two mixed labels: by linearity in the target, the mixed losses of the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labelsmooth.kernels.fused import RowTargets
from labelsmooth.kernels.mixture import Share, mixed_row_loss
from labelsmooth.kernels.reference import accumulation_dtype
from labelsmooth.loss.arguments import as_rows, check_reduction, check_weight
from labelsmooth.loss.targets import prepare
from labelsmooth.target import Mixture, Policy

__all__ = ["mixed", "mixed_cross_entropy", "policy_of"]


def mixed(
    loss: Callable[..., Tensor],
    input: Tensor,
    mixture: Mixture,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **options: Any,
) -> Tensor:
    """lam * loss(input, a) + (1 - lam) * loss(input, b), for any loss that is linear in the target distribution.

    Two passes over the logits and two gradients; :func:`mixed_cross_entropy` has one gradient.

    Args:
        loss: called as ``loss(input, labels, ignore_index=..., reduction="none", **options)``, with ``weight`` if one
            is given.
        reduction: "mean" divides by sum_i lam_i * w(a_i) + (1 - lam_i) * w(b_i), where w is the class weight, 1
            without weights, and 0 for an ignored label: PyTorch's mean over labels, each counted by its share.
    """
    check_reduction(reduction)
    if weight is not None:
        options["weight"] = weight
    lam: float | Tensor = mixture.lam
    total, count = None, None
    for labels, share in ((mixture.a, lam), (mixture.b, 1.0 - lam)):
        each = loss(input, labels, ignore_index=ignore_index, reduction="none", **options)
        # A share of 0 leaves the label out: its loss may be infinite, and 0 * inf is NaN.
        part = torch.where(torch.as_tensor(share, device=each.device) == 0, torch.zeros_like(each), share * each)
        counted = labels != ignore_index
        # Labels out of range are the loss's to judge; here they must only not be looked up.
        known = labels.clamp(0, len(weight) - 1).long() if weight is not None else labels
        worth = counted.to(each.dtype) if weight is None else torch.where(counted, weight[known], 0.0).to(each.dtype)
        total = part if total is None else total + part
        count = share * worth if count is None else count + share * worth
    assert total is not None
    assert count is not None
    if reduction == "none":
        return total
    return total.sum() if reduction == "sum" else total.sum() / count.sum()


def mixed_cross_entropy(
    input: Tensor,
    mixture: Mixture,
    *,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float | Tensor | Policy,
    class_mask: Tensor | None = None,
    z_loss: float = 0.0,
    check: bool = False,
) -> Tensor:
    """What :func:`mixed` makes of :func:`labelsmooth.cross_entropy`, in the memory of one gradient.

    Two passes over the logits, each with the kernel that labels get.  A single pass would read them once, but needs
    a second index in Target and in every kernel; a dense target writes and reads N x K, which costs more than the
    second pass does.
    """
    parts, counts = [], []
    lam: float | Tensor = mixture.lam
    for labels, share in ((mixture.a, lam), (mixture.b, 1.0 - lam)):
        rows = as_rows(input, labels)
        prepared = prepare(
            rows.target,
            input.shape,
            rows.shape,
            input.dtype,
            weight=check_weight(weight, rows.blocks),
            ignore_index=ignore_index,
            reduction="none",
            label_smoothing=label_smoothing,
            class_mask=class_mask,
            z_loss=z_loss,
            check=check,
        )
        dtype = accumulation_dtype(input.dtype)
        each = torch.as_tensor(share, dtype=dtype, device=input.device).reshape(-1).expand(rows.target.shape)
        index = prepared.targets.labels
        assert index is not None
        counts.append(each * ((index >= 0) if prepared.of_label is None else prepared.of_label))
        # A share of 0 leaves the label out: its loss may be infinite, and 0 * inf is NaN.
        labels, q = torch.where(each == 0, -1, index), prepared.targets
        # Written out since a NamedTuple's _replace cannot be traced into a graph by PyTorch 2.6.
        parts.append(Share(RowTargets(labels, q.keep, q.scale, q.base, q.rows, q.valid, q.z_loss), each))
    divisor = None if reduction == "none" else 1.0 if reduction == "sum" else (counts[0] + counts[1]).sum()
    loss = mixed_row_loss(rows.blocks, tuple(parts), divisor)
    return loss.reshape(rows.shape) if reduction == "none" else loss


def policy_of(mixture: Mixture, label_smoothing: Any) -> Any:
    """The one smoothing of a mixture: its own, or that of the loss.

    Raises:
        ValueError: both smooth.
    """
    if mixture.policy is None:
        return label_smoothing
    if isinstance(label_smoothing, int | float) and label_smoothing == 0:
        return mixture.policy
    raise ValueError(
        "the mixture has a policy of its own, and the loss smooths too, which would smooth twice, by "
        "1 - (1 - epsilon)^2. Leave the policy out of mix(...), or use a loss without label smoothing (epsilon=0.0)."
    )
