"""A linear head and its cross-entropy in chunks of rows: the logits of one chunk exist at a time.

For each chunk the logits z = h W^T + b are made in one buffer, the row kernel turns them into their gradient there, and
dh = dz W and dW += dz^T h are taken from it before the next chunk comes.  Three matrix products in all, as many as the
unfused loss and its backward pass need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.kernels import memory, products, reference
from labelsmooth.kernels.choose import choose, fits
from labelsmooth.kernels.fused import RowTargets, part_of, row_loss

__all__ = ["Head", "Plan", "chunk_rows", "factor_of", "in_chunks", "is_late", "linear_row_loss", "logits_of", "mean_of"]


class Head(NamedTuple):
    """What turns features into logits: z = softcap(h W^T + b), where softcap(z) = cap * tanh(z / cap)."""

    weight: Tensor  # [K * E, D]: E heads of K classes, class by class
    bias: Tensor | None  # [K * E]
    num_classes: int
    softcap: float | None = None

    def to(self, dtype: torch.dtype) -> Head:
        bias = None if self.bias is None else self.bias.to(dtype)
        return self._replace(weight=self.weight.to(dtype), bias=bias)


def logits_of(features: Tensor, head: Head) -> Tensor:
    """[N, D] features to [N, K] logits, or [N, K, E] for several heads, in full."""
    logits = torch.nn.functional.linear(features, head.weight, head.bias)
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return _split(logits, head)


def _split(logits: Tensor, head: Head) -> Tensor:
    return logits if logits.shape[1] == head.num_classes else logits.reshape(len(logits), head.num_classes, -1)


def chunk_rows(rows: int) -> int:
    """Rows in a chunk: about a twentieth of all, so that the buffer is small beside the full logits, but enough that
    the matrix products run at their speed and dW is not read and written too often."""
    return min(rows, max(64, min(1024, rows // 20 // 16 * 16)))


def linear_row_loss(
    features: Tensor,
    head: Head,
    q: RowTargets,
    divisor: float | Tensor | None,
    *,
    chunk_size: int,
    dtype: torch.dtype,
    with_nll: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """:func:`row_loss` of the logits of a linear head, without ever holding all of them.

    The unfused equal is ``row_loss(logits_of(features, head), q, divisor)``, which also serves what the chunks do not.

    Args:
        features: [N, D].
        q: targets of N rows, or of N * E for E heads: those of one example side by side.
        dtype: of the matrix products and the logits.
    """
    served = choose(features.device, dtype).kernel != "reference"
    if torch.compiler.is_compiling():
        differentiated = any(isinstance(value, Tensor) and value.requires_grad for value in (*q, divisor))
        if served and not differentiated:
            from labelsmooth.kernels import linear_op

            return linear_op.in_graph(features, head, q, divisor, chunk_size, dtype, with_nll)
        served = False
    else:
        served = served and all(fits(t) for t in (features, head.weight, head.bias) if t is not None)
        served = served and fits(features, q.labels, q.keep, q.scale, q.base, q.valid, divisor)
    if not served:
        return row_loss(logits_of(features.to(dtype), head.to(dtype)), q, divisor, with_nll=with_nll)
    if isinstance(divisor, Tensor) and divisor.device.type == "cpu":
        divisor = divisor.item()
    plan = Plan(head.num_classes, head.softcap, q, divisor, chunk_size, dtype, with_nll, torch.is_grad_enabled())
    return LinearInChunks.apply(features, head.weight, head.bias, plan)  # type: ignore[no-any-return, no-untyped-call]


class Plan(NamedTuple):
    """All that is not differentiated."""

    num_classes: int
    softcap: float | None
    q: RowTargets
    divisor: float | Tensor | None  # a tensor on other devices than the CPU, where reading it would wait
    chunk_size: int
    dtype: torch.dtype
    with_nll: bool
    with_gradients: bool


# Functions and no properties of the plan, which compiled graphs of PyTorch before 2.9 would not see through.


def factor_of(plan: Plan) -> float | Tensor:
    """What each row's loss is multiplied by."""
    if isinstance(plan.divisor, Tensor):
        return 1.0 / plan.divisor.double()
    return 1.0 if plan.divisor is None else 1.0 / plan.divisor if plan.divisor else inf


def is_late(plan: Plan) -> bool:
    """Whether the gradients wait for the backward pass: there is an upstream gradient for each row, or float16's would
    vanish before a GradScaler's factor comes."""
    return plan.divisor is None or plan.dtype == torch.float16


