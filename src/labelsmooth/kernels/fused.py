"""The cross-entropy of rows with its gradient made in the forward pass: the row kernels, under autograd."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.kernels import memory, reference
from labelsmooth.kernels.choose import choose, fits

__all__ = ["RowTargets", "cpu_launcher", "differentiable_gradient", "forward", "part_of", "row_loss", "scaled_gradient"]


class RowTargets(NamedTuple):
    """q of each row, as :func:`reference.row_losses` takes it, and the terms beside it."""

    labels: Tensor | None
    keep: float | Tensor
    scale: float | Tensor
    base: Tensor | None = None
    rows: bool = False
    valid: Tensor | None = None
    z_loss: float = 0.0


def part_of(q: RowTargets, rows: slice) -> RowTargets:
    """The targets of some of the rows."""

    def cut(value: Any) -> Any:
        return value[rows] if isinstance(value, Tensor) and value.dim() else value

    base = q.base[rows] if q.base is not None and q.rows else q.base
    valid = q.valid[rows] if q.valid is not None and q.valid.dim() == 2 else q.valid
    return q._replace(labels=cut(q.labels), keep=cut(q.keep), scale=cut(q.scale), base=base, valid=valid)


def row_loss(
    logits: Tensor,
    q: RowTargets,
    divisor: float | Tensor | None = None,
    *,
    inplace: bool = False,
    with_nll: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The losses of the rows, or their sum over ``divisor``, and on request the unsmoothed loss of each row.

    The unfused equal is ``losses, nll = reference.row_losses(logits, *q)`` and, with a divisor,
    ``losses.sum() / divisor``.  The unsmoothed losses have no gradient.

    Args:
        logits: [N, K] or [B, K, D].
        q: their targets.
        divisor: a number, or None for one loss for each row.
        inplace: the memory of the logits may become that of their gradient.
        with_nll: return the unsmoothed losses [N] too (None where the rows have no label).
    """
    if torch.compiler.is_compiling():
        return _traced(logits, q, divisor, with_nll)
    if fits(logits, q.labels, q.keep, q.scale, q.base, q.valid, divisor):
        kernel = choose(logits.device, logits.dtype).kernel
        if kernel == "rows_cpu":
            divisor = divisor.item() if isinstance(divisor, Tensor) else divisor
            if logits.requires_grad and torch.is_grad_enabled():
                return FusedOnCPU.apply(logits, q, divisor, inplace, with_nll)  # type: ignore[no-any-return, no-untyped-call]
            return _run_on_cpu(logits, q, divisor, None, with_nll)
        if kernel == "rows_triton":
            from labelsmooth.kernels import fused_triton

            if logits.requires_grad and torch.is_grad_enabled():
                return fused_triton.Fused.apply(logits, q, divisor, inplace, with_nll)  # type: ignore[no-any-return, no-untyped-call]
            return fused_triton.run(logits, q, divisor, None, with_nll)
    return _reference(logits, q, divisor, with_nll)


def _traced(
    logits: Tensor, q: RowTargets, divisor: float | Tensor | None, with_nll: bool
) -> tuple[Tensor, Tensor | None]:
    """In a graph: the operator where it serves, else the reference's own operators."""
    tensors = [value for value in q if isinstance(value, Tensor)]
    if choose(logits.device, logits.dtype).kernel != "rows_cpu" or any(value.requires_grad for value in tensors):
        return _reference(logits, q, divisor, with_nll)
    from labelsmooth.kernels import ops

    keep, scale = (torch.as_tensor(value, dtype=torch.float64) for value in (q.keep, q.scale))
    wanted = logits.requires_grad and torch.is_grad_enabled()
    losses, nll, _ = ops.row_losses(logits, q.labels, keep, scale, q.base, q.rows, q.valid, q.z_loss, wanted)
    return losses if divisor is None else losses.sum() / divisor, nll if with_nll and q.labels is not None else None


def _reference(
    logits: Tensor, q: RowTargets, divisor: float | Tensor | None, with_nll: bool = False
) -> tuple[Tensor, Tensor | None]:
    losses, nll = reference.row_losses(logits, *q)
    nll = nll.detach() if with_nll and nll is not None else None
    return losses if divisor is None else losses.sum() / divisor, nll


@cache
def cpu_launcher() -> ModuleType:
    """The launcher, imported on first use, and numba with it."""
    from labelsmooth.kernels import launch_cpu

    return launch_cpu


def _inverse(divisor: float | None) -> float:
    """1 / divisor as floating-point numbers have it: over no label at all the mean is 0 * inf, which is NaN."""
    return 1.0 if divisor is None else 1.0 / divisor if divisor else inf


