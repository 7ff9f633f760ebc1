"""Small batches with the usual arguments: the same loss and gradient with as little Python around the rows as can be.

At 128 rows of 37 classes the kernel needs 6 us, and what prepares any target, mask and reduction three times that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.kernels.choose import is_transformed
from labelsmooth.kernels.fused import RowTargets, cpu_launcher, differentiable_gradient, scaled_gradient
from labelsmooth.kernels.threads import GRAIN

__all__ = ["small_batch_loss"]

# More logits than these are worth a second thread, and hide what Python costs.
MOST_ELEMENTS = 2 * GRAIN - 1
# float16 is not among them: its gradient waits for the upstream one.
LOSS_DTYPES = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32}


def small_batch_loss(
    logits: Tensor, labels: Tensor, ignore_index: int, epsilon: float, mean: bool, inplace: bool
) -> Tensor | None:
    """The mean or sum of uniformly smoothed cross-entropies; or None for what :func:`row_loss` must serve or refuse,
    which is all but a small batch of plain [N, K] logits on the CPU with [N] int64 labels in range.

    The unfused equal is ``F.cross_entropy(logits, labels, ignore_index=..., reduction=..., label_smoothing=epsilon)``.
    """
    if (
        torch.compiler.is_compiling()
        or type(logits) is not Tensor
        or type(labels) is not Tensor
        or not logits.is_cpu
        or not labels.is_cpu
        or logits.dtype not in LOSS_DTYPES
        or labels.dtype is not torch.int64
        or logits.dim() != 2
        or labels.dim() != 1
        or logits.layout is not torch.strided
        or logits.shape[0] != labels.shape[0]
        or not 0 < logits.numel() <= MOST_ELEMENTS
        or logits.stride(1) != 1
        or logits.is_neg()
        or not labels.is_contiguous()
        or not 0.0 <= epsilon <= 1.0
        or is_transformed()
    ):
        return None
    wanted = logits.requires_grad and torch.is_grad_enabled()
    inplace = inplace and wanted and torch._debug_has_internal_overlap(logits) == 0
    gradient = None if not wanted else logits.detach() if inplace else torch.empty_like(logits)
    loss = torch.empty((), dtype=LOSS_DTYPES[logits.dtype])
    if cpu_launcher().few(logits, gradient, loss, labels, ignore_index, float(epsilon), mean) >= 0:
        return None
    if gradient is None:
        return loss
    made = Made(loss, gradient, labels, ignore_index, epsilon, mean, inplace)
    return SmallBatch.apply(logits, made)  # type: ignore[no-any-return, no-untyped-call]


class Made(NamedTuple):
    """The result, and what it was made from."""

    loss: Tensor
    gradient: Tensor
    labels: Tensor
    ignore_index: int
    epsilon: float
    mean: bool
    inplace: bool


class SmallBatch(torch.autograd.Function):
    """Autograd for a result that is there already."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, made: Made) -> Tensor:
        ctx.set_materialize_grads(False)
        if made.inplace:
            torch.autograd.graph.increment_version(logits)
        ctx.save_for_backward(made.gradient, None if made.inplace else logits)
        ctx.rest = made[2:6]
        return made.loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, None]:
        if upstream is None:
            return None, None
        gradient, logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            labels, ignore_index, epsilon, mean = ctx.rest
            counted = labels != ignore_index
            ctx.q = RowTargets(torch.where(counted, labels, -1), 1.0 - epsilon, epsilon)
            ctx.divisor = counted.sum() if mean else 1.0
            return differentiable_gradient(ctx, logits, upstream), None
        return scaled_gradient(ctx, gradient, upstream), None
