"""The row kernel as a torch.library operator, for compiled and exported graphs.

Eager mode does not come here: the dispatcher costs about 20 us a call, and a small batch takes less than that in all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labelsmooth.kernels import memory, reference

__all__ = ["row_losses"]


@torch.library.custom_op("labelsmooth::row_losses", mutates_args=())
def row_losses(
    logits: Tensor,
    labels: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    rows: bool,
    valid: Tensor | None,
    z_loss: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, unsmoothed losses and, on request, d loss_i / d logits_i of CPU logits; keep and scale as tensors."""
    from labelsmooth.kernels import launch_cpu

    losses, nll, gradient = _empty(logits, False)
    gradient = memory.empty_like(logits) if with_gradient else gradient
    launch_cpu.run(
        logits,
        labels,
        keep,
        scale,
        base,
        rows,
        valid,
        z_loss,
        gradient=gradient if with_gradient else None,
        losses=losses,
        nll=nll,
    )
    return losses, nll, gradient


def _empty(logits: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    count = logits.numel() // logits.shape[1]
    dtype = reference.accumulation_dtype(logits.dtype)
    losses, nll = logits.new_empty(count, dtype=dtype), logits.new_empty(count, dtype=dtype)
    return losses, nll, torch.empty_like(logits) if with_gradient else logits.new_empty(0)


@row_losses.register_fake
def _(
    logits: Tensor,
    labels: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    rows: bool,
    valid: Tensor | None,
    z_loss: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(logits, with_gradient)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[2])


def _backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    (gradient,) = ctx.saved_tensors
    each = upstream[:, None] if gradient.dim() == 2 else upstream.reshape(gradient.shape[0], 1, -1)
    return ((gradient * each).to(gradient.dtype), *[None] * 8)


row_losses.register_autograd(_backward, setup_context=_setup)
