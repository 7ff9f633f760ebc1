"""The cross-entropy of rows under autograd: a row kernel computes the loss and the gradient in the forward pass."""

from __future__ import annotations

from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth import _memory
from labelsmooth._torch_private import is_batched, keeps_graph, overlaps_itself, saved_tensors
from labelsmooth.kernels import reference
from labelsmooth.kernels.choose import Kernel, choose, is_plain, row_kernel
from labelsmooth.kernels.reference import Divisor, Terms, is_late, mean_of, row_factor

__all__ = ["differentiable_gradient", "original", "row_loss", "scaled"]


def row_loss(
    logits: Tensor, terms: Terms, divisor: Divisor = None, *, inplace: bool = False, with_nll: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The losses of the rows, or their sum over ``divisor``, and on request the unsmoothed loss of each row.

    The unfused equal is ``losses, nll = reference.row_losses(logits, *terms)`` and, with a divisor,
    ``losses.sum() / divisor``.  The unsmoothed losses have no gradient.

    Args:
        logits: [N, K] or [B, K, D].
        divisor: a number, or None for one loss per row.
        inplace: allow the gradient to overwrite the logits.
        with_nll: return the unsmoothed losses [N] too (None for rows without labels).
    """
    if torch.compiler.is_compiling():
        return _in_graph(logits, terms, divisor, with_nll)
    kernel = None
    if is_plain(logits, *terms.tensors(), divisor):
        kernel = row_kernel(logits.device.type, logits.dtype)
    if kernel is None:
        return _reference(logits, terms, divisor, with_nll)
    if isinstance(divisor, Tensor) and divisor.device.type == "cpu":
        divisor = divisor.item()
    if not (logits.requires_grad and torch.is_grad_enabled()):
        return loss_of(kernel, logits, terms, divisor, None, with_nll)
    inplace = inplace and not overlaps_itself(logits)
    return RowLoss.apply(logits, Call(kernel, terms, divisor, inplace, with_nll))  # type: ignore[no-any-return, no-untyped-call]


def loss_of(
    kernel: Kernel, logits: Tensor, terms: Terms, divisor: Divisor, gradient: Tensor | None, with_nll: bool
) -> tuple[Tensor, Tensor | None]:
    """The results of :func:`row_loss`; fills the gradient, if given, for an upstream gradient of 1."""
    count, dtype = logits.numel() // logits.shape[1], reference.accumulation_dtype(logits.dtype)
    losses = torch.empty(count, dtype=dtype, device=logits.device)
    nll = torch.empty_like(losses) if with_nll and terms.q.index is not None else None
    by = 1.0 if divisor is None else divisor
    loss_sum = kernel.run(logits, *terms, gradient=gradient, divisor=by, losses=losses, nll=nll)
    if divisor is None:
        return losses, nll
    if loss_sum is None:
        return mean_of(losses, divisor), nll
    return torch.full((), loss_sum / float(by) if by else nan, dtype=dtype, device=logits.device), nll


class Call(NamedTuple):
    """What :class:`RowLoss` needs beside the logits."""

    kernel: Kernel
    terms: Terms
    divisor: Divisor
    inplace: bool
    with_nll: bool


class RowLoss(torch.autograd.Function):
    """Loss and gradient in one pass over the logits; the backward pass only multiplies by the upstream gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, call: Call) -> tuple[Tensor, Tensor | None]:
        kernel, terms, divisor, inplace, with_nll = call
        late = is_late(logits.dtype)
        gradient = None if late else logits.detach() if inplace else _memory.empty_like(logits)
        loss, nll = loss_of(kernel, logits, terms, divisor, gradient, with_nll)
        if inplace and not late:
            torch.autograd.graph.increment_version(logits)
        ctx.set_materialize_grads(False)
        ctx.rest = (kernel, terms.numbers(), divisor, inplace)
        ctx.save_for_backward(gradient, logits if late or not inplace else None, *terms.tensors())
        if nll is not None:
            ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: Tensor | None = None) -> tuple[Tensor | None, None]:
        if upstream is None:
            return None, None
        kernel, numbers, divisor, inplace = ctx.rest
        # The logits last and only where they are needed: they may have been changed in place since.
        gradient, *tensors = saved_tensors(ctx, 0, 2, 3, 4, 5, 6)
        late, batched = gradient is None, is_batched(upstream)
        if torch.is_grad_enabled() or (late and batched):
            return differentiable_gradient(original(ctx, 1), Terms.of(numbers, tensors), divisor, upstream), None
        kept = keeps_graph()
        if gradient is not None:
            if not kept:
                ctx.maybe_clear_saved_tensors()
            return scaled(kernel, gradient, upstream, kept, batched), None
        logits = original(ctx, 1)
        if not kept:
            ctx.maybe_clear_saved_tensors()
        overwrite = inplace and not kept
        gradient = logits.detach() if overwrite else _memory.empty_like(logits)
        losses = torch.empty(logits.numel() // logits.shape[1], dtype=torch.float32, device=logits.device)
        by = 1.0 if divisor is None else divisor
        kernel.run(logits, *Terms.of(numbers, tensors), gradient=gradient, factor=upstream, divisor=by, losses=losses)
        if overwrite:
            torch.autograd.graph.increment_version(logits)
        return gradient, None


def original(ctx: Any, i: int) -> Tensor:
    """The logits, saved tensor number i of a Function, for derivatives of the gradient."""
    logits: Tensor | None = saved_tensors(ctx, i)[0]
    if logits is None:
        raise RuntimeError(
            "the logits were overwritten by their gradient (inplace=True), so it cannot be differentiated again. "
            "Leave inplace=True out where backward is called with create_graph=True."
        )
    return logits


def scaled(kernel: Kernel, gradient: Tensor, upstream: Tensor, kept: bool, batched: bool) -> Tensor:
    """The saved gradient times the upstream one, in the saved memory if the graph is not kept."""
    if batched:  # the upstream gradient has a hidden dimension
        return (gradient * row_factor(upstream, gradient)).to(gradient.dtype)
    return kernel.scale(gradient.clone() if kept else gradient, upstream)


def differentiable_gradient(logits: Tensor, terms: Terms, divisor: Divisor, upstream: Tensor) -> Tensor:
    """The gradient by the reference, for derivatives of it and for batched upstream gradients."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        logits = logits if again else logits.detach().requires_grad_()
        loss, _ = _reference(logits, terms, divisor)
        return torch.autograd.grad(loss, logits, upstream, create_graph=again)[0]


def _reference(logits: Tensor, terms: Terms, divisor: Divisor, with_nll: bool = False) -> tuple[Tensor, Tensor | None]:
    losses, nll = reference.row_losses(logits, *terms)
    nll = nll.detach() if with_nll and nll is not None else None
    return losses if divisor is None else losses.sum() / divisor, nll


def _in_graph(logits: Tensor, terms: Terms, divisor: Divisor, with_nll: bool) -> tuple[Tensor, Tensor | None]:
    """In a compiled graph: the operator of the row kernel if it applies, else the reference's operators."""
    tensors = [value for value in terms.tensors() if value is not None]
    if choose(logits.device, logits.dtype).kernel == "reference" or any(value.requires_grad for value in tensors):
        return _reference(logits, terms, divisor, with_nll)
    from labelsmooth.kernels import operators

    needed = logits.requires_grad and torch.is_grad_enabled()
    losses, nll, _ = operators.row_losses(logits, *operators.flat(terms), needed)
    nll = nll if with_nll and terms.q.index is not None else None
    return losses if divisor is None else losses.sum() / divisor, nll
