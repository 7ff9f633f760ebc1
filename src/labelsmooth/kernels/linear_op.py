"""The linear head and its cross-entropy as torch.library operators: in a compiled graph too, the logits of one chunk
of rows exist at a time.

``linear_loss`` makes the gradients with the loss.  Where they wait for what comes upstream (see :func:`is_late`),
``linear_row_losses`` makes the losses of the rows, and ``linear_row_gradients`` the logits again, in the backward pass.
"""

from __future__ import annotations

from typing import Any, Sequence  # noqa: UP035  (torch.library knows this one only)

import torch
from torch import Tensor

from labelsmooth.kernels import reference
from labelsmooth.kernels.fused import RowTargets
from labelsmooth.kernels.linear import Head, Plan, factor_of, in_chunks, is_late, mean_of

__all__ = ["in_graph", "linear_loss", "linear_row_gradients", "linear_row_losses"]


def in_graph(
    features: Tensor,
    head: Head,
    q: RowTargets,
    divisor: float | Tensor | None,
    chunk_size: int,
    dtype: torch.dtype,
    with_nll: bool,
) -> tuple[Tensor, Tensor | None]:
    """:func:`linear_row_loss` as one operator of the graph."""
    tensors = (features, head.weight, head.bias)
    keep, scale = (torch.as_tensor(v, dtype=torch.float64) for v in (q.keep, q.scale))
    with_nll = with_nll and q.labels is not None
    plan = Plan(head.num_classes, head.softcap, q, divisor, chunk_size, dtype, with_nll, torch.is_grad_enabled())
    if is_late(plan):
        losses, nll = linear_row_losses(
            features, head.weight, head.bias, q.labels, keep, scale, q.base, q.valid, q.rows, q.z_loss,
            head.num_classes, head.softcap, chunk_size, dtype, with_nll,
        )  # fmt: skip
        return losses if divisor is None else mean_of(losses, plan), nll if with_nll else None
    wanted = [plan.with_gradients and t is not None and t.requires_grad for t in tensors]
    over = torch.as_tensor(divisor, dtype=torch.float64)
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
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The loss, the unsmoothed losses of the rows, and on request the gradients of features, weight and bias."""
    q = RowTargets(labels, keep, scale, base, rows, valid, z_loss)
    over = divisor.item() if divisor.device.type == "cpu" else divisor
    plan = Plan(num_classes, softcap, q, over, chunk_size, dtype, with_nll, any(wanted))
    losses, nll, gradients = in_chunks(
        features, Head(weight, bias, num_classes, softcap), plan, wanted, factor_of(plan)
    )
    made = [features.new_empty(0) if gradient is None else gradient for gradient in gradients]
    return mean_of(losses, plan), losses.new_empty(0) if nll is None else nll, made[0], made[1], made[2]


@linear_loss.register_fake
def _(features: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    num_classes, dtype, with_nll, wanted = rest[8], rest[11], rest[12], rest[13]
    wide = reference.accumulation_dtype(dtype)
    count = features.shape[0] * (weight.shape[0] // num_classes) if with_nll else 0
    made = _like((features, weight, bias), wanted)
    return features.new_empty((), dtype=wide), features.new_empty(count, dtype=wide), *made


def _like(tensors: tuple[Tensor, Tensor, Tensor | None], wanted: Sequence[bool]) -> tuple[Tensor, ...]:
    """Gradients of features, weight and bias; empty ones where none is wanted."""
    return tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format)
        if want and t is not None
        else tensors[0].new_empty(0)
        for t, want in zip(tensors, wanted, strict=True)
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.wanted = inputs[-1]
    ctx.save_for_backward(*output[2:])


def _backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    made = zip(ctx.saved_tensors, ctx.wanted, strict=True)
    gradients = [(gradient * upstream).to(gradient.dtype) if want else None for gradient, want in made]
    return (*gradients, *[None] * 14)


linear_loss.register_autograd(_backward, setup_context=_setup)


# Both operators for late gradients have their tensors first, so that these can be saved together; the rest are numbers.
_TENSORS = 8


@torch.library.custom_op("labelsmooth::linear_row_losses", mutates_args=())
def linear_row_losses(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    valid: Tensor | None,
    rows: bool,
    z_loss: float,
    num_classes: int,
    softcap: float | None,
    chunk_size: int,
    dtype: torch.dtype,
    with_nll: bool,
) -> tuple[Tensor, Tensor]:
    """The losses of the rows, and the unsmoothed ones."""
    q = RowTargets(labels, keep, scale, base, rows, valid, z_loss)
    plan = Plan(num_classes, softcap, q, None, chunk_size, dtype, with_nll, False)
    losses, nll, _ = in_chunks(features, Head(weight, bias, num_classes, softcap), plan, [False] * 3, 1.0)
    return losses, losses.new_empty(0) if nll is None else nll


@linear_row_losses.register_fake
def _(features: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    num_classes, dtype, with_nll = rest[7], rest[10], rest[11]
    count = features.shape[0] * (weight.shape[0] // num_classes)
    losses = features.new_empty(count, dtype=reference.accumulation_dtype(dtype))
    return losses, losses.new_empty(count if with_nll else 0)


@torch.library.custom_op("labelsmooth::linear_row_gradients", mutates_args=())
def linear_row_gradients(
    upstream: Tensor,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    valid: Tensor | None,
    rows: bool,
    z_loss: float,
    num_classes: int,
    softcap: float | None,
    chunk_size: int,
    dtype: torch.dtype,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of features, weight and bias, where the rows' losses have those of ``upstream``."""
    q = RowTargets(labels, keep, scale, base, rows, valid, z_loss)
    plan = Plan(num_classes, softcap, q, None, chunk_size, dtype, False, True)
    head = Head(weight, bias, num_classes, softcap)
    _, _, gradients = in_chunks(features, head, plan, wanted, upstream.double())
    made = [features.new_empty(0) if gradient is None else gradient for gradient in gradients]
    return made[0], made[1], made[2]


@linear_row_gradients.register_fake
def _(upstream: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    return _like((features, weight, bias), rest[-1])


def _setup_rows(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:_TENSORS])
    ctx.numbers = inputs[_TENSORS:-1]  # but with_nll
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _rows_backward(ctx: Any, upstream: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if upstream is None:
        return (None,) * 15
    wanted = list(ctx.needs_input_grad[:3])
    made = linear_row_gradients(upstream, *ctx.saved_tensors, *ctx.numbers, wanted)
    return (*(gradient if want else None for gradient, want in zip(made, wanted, strict=True)), *[None] * 12)


linear_row_losses.register_autograd(_rows_backward, setup_context=_setup_rows)