class LinearInChunks(torch.autograd.Function):
    """The gradients are made in the forward pass, with the logits; see :func:`is_late` for the exceptions."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan
    ) -> tuple[Tensor, Tensor | None]:
        head = Head(weight, bias, plan.num_classes, plan.softcap)
        wanted = [plan.with_gradients and needed for needed in ctx.needs_input_grad[:3]]
        now = [False] * 3 if is_late(plan) else wanted
        losses, nll, gradients = in_chunks(features, head, plan, now, factor_of(plan))
        ctx.plan, ctx.wanted = plan, wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, weight, bias, *gradients)
        if nll is not None:
            ctx.mark_non_differentiable(nll)
        return losses if plan.divisor is None else mean_of(losses, plan), nll

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return None, None, None, None
        features, weight, bias, *gradients = ctx.saved_tensors
        plan: Plan = ctx.plan
        head = Head(weight, bias, plan.num_classes, plan.softcap)
        if torch.is_grad_enabled():  # create_graph=True
            return (*_differentiable(features, head, plan, ctx.wanted, upstream), None)
        kept = torch._C._autograd._get_current_graph_task_keep_graph()
        ctx.maybe_clear_saved_tensors()
        if is_late(plan):
            gradients = in_chunks(features, head, plan, ctx.wanted, upstream.double() * factor_of(plan))[2]
        elif upstream.device.type != "cpu" or upstream.item() != 1.0:
            gradients = [
                None if gradient is None else gradient * upstream if kept else gradient.mul_(upstream)
                for gradient in gradients
            ]
        return (*gradients, None)


def mean_of(losses: Tensor, plan: Plan) -> Tensor:
    """The sum of the losses over the divisor."""
    return (losses.sum(dtype=torch.float64) * factor_of(plan)).to(losses.dtype)


def _launcher(device: torch.device) -> Callable[..., object]:
    """The row kernel of the device."""
    if choose(device, torch.float32).kernel == "rows_cpu":
        from labelsmooth.kernels import launch_cpu

        return launch_cpu.run
    from labelsmooth.kernels import rows_triton

    return rows_triton.run


def in_chunks(
    features: Tensor, head: Head, plan: Plan, wanted: Sequence[bool], factor: float | Tensor
) -> tuple[Tensor, Tensor | None, list[Tensor | None]]:
    """One pass over the chunks: the losses of the rows, the unsmoothed ones where the plan has them, and the gradients
    of features, weight and bias if wanted."""
    like, device, run = (features, head.weight, head.bias), features.device, _launcher(features.device)
    features, weight = features.detach().to(plan.dtype), head.weight.detach().to(plan.dtype)
    bias = None if head.bias is None else head.bias.detach().to(plan.dtype)
    count, wide = features.shape[0], reference.accumulation_dtype(plan.dtype)
    heads = weight.shape[0] // plan.num_classes
    losses = torch.empty(count * heads, dtype=wide, device=device)
    nll = torch.empty_like(losses) if plan.with_nll and plan.q.labels is not None else None
    chunk, cap = min(plan.chunk_size, max(count, 1)), plan.softcap
    buffer = memory.empty(chunk, weight.shape[0], dtype=plan.dtype, device=device)
    second = torch.empty_like(buffer) if cap is not None and any(wanted) else None
    d_features = torch.empty(features.shape, dtype=plan.dtype, device=device) if wanted[0] else None
    # Sums over the chunks, in float32 for 16-bit numbers.  The first chunk's product is written, not added to zeros.
    d_weight = memory.empty(*weight.shape, dtype=wide, device=device) if wanted[1] else None
    if d_weight is not None and not count:
        d_weight.zero_()
    d_bias = torch.zeros(weight.shape[0], dtype=wide, device=device) if wanted[2] else None
    for first in range(0, count, chunk):
        rows = slice(first, min(first + chunk, count))
        places = slice(rows.start * heads, rows.stop * heads)
        h = features[rows]
        z = buffer[: len(h)]
        products.logits_into(z, h, weight, bias)
        slope = None
        if cap is not None:
            z.div_(cap).tanh_()
            if second is not None:
                slope = torch.square(z, out=second[: len(h)]).neg_().add_(1.0)
            z.mul_(cap)
        run(
            _split(z, head),
            *part_of(plan.q, places),
            gradient=_split(z, head) if any(wanted) else None,
            factor=factor[places] if isinstance(factor, Tensor) and factor.dim() else factor,
            losses=losses[places],
            nll=None if nll is None else nll[places],
        )
        if slope is not None:
            z.mul_(slope)
        if d_features is not None:
            products.times_weight(d_features[rows], z, weight)
        if d_weight is not None:
            if wide == plan.dtype and first == 0:
                torch.mm(z.t(), h, out=d_weight)
            elif wide == plan.dtype:
                d_weight.addmm_(z.t(), h)
            elif first == 0:
                d_weight.copy_(torch.mm(z.t(), h))
            else:
                d_weight.add_(torch.mm(z.t(), h))
        if d_bias is not None:
            d_bias.add_(z.sum(0, dtype=wide))
    made = (d_features, d_weight, d_bias)
    return losses, nll, [None if g is None or t is None else g.to(t.dtype) for g, t in zip(made, like, strict=True)]


def _differentiable(
    features: Tensor, head: Head, plan: Plan, wanted: Sequence[bool], upstream: Tensor
) -> tuple[Tensor | None, ...]:
    """The same gradients through the reference and the full logits, for derivatives of them."""
    losses, _ = reference.row_losses(logits_of(features.to(plan.dtype), head.to(plan.dtype)), *plan.q)
    loss = losses if plan.divisor is None else losses.sum() * factor_of(plan)
    tensors = (features, head.weight, head.bias)
    chosen = [t for t, want in zip(tensors, wanted, strict=True) if want and t is not None]
    found = iter(torch.autograd.grad(loss, chosen, upstream, create_graph=True))
    return tuple(next(found) if want and t is not None else None for t, want in zip(tensors, wanted, strict=True))
