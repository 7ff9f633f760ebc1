"""The usual call, with as little Python as possible: logits [N, K], int64 labels, a number for epsilon, mean or sum.

Preparing a general target, mask and reduction takes longer than the kernel takes for a small batch on the CPU (6 us for
128 rows of 37 classes) and for most batches on a GPU.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth._torch_private import is_batched, is_intercepted, keeps_graph, overlaps_itself, saved_tensor
from labelsmooth.kernels.choose import cpu_launcher, cuda_launcher, row_kernel
from labelsmooth.kernels.reference import Terms
from labelsmooth.kernels.rows import differentiable_gradient, original, scaled
from labelsmooth.kernels.threads import GRAIN
from labelsmooth.target import Target

__all__ = ["usual_loss"]

# On the CPU.  From here on a second thread pays off, and the time of the Python code is negligible.
MOST_ELEMENTS = 2 * GRAIN - 1
# Not float16, whose gradient is made in the backward pass.
DTYPES = {torch.float32, torch.float64, torch.bfloat16}


def usual_loss(
    logits: Tensor, labels: Tensor, ignore_index: int, epsilon: float, mean: bool, inplace: bool
) -> Tensor | None:
    """The mean or sum of uniformly smoothed cross-entropies, or None if the general function must be called.

    It applies to plain [N, K] logits with [N] int64 labels on the same device: on CUDA, and on the CPU to small batches
    of labels in range.  The unfused equal is
    ``F.cross_entropy(logits, labels, ignore_index=..., reduction=..., label_smoothing=epsilon)``.
    """
    if (
        torch.compiler.is_compiling()
        or type(logits) is not Tensor
        or type(labels) is not Tensor
        or logits.device != labels.device
        or logits.dtype not in DTYPES
        or labels.dtype is not torch.int64
        or logits.dim() != 2
        or labels.dim() != 1
        or logits.layout is not torch.strided
        or logits.shape[0] != labels.shape[0]
        or not logits.numel()
        or logits.stride(1) != 1
        or logits.is_neg()
        or not labels.is_contiguous()
        or not 0.0 <= epsilon <= 1.0
        or is_intercepted()
    ):
        return None
    launcher = _launcher(logits)
    if launcher is None:
        return None
    needed = logits.requires_grad and torch.is_grad_enabled()
    inplace = inplace and needed and not overlaps_itself(logits)
    gradient = None if not needed else logits.detach() if inplace else torch.empty_like(logits)
    loss: Tensor | None = launcher.few(logits, gradient, labels, ignore_index, float(epsilon), mean)
    if loss is None or gradient is None:
        return loss
    made = Made(loss, gradient, labels, ignore_index, epsilon, mean, inplace)
    return Usual.apply(logits, made)  # type: ignore[no-any-return, no-untyped-call]


def _launcher(logits: Tensor) -> ModuleType | None:
    if logits.is_cpu:
        return cpu_launcher() if logits.numel() <= MOST_ELEMENTS else None
    return cuda_launcher() if logits.is_cuda else None


class Made(NamedTuple):
    """The result, and what it was made from."""

    loss: Tensor
    gradient: Tensor
    labels: Tensor
    ignore_index: int
    epsilon: float
    mean: bool
    inplace: bool  # the gradient is where the logits were


class Usual(torch.autograd.Function):
    """Autograd for a result that has been computed already."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, made: Made) -> Tensor:
        if made.inplace:
            torch.autograd.graph.increment_version(logits)
        ctx.save_for_backward(made.gradient, made.labels, None if made.inplace else logits)
        ctx.numbers = made[3:6]
        return made.loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, None]:
        if upstream is None:
            return None, None
        gradient, labels = saved_tensor(ctx, 0), saved_tensor(ctx, 1)
        if torch.is_grad_enabled():  # create_graph=True
            ignore_index, epsilon, mean = ctx.numbers
            logits, counted = original(ctx, 2), labels != ignore_index
            q = Target(logits.shape[1], torch.where(counted, labels, -1), 1.0 - epsilon, epsilon)
            return differentiable_gradient(logits, Terms(q), counted.sum() if mean else 1.0, upstream), None
        kept = keeps_graph()
        if not kept:
            ctx.maybe_clear_saved_tensors()
        kernel = row_kernel(gradient.device.type, gradient.dtype)
        assert kernel is not None
        return scaled(kernel, gradient, upstream, kept, is_batched(upstream)), None
