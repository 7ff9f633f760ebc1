"""The cross-entropy of rows whose classes are spread over the processes of a group: two small all-reduces.

Each process holds the logits of some classes.  The first all-reduce finds every row's maximum; the second adds up

    s = sum_k exp(z_k - max),   z_y - max,   <base, z - max>,   sum(base)

from which every process has the loss of the whole row, and the gradient of its own classes.  The maximum is taken out
before anything is added, so no exponential that underflowed is ever taken the logarithm of.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from labelsmooth.kernels.fused import RowTargets
from labelsmooth.kernels.reference import accumulation_dtype

__all__ = ["replicated", "sharded_row_losses"]


def sharded_row_losses(
    logits: Tensor, q: RowTargets, num_classes: int, first_class: int, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor | None]:
    """:func:`reference.row_losses` of the logits that the processes hold together; the same result on each.

    Args:
        logits: [N, K_local], classes first_class, ..., first_class + K_local - 1 of ``num_classes``.
        q: targets over all classes, the same on each process.
    """
    losses, nll = ShardedRows.apply(logits, q, num_classes, first_class, group)  # type: ignore[no-untyped-call]
    return losses, None if q.labels is None else nll


class ShardedRows(torch.autograd.Function):
    """Loss of the whole rows, gradient of the local classes, made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        q: RowTargets,
        num_classes: int,
        first_class: int,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor]:
        dtype, rows, local = accumulation_dtype(logits.dtype), len(logits), logits.shape[1]
        z = logits.detach().to(dtype)
        classes = slice(first_class, first_class + local)
        base, valid = _local_base(q, num_classes, classes, dtype, logits.device)
        if valid is not None:
            z = torch.where(valid, z, -torch.inf)
        counted = None if q.labels is None else q.labels >= 0
        if counted is not None:
            z = torch.where(counted[:, None], z, 0.0)
        largest = z.amax(1) if local else z.new_full((rows,), -torch.inf)
        # A maximum may lose a NaN on its way through the group; the sums that follow carry it.
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
        shifted = z - largest[:, None]
        e = shifted.exp()
        sums = z.new_zeros(4, rows)
        sums[0] = e.sum(1)
        here = None
        if q.labels is not None:
            place = q.labels - first_class
            here = (place >= 0) & (place < local)
            row = here.nonzero().squeeze(1)
            sums[1, row] = shifted[row, place[row]]
        sums[2] = torch.where(base == 0, 0.0, base * shifted).sum(1)
        sums[3] = base.expand(rows, local).sum(1)
        dist.all_reduce(sums, group=group)
        sum_e, at_label, dot, total = sums
        keep, scale = (_as_rows(value, rows, z) for value in (q.keep, q.scale))
        log_sum = sum_e.log()
        lse = largest + log_sum
        mass = keep + scale * total
        losses = mass * log_sum + q.z_loss * lse.square()
        losses = losses - torch.where(keep == 0, 0.0, keep * at_label) - torch.where(scale == 0, 0.0, scale * dot)
        nll = log_sum - at_label
        if ctx.needs_input_grad[0]:
            gradient = e.mul_(((mass + 2.0 * q.z_loss * lse) / sum_e)[:, None]).sub_(scale[:, None] * base)
            if here is not None and q.labels is not None:
                gradient[row, place[row]] -= keep[row]
            if counted is not None:
                gradient = torch.where(counted[:, None], gradient, 0.0)
            if valid is not None:
                gradient = torch.where(valid, gradient, 0.0)
            ctx.save_for_backward(gradient.to(logits.dtype))
        if counted is not None:
            losses, nll = torch.where(counted, losses, 0.0), torch.where(counted, nll, 0.0)
        ctx.mark_non_differentiable(nll)
        return losses, nll

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[:, None]).to(gradient.dtype), None, None, None, None


def _local_base(
    q: RowTargets, num_classes: int, classes: slice, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """The base of the local classes as [1 or N, K_local], 0 where a class is not valid, and which are valid."""
    if q.base is None:
        base = torch.full((1, classes.stop - classes.start), 1.0 / num_classes, dtype=dtype, device=device)
    else:
        base = q.base[..., classes].to(dtype)
        if base.dim() == 1:
            base = base[None]
        elif not q.rows:
            assert q.labels is not None
            base = base[q.labels.clamp(min=0)]
    if q.valid is None:
        return base, None
    valid = q.valid[..., classes]
    return torch.where(valid, base, 0.0), valid


def _as_rows(value: float | Tensor, rows: int, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(rows)


def _refuse_second_derivatives() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the cross-entropy of classes spread over processes has no second derivatives. Call backward without "
            "create_graph=True, or gather the logits and use labelsmooth.cross_entropy."
        )


class Replicated(torch.autograd.Function):
    """A tensor that every process holds, used with its own part of the classes: their gradients add up."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        _refuse_second_derivatives()
        # Added in float32: 16-bit parts would be rounded once for each process.
        total = upstream.to(accumulation_dtype(upstream.dtype), copy=True).contiguous()
        dist.all_reduce(total, group=ctx.group)
        return total.to(upstream.dtype), None


def replicated(tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The tensor itself; its gradient is the sum of the processes'."""
    return Replicated.apply(tensor, group)  # type: ignore[no-any-return, no-untyped-call]
