"""The loss of rows with two targets each, in the memory of one gradient.

H(q, p) is linear in q, so the loss of lam * q(a) + (1 - lam) * q(b) is that mixture of two losses, and its gradient of
two gradients.  The second gradient is made for some rows at a time and added to the first while it is in cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.kernels import memory, reference
from labelsmooth.kernels.choose import choose, fits
from labelsmooth.kernels.fused import RowTargets, cpu_launcher, part_of, row_loss, scaled_gradient

__all__ = ["Share", "mixed_row_loss"]


def chunk_elements(elements: int) -> int:
    """Logits in a chunk of the second gradient: a small part of all, within the cache, and enough for the threads."""
    return min(max(elements // 24, 1 << 16), 1 << 20)


class Share(NamedTuple):
    """One of the targets of the rows, and how much of it there is; where that is 0 the label should be -1, since its
    loss may be infinite."""

    q: RowTargets
    share: Tensor  # [N]


def mixed_row_loss(logits: Tensor, shares: tuple[Share, ...], divisor: float | Tensor | None) -> Tensor:
    """The sum of share_i * loss_i over the shares, for each row, or over all rows and divided by ``divisor``.

    Args:
        logits: [N, K] or [B, K, D].
    """
    tensors = [value for q, share in shares for value in (*q, share) if isinstance(value, Tensor)]
    wanted = logits.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if (
        wanted
        and logits.dtype != torch.float16  # whose gradient waits for the upstream one
        and fits(logits, *tensors, divisor)
        and choose(logits.device, logits.dtype).kernel == "rows_cpu"
    ):
        divisor = divisor.item() if isinstance(divisor, Tensor) else divisor
        return MixedOnCPU.apply(logits, shares, divisor)  # type: ignore[no-any-return, no-untyped-call]
    return _reduced([row_loss(logits, q)[0] for q, _ in shares], shares, divisor)


def _reduced(losses: list[Tensor], shares: tuple[Share, ...], divisor: float | Tensor | None) -> Tensor:
    parts = [share.to(each.dtype) * each for each, (_, share) in zip(losses, shares, strict=True)]
    total = torch.stack(parts).sum(0)
    return total if divisor is None else total.sum() / divisor


class MixedOnCPU(torch.autograd.Function):
    """The losses and the one gradient, in the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, shares: tuple[Share, ...], divisor: float | None) -> Tensor:
        rows = logits.numel() // logits.shape[1]
        losses = [torch.empty(rows, dtype=reference.accumulation_dtype(logits.dtype)) for _ in shares]
        gradient = memory.empty_like(logits)
        count = max(len(logits), 1)
        inner, chunk = (
            rows // count,
            max(1, min(count, chunk_elements(logits.numel()) * count // max(logits.numel(), 1))),
        )
        others = [torch.empty_like(logits[:chunk]) for _ in shares[1:]]
        for first in range(0, len(logits), chunk):
            outer = slice(first, first + chunk)
            places = slice(first * inner, min((first + chunk) * inner, rows))
            z, into = logits[outer], [gradient[outer], *(other[: len(logits[outer])] for other in others)]
            for (q, share), loss, part in zip(shares, losses, into, strict=True):
                factor = share[places].double()
                if divisor is not None:
                    factor = factor / divisor
                cpu_launcher().run(z, *part_of(q, places), gradient=part, factor=factor, losses=loss[places])
            for part in into[1:]:
                into[0].add_(part)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gradient, logits)
        ctx.shares, ctx.divisor = shares, divisor
        return _reduced(losses, shares, divisor)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, None, None]:
        if upstream is None:
            return None, None, None
        gradient, logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            losses = [reference.row_losses(logits, *q)[0] for q, _ in ctx.shares]
            loss = _reduced(losses, ctx.shares, ctx.divisor)
            return torch.autograd.grad(loss, logits, upstream, create_graph=True)[0], None, None
        return scaled_gradient(ctx, gradient, upstream), None, None
