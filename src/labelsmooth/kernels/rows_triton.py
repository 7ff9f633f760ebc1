"""The cross-entropy of each row and its gradient in one launch: the CUDA kernel, in Triton.

One program handles one row and makes two passes over its classes, the second from the cache if they fit.  The first
computes the running maximum and the sum of exponentials relative to it, <base, z> and the sum of the base; the second
writes the gradient, which may overwrite the logits.  All numbers (epsilon, the mean's divisor, the z-loss) are run-time
arguments, so a new value does not recompile; offsets are 64-bit.  A label out of range is not read: its row is NaN.
"""

# Triton infers the types of what it compiles.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from labelsmooth.kernels.reference import accumulation_dtype, as_matrix
from labelsmooth.target import Target

__all__ = ["run", "scale"]

UNIFORM, PRIOR, BY_LABEL, ROWS = 0, 1, 2, 3


@triton.jit
def _rows(
    z_pointer, z_stride, g_pointer, g_stride, label_pointer, keep_pointer, keep_stride, scale_pointer, scale_stride,
    base_pointer, valid_pointer, valid_stride, factor_pointer, factor_stride, z_loss_pointer, loss_pointer, nll_pointer,
    num_classes,
    HAS_LABEL: tl.constexpr, KIND: tl.constexpr, MASKED: tl.constexpr, Z_LOSS: tl.constexpr, GRADIENT: tl.constexpr,
    NLL: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    z_row = z_pointer + row * z_stride
    lanes = tl.arange(0, BLOCK)
    label = row * 0 - 1
    if HAS_LABEL:
        label = tl.load(label_pointer + row)
    inside = (label >= 0) & (label < num_classes)
    # Read before the first pass, whose reductions synchronize all warps: the second pass may overwrite it.
    z_label = tl.load(z_row + tl.where(inside, label, 0)).to(WIDE)
    keep = tl.load(keep_pointer + row * keep_stride).to(WIDE)
    scale = tl.load(scale_pointer + row * scale_stride).to(WIDE)
    share = 1.0 / tl.full((), num_classes, WIDE)
    base_row = base_pointer
    if KIND == 2:
        base_row = base_pointer + tl.where(inside, label, 0) * num_classes
    if KIND == 3:
        base_row = base_pointer + row * num_classes

    largest = tl.full((), float("-inf"), WIDE)
    sum_e = tl.zeros((), WIDE)
    dot = tl.zeros((), WIDE)
    total = tl.zeros((), WIDE)
    for start in range(0, num_classes, BLOCK):
        k = start + lanes
        here = k < num_classes
        if MASKED:
            here = here & (tl.load(valid_pointer + row * valid_stride + k, mask=here, other=0) != 0)
        z = tl.load(z_row + k, mask=here, other=float("-inf")).to(WIDE)
        # A NaN is left out of the maximum, whose result would depend on the order; it reaches the sums.
        peak = tl.maximum(largest, tl.max(tl.where(z == z, z, float("-inf")), 0))
        # Before the first finite logit there is nothing to rescale, and -inf - -inf would be NaN.
        reference = tl.where(peak == float("-inf"), 0.0, peak)
        moved = tl.where(largest == float("-inf"), 0.0, largest - reference)
        sum_e = sum_e * tl.exp(moved) + tl.sum(tl.exp(z - reference), 0)
        b = tl.where(here, share, 0.0)
        if KIND != 0:
            b = tl.load(base_row + k, mask=here, other=0.0).to(WIDE)
        dot += total * moved + tl.sum(tl.where(b == 0.0, 0.0, b * (z - reference)), 0)
        total += tl.sum(b, 0)
        largest = peak

    reference = tl.where(largest == float("-inf"), 0.0, largest)
    log_sum = tl.log(sum_e)
    lse = reference + log_sum
    at_label = z_label - reference
    if not HAS_LABEL:
        keep = keep * 0.0
    mass = keep + tl.where(scale == 0.0, 0.0, scale * total)
    # A zero coefficient leaves its term out: 0 * inf would be NaN where plain cross-entropy is finite.
    loss = mass * log_sum - tl.where(keep == 0.0, 0.0, keep * at_label) - tl.where(scale == 0.0, 0.0, scale * dot)
    of_p = mass / sum_e
    if Z_LOSS:
        z_loss = tl.load(z_loss_pointer).to(WIDE)
        loss += z_loss * lse * lse
        of_p += 2.0 * z_loss * lse / sum_e
    nll = log_sum - at_label
    broken = tl.zeros((), WIDE)
    if HAS_LABEL:
        counted = label != -1
        broken = tl.where(inside | (label == -1), 0.0, float("nan"))
        loss = tl.where(counted, loss + broken, 0.0)
        nll = tl.where(counted, nll + broken, 0.0)
    tl.store(loss_pointer + row, loss)
    if NLL:
        tl.store(nll_pointer + row, nll)
    if GRADIENT:
        factor = tl.load(factor_pointer + row * factor_stride).to(WIDE) + broken
        g_row = g_pointer + row * g_stride
        for start in range(0, num_classes, BLOCK):
            k = start + lanes
            inside_row = k < num_classes
            here = inside_row
            if MASKED:
                here = here & (tl.load(valid_pointer + row * valid_stride + k, mask=here, other=0) != 0)
            z = tl.load(z_row + k, mask=here, other=float("-inf")).to(WIDE)
            b = tl.where(here, share, 0.0)
            if KIND != 0:
                b = tl.load(base_row + k, mask=here, other=0.0).to(WIDE)
            g = of_p * tl.exp(z - reference) - scale * b - tl.where(k == label, keep, 0.0)
            g = tl.where(here, g * factor, 0.0)
            if HAS_LABEL:
                g = tl.where(label != -1, g, 0.0)
            tl.store(g_row + k, g.to(g_pointer.dtype.element_ty), mask=inside_row)


@triton.jit
def _scale(g_pointer, g_stride, upstream_pointer, upstream_stride, num_classes, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    upstream = tl.load(upstream_pointer + row * upstream_stride)
    if upstream != 1.0:
        k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        here = k < num_classes
        g = tl.load(g_pointer + row * g_stride + k, mask=here)
        tl.store(g_pointer + row * g_stride + k, (g.to(upstream.dtype) * upstream).to(g.dtype), mask=here)


def run(
    logits: Tensor,
    q: Target,
    valid: Tensor | None = None,
    z_loss: float = 0.0,
    *,
    gradient: Tensor | None = None,
    factor: float | Tensor = 1.0,
    losses: Tensor,
    nll: Tensor | None = None,
) -> None:
    """The arguments of :func:`launch_cpu.run`; fills ``losses`` and the other outputs that are given."""
    if logits.dim() == 3 or logits.stride(1) != 1:  # the classes of a row are not adjacent: by way of a copy
        matrix = as_matrix(logits).contiguous()
        inner = None if gradient is None else torch.empty_like(matrix)
        run(matrix, q, valid, z_loss, gradient=inner, factor=factor, losses=losses, nll=nll)
        if gradient is not None and inner is not None:
            shaped = inner
            if gradient.dim() == 3:
                shaped = inner.reshape(len(gradient), -1, gradient.shape[1]).movedim(-1, 1)
            gradient.copy_(shaped)
        return
    count, num_classes = logits.shape
    if count == 0:
        return
    dtype = accumulation_dtype(logits.dtype)
    index, base = q.index, None if q.base is None else q.base.detach().to(dtype).contiguous()
    valid = None if valid is None else valid.contiguous().view(torch.uint8)
    kind = UNIFORM if base is None else ROWS if q.rows else BY_LABEL if base.dim() == 2 else PRIOR
    keep, keep_stride = _per_row(q.keep, logits, dtype)
    amount, amount_stride = _per_row(q.scale, logits, dtype)
    factor, factor_stride = _per_row(factor, logits, dtype)
    coefficient, _ = _per_row(z_loss, logits, dtype)
    block = min(triton.next_power_of_2(num_classes), 4096)
    target = logits if gradient is None else gradient
    # Missing tensors are never read; any pointer can take their place.
    _rows[(count,)](
        logits, logits.stride(0), target, target.stride(0), losses if index is None else index.contiguous(),
        keep, keep_stride, amount, amount_stride, losses if base is None else base,
        losses if valid is None else valid, num_classes if valid is not None and valid.dim() == 2 else 0,
        factor, factor_stride, coefficient, losses, losses if nll is None else nll, num_classes,
        HAS_LABEL=index is not None, KIND=kind, MASKED=valid is not None, Z_LOSS=z_loss != 0.0,
        GRADIENT=gradient is not None, NLL=nll is not None,
        WIDE=tl.float64 if dtype == torch.float64 else tl.float32, BLOCK=block, num_warps=max(1, min(16, block // 256)),
    )  # fmt: skip


def scale(gradient: Tensor, upstream: Tensor) -> Tensor:
    """gradient *= upstream, a number or one for each row, without synchronizing; where it is 1 nothing is written."""
    if gradient.dim() == 3 or gradient.stride(1) != 1:
        by_row = upstream if upstream.dim() == 0 else upstream.reshape(len(gradient), *[1] * (gradient.dim() - 2), -1)
        return gradient.mul_(by_row)
    count, num_classes = gradient.shape
    if count:
        block = min(triton.next_power_of_2(num_classes), 4096)
        grid = (count, triton.cdiv(num_classes, block))
        upstream = upstream.contiguous()
        _scale[grid](gradient, gradient.stride(0), upstream, upstream.dim(), num_classes, BLOCK=block)
    return gradient


def _per_row(value: float | Tensor, logits: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """A number as memory of the device, written without synchronizing, or [N]; and the stride between rows."""
    if not isinstance(value, Tensor):
        return torch.full((1,), value, dtype=dtype, device=logits.device), 0
    if value.dim() == 0 or value.numel() == 1 != len(logits):
        return value.detach().to(dtype).reshape(1), 0
    return value.detach().to(dtype).contiguous(), 1
