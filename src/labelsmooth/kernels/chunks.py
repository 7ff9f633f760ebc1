"""A linear head and the cross-entropy of its logits, chunk by chunk: losses and gradients without the full logits.

For each chunk of rows the logits z = h W^T + b are computed in one buffer, the row kernel replaces them by their
gradient, and dh = dz W and dW += dz^T h are taken from it.  These are three matrix products, as many as the unfused
loss and its backward pass need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from labelsmooth import _memory
from labelsmooth.kernels.choose import Kernel
from labelsmooth.kernels.reference import Terms, accumulation_dtype

__all__ = ["Head", "Plan", "chunk_rows", "in_chunks", "split"]

# Measured with float32 on two cores: with fewer features or more rows the plain product is faster.
LEAST_FEATURES, MOST_ROWS = 512, 256
CPU_BYTES, GPU_BYTES = 64 << 20, 512 << 20  # of the logits of a chunk
BLOCK = 1024  # classes whose transposed logits exist at a time: a megabyte for 256 rows


class Head(NamedTuple):
    """The map from features to logits: z = softcap(h W^T + b), where softcap(z) = cap * tanh(z / cap)."""

    weight: Tensor  # [K * E, D]: E heads of K classes, class by class
    bias: Tensor | None  # [K * E]
    num_classes: int
    softcap: float | None = None

    def logits(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """[N, D] features to [N, K] logits, or [N, K, E] for several heads, in full."""
        bias = None if self.bias is None else self.bias.to(dtype)
        logits = torch.nn.functional.linear(features.to(dtype), self.weight.to(dtype), bias)
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return split(logits, self.num_classes)


class Plan(NamedTuple):
    """How the chunks are computed."""

    chunk_size: int | None  # rows; None for chunk_rows
    dtype: torch.dtype  # of the matrix products and the logits
    with_nll: bool = False
    wide_sums: bool = True  # gradients of 16-bit weights are summed over the chunks in float32


def split(logits: Tensor, num_classes: int) -> Tensor:
    """[N, K * E] as [N, K, E]; [N, K] as it is."""
    rows, columns = logits.shape
    return logits if columns == num_classes else logits.reshape(rows, num_classes, columns // num_classes)


def chunk_rows(rows: int, row_bytes: int, device: str) -> int:
    """Rows in a chunk: an eighth of all on the CPU, but at least 64 MB of logits.  On a GPU an eighth, but at most
    512 MB, in multiples of 256 rows and at least 1024: the matrix products of fewer run below its speed.

    Example:
        >>> chunk_rows(8192, 32000 * 4, "cpu"), chunk_rows(8192, 128256 * 2, "cuda")
        (1024, 1024)
    """
    if device == "cpu":
        return min(rows, max(1, rows // 8, CPU_BYTES // row_bytes))
    return min(rows, max(1024, min(rows // 8, GPU_BYTES // row_bytes) // 256 * 256))


def in_chunks(
    kernel: Kernel,
    features: Tensor,
    head: Head,
    terms: Terms,
    plan: Plan,
    needed: Sequence[bool],
    factor: float | Tensor = 1.0,
    divisor: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor | None, list[Tensor | None]]:
    """The losses of the rows, the unsmoothed losses if planned, and the gradients of features, weight and bias.

    Args:
        needed: which of the three gradients to compute.
        factor: multiplies the gradients, a number or one for each row.
        divisor: a number that divides them.
    """
    like, device, dtype = (features, head.weight, head.bias), features.device, plan.dtype
    features, weight = features.detach().to(dtype), head.weight.detach().to(dtype)
    bias = None if head.bias is None else head.bias.detach().to(dtype)
    count, wide = features.shape[0], accumulation_dtype(dtype)
    heads = weight.shape[0] // max(1, head.num_classes) or 1  # a process may have no class
    losses = torch.empty(count * heads, dtype=wide, device=device)
    nll = torch.empty_like(losses) if plan.with_nll and terms.q.index is not None else None
    row_bytes = max(1, weight.shape[0] * dtype.itemsize)
    default = chunk_rows(count, row_bytes, device.type) if plan.chunk_size is None else plan.chunk_size
    chunk = max(1, min(count, default))
    cap = head.softcap
    buffer = torch.empty(chunk, weight.shape[0], dtype=dtype, device=device)
    second = torch.empty_like(buffer) if cap is not None and any(needed) else None
    d_features = torch.empty(features.shape, dtype=dtype, device=device) if needed[0] else None
    # Sums over the chunks.  The first chunk's product is written, not added to zeros.
    d_weight = _memory.empty_like(weight, wide if plan.wide_sums else dtype) if needed[1] else None
    if d_weight is not None and not count:
        d_weight.zero_()
    d_bias = torch.zeros(weight.shape[0], dtype=wide, device=device) if needed[2] else None
    for first in range(0, count, chunk):
        rows = slice(first, min(first + chunk, count))
        places = slice(rows.start * heads, rows.stop * heads)
        h = features[rows]
        z = buffer[: h.shape[0]]
        logits_into(z, h, weight, bias)
        slope = None
        if cap is not None:
            z.div_(cap).tanh_()
            if second is not None:
                slope = torch.square(z, out=second[: h.shape[0]]).neg_().add_(1.0)
            z.mul_(cap)
        kernel.run(
            split(z, head.num_classes),
            *terms.part(places),
            gradient=split(z, head.num_classes) if any(needed) else None,
            factor=factor[places] if isinstance(factor, Tensor) and factor.dim() else factor,
            divisor=divisor,
            losses=losses[places],
            nll=None if nll is None else nll[places],
        )
        if slope is not None:
            z.mul_(slope)
        if d_features is not None:
            times_weight(d_features[rows], z, weight)
        if d_weight is not None:
            add_product(d_weight, z, h, is_first=first == 0)
        if d_bias is not None:
            d_bias.add_(z.sum(0, dtype=wide))
    sums = (d_features, d_weight, d_bias)
    return losses, nll, [None if g is None or t is None else g.to(t.dtype) for g, t in zip(sums, like, strict=True)]


# The products of a chunk have few rows and a large weight.  A BLAS first packs the operands into its own order, which
# for the weight takes a good part of the time; MKL is 10 to 25% faster if the weight is the right-hand factor of its
# (column-major) product, so that the result is transposed.  A transposed block is copied while it is in the cache.


def logits_into(out: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """out = features weight^T + bias: [n, D] and [K, D] to [n, K]."""
    if not _is_flat(features, weight):
        if bias is None:
            torch.mm(features, weight.t(), out=out)
        else:
            torch.addmm(bias, features, weight.t(), out=out)
        return
    scratch = torch.empty(BLOCK, features.shape[0], dtype=out.dtype, device=out.device)
    for first in range(0, weight.shape[0], BLOCK):
        classes = slice(first, min(first + BLOCK, weight.shape[0]))
        block = scratch[: classes.stop - first]
        torch.mm(weight[classes], features.t(), out=block)
        if bias is None:
            out[:, classes].copy_(block.t())
        else:
            torch.add(block.t(), bias[classes], out=out[:, classes])


def times_weight(out: Tensor, gradient: Tensor, weight: Tensor) -> None:
    """out = gradient weight: [n, K] and [K, D] to [n, D]."""
    if _is_flat(gradient, weight):
        out.copy_(torch.mm(weight.t(), gradient.t()).t())
    else:
        torch.mm(gradient, weight, out=out)


def add_product(out: Tensor, gradient: Tensor, features: Tensor, *, is_first: bool) -> None:
    """out += gradient^T features, or = for the first chunk: [n, K] and [n, D] to [K, D]."""
    if out.dtype != gradient.dtype and adds_wide(out.device.type):  # in the accumulator of the product itself
        if is_first:
            torch.mm(gradient.t(), features, out_dtype=out.dtype, out=out)
        else:
            torch.addmm(out, gradient.t(), features, out_dtype=out.dtype, out=out)
    elif out.dtype != gradient.dtype:
        product = torch.mm(gradient.t(), features)
        out.copy_(product) if is_first else out.add_(product)
    elif is_first:
        torch.mm(gradient.t(), features, out=out)
    else:
        out.addmm_(gradient.t(), features)


@cache
def adds_wide(device: str) -> bool:
    """Whether a product of 16-bit matrices can be added to a float32 one: on CUDA, from PyTorch 2.8 on."""
    return device == "cuda" and all(
        hasattr(product, "dtype_out") for product in (torch.ops.aten.mm, torch.ops.aten.addmm)
    )


def _is_flat(rows: Tensor, weight: Tensor) -> bool:
    return (
        rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and rows.shape[0] <= MOST_ROWS
        and weight.shape[1] >= LEAST_FEATURES
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    )
