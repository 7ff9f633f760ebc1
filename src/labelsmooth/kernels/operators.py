"""The fused losses as torch.library operators, for compiled and exported graphs.

Eager mode does not use them: the dispatcher costs about 20 us a call, more than a small batch takes in all.
``linear_rows`` computes the gradients with the loss.  If each row has an upstream gradient of its own, or in float16,
it computes the losses alone, and the backward pass runs it again for the gradients.
"""

from __future__ import annotations

from typing import Any, Sequence  # noqa: UP035  (torch.library knows this one only)

import torch
from torch import Tensor

from labelsmooth import _memory
from labelsmooth.kernels.choose import Kernel, row_kernel
from labelsmooth.kernels.chunks import Head, Plan, in_chunks
from labelsmooth.kernels.reference import Divisor, Terms, accumulation_dtype, is_late, mean_of, row_factor
from labelsmooth.kernels.reference import row_losses as reference_losses
from labelsmooth.target import Target

__all__ = ["flat", "linear", "linear_rows", "row_losses"]


def flat(terms: Terms) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None, Tensor | None, bool, float]:
    """The terms as arguments of an operator, with keep and scale as tensors; the tensors come first."""
    q = terms.q
    # A sum rather than torch.as_tensor, which would compile the graph again for each epsilon.
    zero = torch.zeros((), dtype=torch.float64, device="cpu")
    keep, scale = (value if isinstance(value, Tensor) else zero + value for value in (q.keep, q.scale))
    return q.index, keep, scale, q.base, terms.valid, q.rows, terms.z_loss


def _terms(
    num_classes: int,
    index: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    valid: Tensor | None,
    rows: bool,
    z_loss: float,
) -> Terms:
    return Terms(Target(num_classes, index, keep, scale, base, rows), valid, z_loss)


def _kernel(tensor: Tensor, dtype: torch.dtype) -> Kernel:
    """The row kernel, or the reference in its place if numba cannot be imported."""
    return row_kernel(tensor.device.type, dtype) or Kernel(_reference_run, Tensor.mul_)


def _reference_run(
    logits: Tensor,
    *terms: Any,
    gradient: Tensor | None = None,
    factor: float | Tensor = 1.0,
    divisor: float | Tensor = 1.0,
    losses: Tensor,
    nll: Tensor | None = None,
) -> None:
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        values, likelihoods = reference_losses(leaf, *terms)
        if gradient is not None:
            gradient.copy_(torch.autograd.grad((values * factor / divisor).sum(), leaf)[0])
    losses.copy_(values)
    if nll is not None and likelihoods is not None:
        nll.copy_(likelihoods)


# --- the loss of logits ---------------------------------------------------------------------------------------------