def _run_on_cpu(
    logits: Tensor, q: RowTargets, divisor: float | None, gradient: Tensor | None, with_nll: bool
) -> tuple[Tensor, Tensor | None]:
    """The results of :func:`row_loss`, and the gradient for an upstream gradient of 1 where it is to be filled."""
    dtype, count = reference.accumulation_dtype(logits.dtype), logits.numel() // logits.shape[1]
    losses = torch.empty(count, dtype=dtype) if divisor is None else None
    nll = torch.empty(count, dtype=dtype) if with_nll and q.labels is not None else None
    factor = _inverse(divisor)
    loss_sum = cpu_launcher().run(logits, *q, gradient=gradient, factor=factor, losses=losses, nll=nll)
    return torch.full((), loss_sum * factor, dtype=dtype) if losses is None else losses, nll


def forward(
    ctx: Any,
    run: Callable[[Tensor, RowTargets, Any, Tensor | None, bool], tuple[Tensor, Tensor | None]],
    logits: Tensor,
    q: RowTargets,
    divisor: float | Tensor | None,
    inplace: bool,
    with_nll: bool,
) -> tuple[Tensor, Tensor | None]:
    """The forward pass under autograd: loss and, but for float16, the gradient by one ``run`` of a kernel."""
    inplace = inplace and torch._debug_has_internal_overlap(logits) == 0
    ctx.q, ctx.divisor, ctx.inplace = q, divisor, inplace
    ctx.set_materialize_grads(False)
    if logits.dtype == torch.float16:
        loss, nll = run(logits, q, divisor, None, with_nll)
        ctx.save_for_backward(None, logits)
    else:
        gradient = logits.detach() if inplace else memory.empty_like(logits)
        loss, nll = run(logits, q, divisor, gradient, with_nll)
        if inplace:
            torch.autograd.graph.increment_version(logits)
        # Saved as autograd saves, so that checkpointing and offloading see it.
        ctx.save_for_backward(gradient, None if inplace else logits)
    if nll is not None:
        ctx.mark_non_differentiable(nll)
    return loss, nll


class FusedOnCPU(torch.autograd.Function):
    """Loss and gradient in one pass over the logits; what comes upstream is multiplied in only where it is not 1.

    A float16 gradient is made in the backward pass instead, when the upstream gradient is known: divided by the number
    of rows it would vanish before a GradScaler's factor could save it.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, q: RowTargets, divisor: float | None, inplace: bool, with_nll: bool
    ) -> tuple[Tensor, Tensor | None]:
        return forward(ctx, _run_on_cpu, logits, q, divisor, inplace, with_nll)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return None, None, None, None, None
        gradient, logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            return differentiable_gradient(ctx, logits, upstream), None, None, None, None
        if gradient is None:
            return _late_gradient(ctx, logits, upstream), None, None, None, None
        return scaled_gradient(ctx, gradient, upstream), None, None, None, None


def scaled_gradient(ctx: Any, gradient: Tensor, upstream: Tensor) -> Tensor:
    """The gradient that was made, times what comes upstream where that is not 1."""
    # With nothing kept for another backward pass the buffer is ours alone, and autograd need not copy it.
    kept = torch._C._autograd._get_current_graph_task_keep_graph()
    ctx.maybe_clear_saved_tensors()
    if upstream.dim():
        each = upstream.reshape(-1, 1) if gradient.dim() == 2 else upstream.reshape(len(gradient), 1, -1)
        return (gradient * each).to(gradient.dtype) if kept else gradient.mul_(each)
    if upstream.item() != 1.0:
        return gradient * upstream if kept else gradient.mul_(upstream)
    return gradient


def _late_gradient(ctx: Any, logits: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of float16 logits, in one rounding."""
    inplace = ctx.inplace and not torch._C._autograd._get_current_graph_task_keep_graph()
    ctx.maybe_clear_saved_tensors()
    gradient = logits.detach() if inplace else memory.empty_like(logits)
    factor = upstream.double() * _inverse(ctx.divisor)
    cpu_launcher().run(logits, *ctx.q, gradient=gradient, factor=factor)
    if inplace:
        torch.autograd.graph.increment_version(logits)
    return gradient


def differentiable_gradient(ctx: Any, logits: Tensor | None, upstream: Tensor) -> Tensor:
    """The same gradient through the reference, for derivatives of it."""
    if logits is None:
        raise RuntimeError(
            "the logits were overwritten by their gradient (inplace=True), so it cannot be differentiated again. "
            "Leave inplace=True out where backward is called with create_graph=True."
        )
    loss, _ = _reference(logits, ctx.q, ctx.divisor)
    return torch.autograd.grad(loss, logits, upstream, create_graph=True)[0]
