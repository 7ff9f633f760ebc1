"""The Triton row kernel under autograd: loss and gradient in one launch, and no wait for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labelsmooth.kernels import reference, rows_triton
from labelsmooth.kernels.fused import RowTargets, differentiable_gradient, forward

__all__ = ["Fused", "run"]


def run(
    logits: Tensor, q: RowTargets, divisor: float | Tensor | None, gradient: Tensor | None, with_nll: bool
) -> tuple[Tensor, Tensor | None]:
    """The losses, or their sum over ``divisor``; the unsmoothed losses; and the gradient where it is to be filled."""
    count, dtype = logits.numel() // logits.shape[1], reference.accumulation_dtype(logits.dtype)
    losses = torch.empty(count, dtype=dtype, device=logits.device)
    nll = torch.empty_like(losses) if with_nll and q.labels is not None else None
    rows_triton.run(logits, *q, gradient=gradient, factor=_factor(divisor), losses=losses, nll=nll)
    return losses if divisor is None else losses.sum() / divisor, nll


def _factor(divisor: float | Tensor | None) -> float | Tensor:
    if isinstance(divisor, Tensor):
        return 1.0 / divisor.double()
    return 1.0 if divisor is None else 1.0 / divisor if divisor else float("inf")


class Fused(torch.autograd.Function):
    """As :class:`FusedOnCPU`; the upstream gradient is looked at on the device, where a 1 costs one empty launch."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, q: RowTargets, divisor: float | Tensor | None, inplace: bool, with_nll: bool
    ) -> tuple[Tensor, Tensor | None]:
        return forward(ctx, run, logits, q, divisor, inplace, with_nll)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return None, None, None, None, None
        gradient, logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            return differentiable_gradient(ctx, logits, upstream), None, None, None, None
        kept = torch._C._autograd._get_current_graph_task_keep_graph()
        ctx.maybe_clear_saved_tensors()
        if gradient is None:
            overwrite = ctx.inplace and not kept
            gradient = logits.detach() if overwrite else torch.empty_like(logits)
            losses = torch.empty(logits.numel() // logits.shape[1], dtype=torch.float32, device=logits.device)
            factor = upstream.double() * _factor(ctx.divisor)
            rows_triton.run(logits, *ctx.q, gradient=gradient, factor=factor, losses=losses)
            if overwrite:
                torch.autograd.graph.increment_version(logits)
        else:
            gradient = rows_triton.scale_in_place(gradient.clone() if kept else gradient, upstream)
        return gradient, None, None, None, None
