"""The cross-entropy of a linear head under autograd, computed in chunks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from labelsmooth._torch_private import is_batched, keeps_graph
from labelsmooth.kernels import reference
from labelsmooth.kernels.choose import Kernel, choose, is_plain, row_kernel
from labelsmooth.kernels.chunks import Head, Plan, in_chunks
from labelsmooth.kernels.reference import Divisor, Terms, is_late, mean_of
from labelsmooth.kernels.rows import row_loss

__all__ = ["linear_row_loss"]


def linear_row_loss(
    features: Tensor, head: Head, terms: Terms, divisor: Divisor, plan: Plan
) -> tuple[Tensor, Tensor | None]:
    """:func:`row_loss` of the logits of a linear head, without ever holding all of them.

    The unfused equal is ``row_loss(head.logits(features, dtype), terms, divisor)``, which is used where the chunks
    do not apply: torch.func, tensors other than features, weight and bias that need a gradient, other devices.

    Args:
        features: [N, D].
        terms: of N rows, or of N * E for E heads, those of one example adjacent.
    """
    tensors = (*terms.tensors(), divisor)
    if torch.compiler.is_compiling():
        differentiated = any(isinstance(value, Tensor) and value.requires_grad for value in tensors)
        if choose(features.device, plan.dtype).kernel != "reference" and not differentiated:
            from labelsmooth.kernels import operators

            return operators.linear(features, head, terms, divisor, plan)
        return row_loss(head.logits(features, plan.dtype), terms, divisor, with_nll=plan.with_nll)
    kernel = None
    if all(is_plain(t) for t in (features, head.weight, head.bias) if t is not None) and is_plain(features, *tensors):
        kernel = row_kernel(features.device.type, plan.dtype)
    if kernel is None:
        return row_loss(head.logits(features, plan.dtype), terms, divisor, with_nll=plan.with_nll)
    if isinstance(divisor, Tensor) and divisor.device.type == "cpu":
        divisor = divisor.item()
    if not torch.is_grad_enabled():
        losses, nll, _ = in_chunks(kernel, features, head, terms, plan, [False] * 3)
        return losses if divisor is None else mean_of(losses, divisor), nll
    return LinearInChunks.apply(features, head.weight, head.bias, head[2:], kernel, terms, divisor, plan)  # type: ignore[no-any-return, no-untyped-call]


class LinearInChunks(torch.autograd.Function):
    """The gradients are computed in the forward pass, with the logits.

    If each row has an upstream gradient of its own, or in float16 (:func:`is_late`), they are computed in the backward
    pass, with the logits again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shape: tuple[int, float | None],
        kernel: Kernel,
        terms: Terms,
        divisor: Divisor,
        plan: Plan,
    ) -> tuple[Tensor, Tensor | None]:
        needed = list(ctx.needs_input_grad[:3])
        late = divisor is None or is_late(plan.dtype)
        losses, nll, gradients = in_chunks(
            kernel,
            features,
            Head(weight, bias, *shape),
            terms,
            plan,
            [False] * 3 if late else needed,
            divisor=1.0 if divisor is None else divisor,
        )
        ctx.rest, ctx.needed = (shape, kernel, terms.numbers(), divisor, plan), needed
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, weight, bias, *gradients, *terms.tensors())
        if nll is not None:
            ctx.mark_non_differentiable(nll)
        return losses if divisor is None else mean_of(losses, divisor), nll

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return (None,) * 8
        shape, kernel, numbers, divisor, plan = ctx.rest
        features, weight, bias = ctx.saved_tensors[:3]
        gradients: list[Tensor | None] = list(ctx.saved_tensors[3:6])
        terms = Terms.of(numbers, ctx.saved_tensors[6:])
        head, late, batched = Head(weight, bias, *shape), divisor is None or is_late(plan.dtype), is_batched(upstream)
        if torch.is_grad_enabled() or (late and batched):
            return *_differentiable(features, head, terms, divisor, plan, ctx.needed, upstream), *[None] * 5
        kept = keeps_graph()
        ctx.maybe_clear_saved_tensors()
        if late:
            by = 1.0 if divisor is None else divisor
            gradients = in_chunks(kernel, features, head, terms, plan, ctx.needed, upstream, by)[2]
        else:
            own = not (kept or batched)
            gradients = [
                None if g is None else kernel.scale(g, upstream) if own else (g * upstream).to(g.dtype)
                for g in gradients
            ]
        return *gradients, *[None] * 5


def _differentiable(
    features: Tensor,
    head: Head,
    terms: Terms,
    divisor: Divisor,
    plan: Plan,
    needed: Sequence[bool],
    upstream: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradients by the reference and the full logits, for derivatives of them and for batched upstream ones."""
    again = torch.is_grad_enabled()
    tensors: tuple[Tensor | None, ...] = (features, head.weight, head.bias)
    if not again:
        tensors = tuple(
            None if t is None else t.detach().requires_grad_(w) for t, w in zip(tensors, needed, strict=True)
        )
    with torch.enable_grad():
        h, weight, bias = tensors
        assert h is not None
        assert weight is not None
        losses, _ = reference.row_losses(Head(weight, bias, *head[2:]).logits(h, plan.dtype), *terms)
        loss = losses if divisor is None else losses.sum() / divisor
        chosen = [t for t, need in zip(tensors, needed, strict=True) if need and t is not None]
        gradients = iter(torch.autograd.grad(loss, chosen, upstream, create_graph=again))
    return tuple(next(gradients) if need and t is not None else None for t, need in zip(tensors, needed, strict=True))
