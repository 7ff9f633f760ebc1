"""The cross-entropy of rows whose classes are distributed over the processes of a group: two small all-reduces.

Each process holds the logits of some classes.  The first all-reduce finds every row's maximum; the second adds up

    s = sum_k exp(z_k - max),   z_y - max,   <base, z - max>,   sum(base)

from which every process computes the loss of the whole row and the gradient of its own classes.  The maximum is
subtracted first, so the logarithm is never taken of an underflowed sum.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from labelsmooth.kernels.choose import Kernel
from labelsmooth.kernels.chunks import Head, Plan
from labelsmooth.kernels.linear import LinearInChunks
from labelsmooth.kernels.reference import Divisor, Terms, accumulation_dtype

__all__ = ["sharded_linear_loss", "sharded_row_losses"]


def sharded_row_losses(
    logits: Tensor, terms: Terms, first_class: int, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor | None]:
    """:func:`reference.row_losses` of the logits of all processes together; the same result on each.

    Args:
        logits: [N, K_local], the classes first_class, ..., first_class + K_local - 1.
        terms: over all classes, the same on each process.
    """
    losses, nll = ShardedRows.apply(logits, terms, first_class, group)  # type: ignore[no-untyped-call]
    return losses, None if terms.q.index is None else nll


def sharded_linear_loss(
    features: Tensor,
    head: Head,
    terms: Terms,
    divisor: Divisor,
    plan: Plan,
    first_class: int,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, Tensor | None]:
    """:func:`labelsmooth.kernels.linear.linear_row_loss` of a head whose classes are distributed, in the same chunks.

    Args:
        features: [N, D], the same on each process; their gradient is summed over the processes.
        head: of this process's classes.
        terms: over all classes, the same on each process.
    """
    kernel = Kernel(partial(_run, first_class=first_class, group=group), torch.mul)
    loss, nll = LinearInChunks.apply(  # type: ignore[no-untyped-call]
        _Replicated.apply(features, group), head.weight, head.bias, head[2:], kernel, terms, divisor, plan  # type: ignore[no-untyped-call]
    )  # fmt: skip
    return _Once.apply(loss), nll  # type: ignore[no-untyped-call]


def _run(
    logits: Tensor,
    *terms: Any,
    gradient: Tensor | None,
    losses: Tensor,
    nll: Tensor | None,
    first_class: int,
    group: dist.ProcessGroup | None,
    factor: float | Tensor = 1.0,
    divisor: float | Tensor = 1.0,
) -> None:
    """As a row kernel: fills the outputs for some rows of logits."""
    of_rows, likelihoods, slope = _of_rows(logits, Terms(*terms), first_class, group, gradient is not None)
    losses.copy_(of_rows)
    if nll is not None:
        nll.copy_(likelihoods)
    if gradient is not None and slope is not None:
        by_row = factor[:, None] if isinstance(factor, Tensor) and factor.dim() else factor
        gradient.copy_(slope * by_row / divisor)


class ShardedRows(torch.autograd.Function):
    """Loss of the whole rows and gradient of the local classes, both computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        terms: Terms,
        first_class: int,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor]:
        losses, nll, gradient = _of_rows(logits.detach(), terms, first_class, group, ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient.to(logits.dtype))
        ctx.mark_non_differentiable(nll)
        return losses, nll

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[:, None]).to(gradient.dtype), None, None, None


def _of_rows(
    logits: Tensor, terms: Terms, first_class: int, group: dist.ProcessGroup | None, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Losses and unsmoothed losses of whole rows, and the gradient of the local classes."""
    q, dtype = terms.q, accumulation_dtype(logits.dtype)
    rows, local = logits.shape
    z = logits.to(dtype)
    classes = slice(first_class, first_class + local)
    base, valid = _local_base(terms, classes, dtype, logits.device)
    if valid is not None:
        z = torch.where(valid, z, -torch.inf)
    counted = None if q.index is None else q.index != -1
    if counted is not None:
        z = torch.where(counted[:, None], z, 0.0)
    largest = z.amax(1) if local else z.new_full((rows,), -torch.inf)
    # A MAX reduction may drop a NaN; the sums that follow keep it.
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    shifted = z - largest[:, None]
    e = shifted.exp()
    sums = z.new_zeros(4, rows)
    sums[0] = e.sum(1)
    here = None
    if q.index is not None:
        place = q.index - first_class
        here = (place >= 0) & (place < local)
        row = here.nonzero().squeeze(1)
        sums[1, row] = shifted[row, place[row]]
    sums[2] = torch.where(base == 0, 0.0, base * shifted).sum(1)
    sums[3] = base.expand(rows, local).sum(1)
    dist.all_reduce(sums, group=group)
    sum_e, at_label, dot, total = sums
    keep, scale = (_as_rows(value, rows, z) for value in (q.keep, q.scale))
    if q.index is not None:  # labels out of range
        keep = keep.masked_fill(q.index < -1, torch.nan)
    log_sum = sum_e.log()
    lse = largest + log_sum
    mass = keep + scale * total
    losses = mass * log_sum + terms.z_loss * lse.square()
    losses = losses - torch.where(keep == 0, 0.0, keep * at_label) - torch.where(scale == 0, 0.0, scale * dot)
    nll = log_sum - at_label
    gradient = None
    if with_gradient:
        gradient = e.mul_(((mass + 2.0 * terms.z_loss * lse) / sum_e)[:, None]).sub_(scale[:, None] * base)
        if here is not None and q.index is not None:
            gradient[row, place[row]] -= keep[row]
        if counted is not None:
            gradient = torch.where(counted[:, None], gradient, 0.0)
        if valid is not None:
            gradient = torch.where(valid, gradient, 0.0)
    if counted is not None:
        losses, nll = torch.where(counted, losses, 0.0), torch.where(counted, nll, 0.0)
    return losses, nll, gradient


def _local_base(terms: Terms, classes: slice, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The base of the local classes as [1 or N, K_local], 0 where a class is not valid, and which are valid."""
    q, valid = terms.q, terms.valid
    if q.base is None:
        base = torch.full((1, classes.stop - classes.start), 1.0 / q.num_classes, dtype=dtype, device=device)
    else:
        base = q.base[..., classes].to(dtype)
        if base.dim() == 1:
            base = base[None]
        elif not q.rows:
            assert q.index is not None
            base = base[q.index.clamp(min=0)]
    if valid is None:
        return base, None
    valid = valid[..., classes]
    return torch.where(valid, base, 0.0), valid


def _as_rows(value: float | Tensor, rows: int, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(rows)


def _refuse_second_derivatives() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the cross-entropy of distributed classes has no second derivatives. Call backward without "
            "create_graph=True, or gather the logits and use labelsmooth.cross_entropy."
        )


class _Replicated(torch.autograd.Function):
    """A tensor that is the same on every process and used with the local classes of each: its gradients are summed."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        # Summed in float32: 16-bit parts would be rounded once per process.
        total = upstream.to(accumulation_dtype(upstream.dtype), copy=True).contiguous()
        dist.all_reduce(total, group=ctx.group)
        return total.to(upstream.dtype), None


class _Once(torch.autograd.Function):
    """A loss that is differentiated once: the second derivatives of the local classes would not be those of all."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        _refuse_second_derivatives()
        return upstream
