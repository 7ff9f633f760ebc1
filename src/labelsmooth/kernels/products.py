"""The matrix products of a chunk: a few rows of features with a large weight, turned round where MKL is faster so.

A BLAS packs the operands of a product into its own order first.  Where the rows are few, that of the large weight takes
a good part of the time, and MKL is 10 to 25% faster if the weight is the right-hand factor of its (column by column)
product, so that the result comes out transposed.  A transposed block is put in place while it is in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["logits_into", "times_weight"]

# Measured with float32 on two cores: below these many features and from these many rows on the plain product is faster.
LEAST_FEATURES, MOST_ROWS = 512, 256
BLOCK = 1024  # classes whose transposed logits exist at a time: of 256 rows a megabyte


def logits_into(out: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """out = features weight^T + bias: [n, D] and [K, D] to [n, K]."""
    if not _is_flat(features, weight):
        if bias is None:
            torch.mm(features, weight.t(), out=out)
        else:
            torch.addmm(bias, features, weight.t(), out=out)
        return
    scratch = torch.empty(BLOCK, len(features), dtype=out.dtype)
    for first in range(0, len(weight), BLOCK):
        classes = slice(first, min(first + BLOCK, len(weight)))
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


def _is_flat(rows: Tensor, weight: Tensor) -> bool:
    return (
        rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and len(rows) <= MOST_ROWS
        and weight.shape[1] >= LEAST_FEATURES
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    )
