"""The linear head and its cross-entropy as a torch.library operator: in a compiled graph too, the logits of one chunk
of rows exist at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labelsmooth.kernels import reference
from labelsmooth.kernels.fused import RowTargets
from labelsmooth.kernels.linear import Head, Plan, in_chunks, mean_of

__all__ = ["in_graph", "linear_loss"]


def in_graph(
    features: Tensor,
    head: Head,
    q: RowTargets,
    divisor: float | Tensor,
    chunk_size: int,
    dtype: torch.dtype,
    with_nll: bool,
) -> tuple[Tensor, Tensor | None]:
    """:func:`linear_row_loss` with a divisor, as one operator of the graph."""
    tensors = (features, head.weight, head.bias)
    wanted = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in tensors]
    keep, scale, over = (torch.as_tensor(v, dtype=torch.float64) for v in (q.keep, q.scale, divisor))
    with_nll = with_nll and q.labels is not None
    loss, nll, *_ = linear_loss(
        features, head.weight, head.bias, q.labels, keep, scale, q.base, q.rows, q.valid, q.z_loss, over,
        head.num_classes, head.softcap, chunk_size, dtype, with_nll, wanted,
    )  # fmt: skip
    return loss, nll if with_nll else None


@torch.library.custom_op("labelsmooth::linear_loss", mutates_args=())
def linear_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    rows: bool,
    valid: Tensor | None,
    z_loss: float,
    divisor: Tensor,
    num_classes: int,
    softcap: float | None,
    chunk_size: int,
    dtype: torch.dtype,
    with_nll: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The loss, the unsmoothed losses of the rows, and on request the gradients of features, weight and bias."""
    q = RowTargets(labels, keep, scale, base, rows, valid, z_loss)
    over = divisor.item() if divisor.device.type == "cpu" else divisor
    plan = Plan(num_classes, softcap, q, over, chunk_size, dtype, with_nll, any(wanted))
    losses, nll, gradients = in_chunks(features, Head(weight, bias, num_classes, softcap), plan, wanted, plan.factor)
    made = [features.new_empty(0) if gradient is None else gradient for gradient in gradients]
    return mean_of(losses, plan), losses.new_empty(0) if nll is None else nll, made[0], made[1], made[2]


@linear_loss.register_fake
def _(features: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    num_classes, dtype, with_nll, wanted = rest[8], rest[11], rest[12], rest[13]
    wide = reference.accumulation_dtype(dtype)
    count = features.shape[0] * (weight.shape[0] // num_classes) if with_nll else 0
    made = [
        torch.empty_like(t, memory_format=torch.contiguous_format) if want and t is not None else features.new_empty(0)
        for t, want in zip((features, weight, bias), wanted, strict=True)
    ]
    return features.new_empty((), dtype=wide), features.new_empty(count, dtype=wide), *made


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.wanted = inputs[-1]
    ctx.save_for_backward(*output[2:])


def _backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    made = zip(ctx.saved_tensors, ctx.wanted, strict=True)
    gradients = [(gradient * upstream).to(gradient.dtype) if want else None for gradient, want in made]
    return (*gradients, *[None] * 14)


linear_loss.register_autograd(_backward, setup_context=_setup)