@torch.library.custom_op("labelsmooth::row_losses", mutates_args=())
def row_losses(
    logits: Tensor,
    index: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    valid: Tensor | None,
    rows: bool,
    z_loss: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, unsmoothed losses and, on request, d loss_i / d logits_i."""
    losses, nll, gradient = _outputs(logits, False)
    gradient = _memory.empty_like(logits) if with_gradient else gradient
    _kernel(logits, logits.dtype).run(
        logits,
        *_terms(logits.shape[1], index, keep, scale, base, valid, rows, z_loss),
        gradient=gradient if with_gradient else None,
        losses=losses,
        nll=None if index is None else nll,
    )
    return losses, nll, gradient


def _outputs(logits: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    count, dtype = logits.numel() // logits.shape[1], accumulation_dtype(logits.dtype)
    losses, nll = logits.new_empty(count, dtype=dtype), logits.new_empty(count, dtype=dtype)
    return losses, nll, torch.empty_like(logits) if with_gradient else logits.new_empty(0)


@row_losses.register_fake
def _(logits: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(logits, rest[-1])


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[2])


def _scale_gradient(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    (gradient,) = ctx.saved_tensors
    return (gradient * row_factor(upstream, gradient)).to(gradient.dtype), *[None] * 8


row_losses.register_autograd(_scale_gradient, setup_context=_save_gradient)


# --- the loss of a linear head --------------------------------------------------------------------------------------


def linear(features: Tensor, head: Head, terms: Terms, divisor: Divisor, plan: Plan) -> tuple[Tensor, Tensor | None]:
    """:func:`linear_row_loss` as one operator of the graph."""
    plan = plan._replace(with_nll=plan.with_nll and terms.q.index is not None)
    enabled = torch.is_grad_enabled()
    needed = [enabled and t is not None and t.requires_grad for t in (features, head.weight, head.bias)]
    by = None
    if divisor is None or is_late(plan.dtype):
        needed = [False] * 3
    else:
        by = torch.as_tensor(divisor, dtype=torch.float64)
    inputs = (features, head.weight, head.bias, *flat(terms), *head[2:], *plan)
    loss, nll, *_ = linear_rows(*inputs, by, None, needed)
    if by is None and divisor is not None:
        loss = mean_of(loss, divisor)
    return loss, nll if plan.with_nll else None


@torch.library.custom_op("labelsmooth::linear_rows", mutates_args=())
def linear_rows(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    index: Tensor | None,
    keep: Tensor,
    scale: Tensor,
    base: Tensor | None,
    valid: Tensor | None,
    rows: bool,
    z_loss: float,
    num_classes: int,
    softcap: float | None,
    chunk_size: int | None,
    dtype: torch.dtype,
    with_nll: bool,
    wide_sums: bool,
    divisor: Tensor | None,
    upstream: Tensor | None,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The losses of the rows, or their sum over ``divisor``; the unsmoothed losses; and the gradients of features,
    weight and bias as far as they are needed, for an upstream gradient of 1, or of ``upstream`` for each row."""
    terms = _terms(num_classes, index, keep, scale, base, valid, rows, z_loss)
    losses, nll, gradients = in_chunks(
        _kernel(features, dtype),
        features,
        Head(weight, bias, num_classes, softcap),
        terms,
        Plan(chunk_size, dtype, with_nll, wide_sums),
        needed,
        1.0 if upstream is None else upstream,
        1.0 if divisor is None else divisor,
    )
    d_features, d_weight, d_bias = (features.new_empty(0) if gradient is None else gradient for gradient in gradients)
    nll = losses.new_empty(0) if nll is None else nll
    return losses if divisor is None else mean_of(losses, divisor), nll, d_features, d_weight, d_bias


@linear_rows.register_fake
def _(features: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    num_classes, dtype, with_nll, _, divisor, _, needed = rest[7], *rest[10:]
    wide = accumulation_dtype(dtype)
    count = features.shape[0] * (weight.shape[0] // num_classes)
    gradients = (
        torch.empty_like(t, memory_format=torch.contiguous_format) if need and t is not None else features.new_empty(0)
        for t, need in zip((features, weight, bias), needed, strict=True)
    )
    losses = features.new_empty(() if divisor is not None else count, dtype=wide)
    return losses, features.new_empty(count if with_nll else 0, dtype=wide), *gradients


def _save_for_linear(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    (divisor, _, ctx.needed) = inputs[16:]
    ctx.numbers = (*inputs[8:14], False, inputs[15])  # without the unsmoothed losses
    ctx.reduced = divisor is not None
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*(output[2:] if ctx.reduced else inputs[:8]))


def _linear_gradients(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if upstream is None:
        return (None,) * 19
    if ctx.reduced:
        needed = ctx.needed
        gradients = [(gradient * upstream).to(gradient.dtype) for gradient in ctx.saved_tensors]
    else:
        needed = list(ctx.needs_input_grad[:3])
        gradients = linear_rows(*ctx.saved_tensors, *ctx.numbers, None, upstream, needed)[2:]
    return (*(gradient if need else None for gradient, need in zip(gradients, needed, strict=True)), *[None] * 16)


linear_rows.register_autograd(_linear_gradients, setup_context=_save_for_linear)
