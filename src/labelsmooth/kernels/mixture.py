"""The loss of rows with two targets each, in the memory of one gradient.

H(q, p) is linear in q, so the loss of lam * q(a) + (1 - lam) * q(b) is that mixture of two losses, and its gradient of
two gradients.  The second gradient is computed for some rows at a time and added to the first while it is in cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth import _memory
from labelsmooth._torch_private import is_batched, keeps_graph, saved_tensors
from labelsmooth.kernels import reference
from labelsmooth.kernels.choose import Kernel, is_plain, row_kernel
from labelsmooth.kernels.reference import Divisor, Terms, is_late
from labelsmooth.kernels.rows import original, row_loss, scaled

__all__ = ["Share", "mixed_row_loss"]


def chunk_elements(elements: int) -> int:
    """Logits in a chunk of the second gradient: a small part of all, within the cache, and enough for the threads."""
    return min(max(elements // 24, 1 << 16), 1 << 20)


class Share(NamedTuple):
    """One of the targets of the rows, and its weight.  Where the weight is 0 the index should be -1: the loss of the
    label may be infinite there."""

    terms: Terms
    weight: Tensor  # [N]


def mixed_row_loss(logits: Tensor, shares: tuple[Share, ...], divisor: Divisor) -> Tensor:
    """The sum of weight_i * loss_i over the shares, for each row, or over all rows and divided by ``divisor``.

    Args:
        logits: [N, K] or [B, K, D].
    """
    needed = logits.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if needed and not is_late(logits.dtype) and logits.device.type == "cpu":
        tensors = [tensor for terms, weight in shares for tensor in (*terms.tensors(), weight)]
        kernel = row_kernel("cpu", logits.dtype) if is_plain(logits, *tensors, divisor) else None
        if kernel is not None:
            divisor = divisor.item() if isinstance(divisor, Tensor) else divisor
            return Mixed.apply(logits, kernel, shares, divisor)  # type: ignore[no-any-return, no-untyped-call]
    return _reduced([row_loss(logits, terms)[0] for terms, _ in shares], shares, divisor)


def _reduced(losses: list[Tensor], shares: tuple[Share, ...], divisor: Divisor) -> Tensor:
    parts = [weight.to(loss.dtype) * loss for loss, (_, weight) in zip(losses, shares, strict=True)]
    total = torch.stack(parts).sum(0)
    return total if divisor is None else total.sum() / divisor


class Mixed(torch.autograd.Function):
    """The losses and the one gradient, in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        kernel: Kernel,
        shares: tuple[Share, ...],
        divisor: float | None,
    ) -> Tensor:
        rows, outer = logits.numel() // logits.shape[1], logits.shape[0]
        inner = rows // max(outer, 1)
        chunk = max(1, min(outer, chunk_elements(logits.numel()) * outer // max(logits.numel(), 1)))
        dtype = reference.accumulation_dtype(logits.dtype)
        losses = [torch.empty(rows, dtype=dtype, device=logits.device) for _ in shares]
        gradient = _memory.empty_like(logits)
        others = [torch.empty_like(logits[:chunk]) for _ in shares[1:]]
        for first in range(0, outer, chunk):
            z = logits[first : first + chunk]
            places = slice(first * inner, (first + z.shape[0]) * inner)
            into = [gradient[first : first + chunk], *(other[: z.shape[0]] for other in others)]
            for (terms, weight), loss, part in zip(shares, losses, into, strict=True):
                by = 1.0 if divisor is None else divisor
                factor = weight[places].double()
                kernel.run(z, *terms.part(places), gradient=part, factor=factor, divisor=by, losses=loss[places])
            for part in into[1:]:
                into[0].add_(part)
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.numbers, ctx.divisor = kernel, [terms.numbers() for terms, _ in shares], divisor
        ctx.save_for_backward(gradient, logits, *(t for terms, weight in shares for t in (*terms.tensors(), weight)))
        return _reduced(losses, shares, divisor)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return (None,) * 4
        size = 6  # tensors of a share
        tensors = saved_tensors(ctx, *range(2, 2 + size * len(ctx.numbers)))
        if torch.is_grad_enabled():  # create_graph=True
            shares = tuple(
                Share(Terms.of(numbers, tensors[i * size : (i + 1) * size - 1]), tensors[(i + 1) * size - 1])
                for i, numbers in enumerate(ctx.numbers)
            )
            logits = original(ctx, 1)
            losses = [reference.row_losses(logits, *terms)[0] for terms, _ in shares]
            loss = _reduced(losses, shares, ctx.divisor)
            return torch.autograd.grad(loss, logits, upstream, create_graph=True)[0], *[None] * 3
        kept = keeps_graph()
        (gradient,) = saved_tensors(ctx, 0)
        if not kept:
            ctx.maybe_clear_saved_tensors()
        return scaled(ctx.kernel, gradient, upstream, kept, is_batched(upstream)), *[None] * 3
