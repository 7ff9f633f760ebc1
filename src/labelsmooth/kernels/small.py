"""Small batches with the common arguments: the same loss and gradient with as little Python as possible.

At 128 rows of 37 classes the kernel takes 6 us; preparing a general target, mask and reduction takes three times that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth._torch_private import is_batched, is_intercepted, keeps_graph, overlaps_itself, save_apart
from labelsmooth.kernels.choose import cpu_launcher, row_kernel
from labelsmooth.kernels.reference import Terms
from labelsmooth.kernels.rows import differentiable_gradient, original, scaled
from labelsmooth.kernels.threads import GRAIN
from labelsmooth.target import Target

__all__ = ["small_batch_loss"]

# From here on a second thread pays off, and the time of the Python code is negligible.
MOST_ELEMENTS = 2 * GRAIN - 1
# Not float16, whose gradient is made in the backward pass.
LOSS_DTYPES = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32}


def small_batch_loss(
    logits: Tensor, labels: Tensor, ignore_index: int, epsilon: float, mean: bool, inplace: bool
) -> Tensor | None:
    """The mean or sum of uniformly smoothed cross-entropies, or None if the general function must be called.

    It applies to small batches of plain [N, K] logits on the CPU with [N] int64 labels in range.  The unfused equal is
    ``F.cross_entropy(logits, labels, ignore_index=..., reduction=..., label_smoothing=epsilon)``.
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
        or is_intercepted()
    ):
        return None
    launcher = cpu_launcher()
    if launcher is None:
        return None
    needed = logits.requires_grad and torch.is_grad_enabled()
    inplace = inplace and needed and not overlaps_itself(logits)
    gradient = None if not needed else logits.detach() if inplace else torch.empty_like(logits)
    loss = torch.empty((), dtype=LOSS_DTYPES[logits.dtype], device="cpu")
    if launcher.few(logits, gradient, loss, labels, ignore_index, float(epsilon), mean) >= 0:
        return None
    if gradient is None:
        return loss
    made = Made(loss, gradient, labels, ignore_index, epsilon, mean, () if inplace else (save_apart(logits),))
    return SmallBatch.apply(logits, made)  # type: ignore[no-any-return, no-untyped-call]


class Made(NamedTuple):
    """The result, and what it was made from."""

    loss: Tensor
    gradient: Tensor
    labels: Tensor
    ignore_index: int
    epsilon: float
    mean: bool
    saved: tuple[Tensor, ...]  # the logits, unless the gradient overwrote them


class SmallBatch(torch.autograd.Function):
    """Autograd for a result that has been computed already."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, made: Made) -> Tensor:
        if not made.saved:
            torch.autograd.graph.increment_version(logits)
        ctx.save_for_backward(made.gradient, made.labels)
        ctx.numbers = made[3:6]
        ctx.saved = made.saved
        return made.loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, None]:
        if upstream is None:
            return None, None
        gradient, labels = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            ignore_index, epsilon, mean = ctx.numbers
            logits, counted = original(ctx.saved), labels != ignore_index
            q = Target(logits.shape[1], torch.where(counted, labels, -1), 1.0 - epsilon, epsilon)
            return differentiable_gradient(logits, Terms(q), counted.sum() if mean else 1.0, upstream), None
        kept = keeps_graph()
        if not kept:
            ctx.saved = ()
            ctx.maybe_clear_saved_tensors()
        kernel = row_kernel("cpu", gradient.dtype)
        assert kernel is not None
        return scaled(kernel, gradient, upstream, kept, is_batched(upstream)), None
