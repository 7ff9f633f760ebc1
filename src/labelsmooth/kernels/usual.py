"""The usual call, with as little Python as possible: logits [N, K], int64 labels, a number for epsilon, mean or sum.

Preparing a general target, mask and reduction takes longer than the kernel takes for a small batch on the CPU (6 us for
128 rows of 37 classes) and for most batches on a GPU.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from labelsmooth._torch_private import is_batched, is_intercepted, keeps_graph, overlaps_itself, saved_tensors
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
        or not ((logits.is_cpu and labels.is_cpu) or logits.device == labels.device)
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
    numbers = (ignore_index, epsilon, mean, logits.is_cpu)
    return Usual.apply(logits, (loss, gradient, labels, inplace), numbers)  # type: ignore[no-any-return, no-untyped-call]


def _launcher(logits: Tensor) -> ModuleType | None:
    if logits.is_cpu:
        return cpu_launcher() if logits.numel() <= MOST_ELEMENTS else None
    return cuda_launcher() if logits.is_cuda else None


class Usual(torch.autograd.Function):
    """Autograd for a result that has been computed already."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, result: tuple[Tensor, Tensor, Tensor, bool], numbers: tuple[int, float, bool, bool]
    ) -> Tensor:
        loss, gradient, labels, inplace = result  # in a tuple, so that autograd does not take them for inputs
        if inplace:
            torch.autograd.graph.increment_version(logits)
        ctx.save_for_backward(gradient, labels, None if inplace else logits)
        ctx.numbers = numbers
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, None, None]:
        if upstream is None:
            return None, None, None
        ignore_index, epsilon, mean, on_cpu = ctx.numbers
        try:
            gradient, labels, _ = ctx.saved_tensors if on_cpu else (*saved_tensors(ctx, 0, 1), None)
        except RuntimeError:  # the logits have changed; looking at the others alone takes a small batch a microsecond
            gradient, labels = saved_tensors(ctx, 0, 1)
        if torch.is_grad_enabled():  # create_graph=True
            logits, counted = original(ctx, 2), labels != ignore_index
            q = Target(logits.shape[1], torch.where(counted, labels, -1), 1.0 - epsilon, epsilon)
            return differentiable_gradient(logits, Terms(q), counted.sum() if mean else 1.0, upstream), None, None
        kept = keeps_graph()
        if not kept:
            ctx.maybe_clear_saved_tensors()
        kernel = row_kernel(gradient.device.type, gradient.dtype)
        assert kernel is not None
        return scaled(kernel, gradient, upstream, kept, is_batched(upstream)), None, None
