"""Tensors to the CPU kernel and back: which of its two forms runs, and what is converted on the way."""

from __future__ import annotations

from math import inf

import numpy as np
import torch
from torch import Tensor

from labelsmooth.kernels import rows_cpu as kernel
from labelsmooth.kernels.reference import accumulation_dtype, row_factor
from labelsmooth.kernels.threads import sum_over_rows
from labelsmooth.target import Target

__all__ = ["few", "run", "scale", "survey"]

# A zero of the type in which numba sees each dtype; it has no 16-bit floats.
ZEROS = {
    torch.float32: np.float32(0),
    torch.float64: np.float64(0),
    torch.bfloat16: np.uint16(0),
    torch.float16: np.uint16(0),
}
NOTHING = (0, 0, 0, 0)


def run(
    logits: Tensor,
    q: Target,
    valid: Tensor | None = None,
    z_loss: float = 0.0,
    *,
    gradient: Tensor | None = None,
    factor: float | Tensor = 1.0,
    divisor: float | Tensor = 1.0,
    losses: Tensor | None = None,
    nll: Tensor | None = None,
) -> float:
    """The arguments of :func:`reference.row_losses`; fills the outputs that are given, returns the sum of the losses.

    Args:
        gradient: in the shape and dtype of ``logits``, which it may also be: becomes d loss_i / d logits_i times
            ``factor``, a number or [N], over ``divisor``, a number.
        losses, nll: [N] in the accumulation dtype.
    """
    num_classes = logits.shape[1]
    count = logits.numel() // num_classes
    sum_dtype = accumulation_dtype(logits.dtype)
    keep_number, keeps = _per_row(q.keep, count)
    scale_number, scales = _per_row(q.scale, count)
    divisor = float(divisor)
    if divisor != 1.0:  # 0 where no label counts: the mean is 0 * inf, NaN
        factor = factor / divisor if divisor else factor * inf
    factor_number, factors = _per_row(factor, count)
    base = None if q.base is None else q.base.detach().to(sum_dtype).contiguous()
    valid = None if valid is None else valid.contiguous()
    index = None if q.index is None else q.index.contiguous()
    kind = kernel.BASE_UNIFORM
    if base is not None:
        kind = kernel.BASE_ROWS if q.rows else kernel.BASE_BY_LABEL if base.dim() == 2 else kernel.BASE_PRIOR
    target = (
        _address(index),
        -1,
        _address(keeps),
        _address(scales),
        kind,
        _address(base),
        _address(valid),
        num_classes if valid is not None and valid.dim() == 2 else 0,
        _address(factors),
    )
    numbers = (keep_number, scale_number, float(z_loss), factor_number)
    out = (_address(losses), _address(nll))
    like, sum_like = ZEROS[logits.dtype], ZEROS[sum_dtype]
    z = _places(logits)
    g = NOTHING if gradient is None else _places(gradient)
    if _is_contiguous(logits) and valid is None and like is sum_like and (gradient is None or _is_contiguous(gradient)):

        def work(first: int, last: int) -> float:
            return kernel.rows_in_place(first, last, num_classes, like, z, g, target, numbers, out)  # type: ignore[no-any-return]

    else:
        inner = logits.shape[2] if logits.dim() == 3 else 1
        bfloat = logits.dtype == torch.bfloat16

        def work(first: int, last: int) -> float:
            return kernel.rows_gathered(  # type: ignore[no-any-return]
                first, last, num_classes, inner, like, sum_like, bfloat, z, g, target, numbers, out
            )

    hold = (logits, gradient, index, keeps, scales, base, valid, factors, losses, nll)
    return sum_over_rows(work, count, logits.numel(), hold)


def scale(gradient: Tensor, upstream: Tensor) -> Tensor:
    """gradient *= upstream, a number or one for each row."""
    if upstream.dim() == 0:
        return gradient if upstream.item() == 1.0 else gradient.mul_(upstream)
    return gradient.mul_(row_factor(upstream, gradient))


def few(
    logits: Tensor, gradient: Tensor | None, labels: Tensor, ignore_index: int, epsilon: float, mean: bool
) -> Tensor | None:
    """The loss of uniformly smoothed rows, on the calling thread; fills the gradient (unless None).

    If a label is out of range nothing is filled, and None is returned.

    Args:
        logits, gradient: [N, K] with the classes of a row adjacent in memory.
    """
    count, num_classes = logits.shape
    start = kernel.few_bfloat_rows if logits.dtype is torch.bfloat16 else kernel.few_rows
    loss = torch.empty((), dtype=accumulation_dtype(logits.dtype), device="cpu")
    outside = start(
        count,
        num_classes,
        ZEROS[logits.dtype],
        logits.data_ptr(),
        logits.stride(0),
        0 if gradient is None else gradient.data_ptr(),
        0 if gradient is None else gradient.stride(0),
        loss.data_ptr(),
        labels.data_ptr(),
        ignore_index,
        epsilon,
        mean,
    )
    return loss if outside < 0 else None


def survey(labels: Tensor, num_classes: int, ignore_index: int) -> tuple[int, int]:
    """The first of [N] int64 labels that is neither in [0, K) nor ``ignore_index``, or -1, and how many count."""
    labels = labels.contiguous()
    return kernel.survey(labels.data_ptr(), labels.numel(), num_classes, ignore_index)  # type: ignore[no-any-return]


def _per_row(value: float | Tensor, count: int) -> tuple[float, Tensor | None]:
    """A number for all rows, or [N] float64 with one for each."""
    if not isinstance(value, Tensor):
        return float(value), None
    if value.dim() == 0:
        return value.item(), None
    return 0.0, value.detach().to(torch.float64).expand(count).contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _is_contiguous(matrix: Tensor) -> bool:
    return matrix.dim() == 2 and (matrix.stride(1) == 1 or matrix.shape[1] == 1)


def _places(logits: Tensor) -> tuple[int, int, int, int]:
    """Address, and the strides of the outer places, the classes and the inner places."""
    strides = logits.stride()
    return (logits.data_ptr(), strides[0], strides[1], strides[2] if len(strides) == 3 else 0)
