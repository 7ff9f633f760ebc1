"""The cross-entropy of each row in PyTorch operators: the definition, the oracle of the tests, and the fallback.

It runs on any device, in any floating dtype, and can be differentiated any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from labelsmooth.target import Target

__all__ = [
    "Divisor",
    "Terms",
    "accumulation_dtype",
    "as_matrix",
    "is_late",
    "mean_of",
    "row_factor",
    "row_losses",
]

Divisor = float | Tensor | None  # of the sum of the losses; None keeps one loss per row
Tensors = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]
Numbers = tuple[int, float, float, bool, float]


class Terms(NamedTuple):
    """What the kernels need beside the logits.

    valid: [K] or [N, K] bool.  A class that is not valid is left out of the softmax, whatever its logit, and its base
        counts as 0.
    z_loss: the coefficient of logsumexp(z_i)^2, which is added to the loss.
    """

    q: Target
    valid: Tensor | None = None
    z_loss: float = 0.0

    def part(self, rows: slice) -> Terms:
        """The terms of some of the rows."""
        valid = self.valid[rows] if self.valid is not None and self.valid.dim() == 2 else self.valid
        return Terms(self.q.part(rows), valid, self.z_loss)

    def tensors(self) -> Tensors:
        """The five that may be tensors, None where they are not: index, keep, scale, base, valid."""
        q = self.q
        keep = q.keep if isinstance(q.keep, Tensor) else None
        scale = q.scale if isinstance(q.scale, Tensor) else None
        return q.index, keep, scale, q.base, self.valid

    def numbers(self) -> Numbers:
        """The rest, with keep and scale unless they are tensors, which autograd must save."""
        q = self.q
        keep = 0.0 if isinstance(q.keep, Tensor) else q.keep
        scale = 0.0 if isinstance(q.scale, Tensor) else q.scale
        return q.num_classes, keep, scale, q.rows, self.z_loss

    @classmethod
    def of(cls, numbers: Numbers, tensors: Sequence[Tensor | None]) -> Terms:
        """The terms of :meth:`numbers` and :meth:`tensors`."""
        (num_classes, keep, scale, rows, z_loss), (index, keeps, scales, base, valid) = numbers, tensors
        q = Target(
            num_classes, index, keep if keeps is None else keeps, scale if scales is None else scales, base, rows
        )
        return cls(q, valid, z_loss)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: float64 for float64 logits, float32 for float32 and the half types."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def as_matrix(logits: Tensor) -> Tensor:
    """[N, K] as it is, and [B, K, D] as the [B * D, K] that it stands for."""
    return logits if logits.dim() == 2 else logits.movedim(1, -1).reshape(-1, logits.shape[1])


def row_factor(values: Tensor, logits: Tensor) -> Tensor:
    """A single number as it is, and [N] numbers in the shape that multiplies the rows of [N, K] or [B, K, D]."""
    return values if values.dim() == 0 else values.reshape(logits.shape[0], 1, *logits.shape[2:])


def row_losses(
    logits: Tensor, q: Target, valid: Tensor | None = None, z_loss: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """H(q_i, softmax(z_i)) and -log p_i[index_i] of each row.

    Args:
        logits: [N, K] in any floating dtype, or [B, K, D] for N = B * D rows in that order.
        q, valid, z_loss: see :class:`Terms`.

    Returns:
        The losses [N] and, where there are labels, the unsmoothed negative log-likelihoods [N]; in float32, or
        float64 for float64 logits.  For a row with index -1 loss, likelihood and gradient are 0, whatever its logits;
        for any other index outside [0, K) they are NaN.
    """
    logits = as_matrix(logits)
    dtype = accumulation_dtype(logits.dtype)
    base, label = q.base, None
    if q.index is not None:
        counted, inside = q.index != -1, (q.index >= 0) & (q.index < logits.shape[1])
        label = torch.where(inside, q.index, 0)
        # Zeroed before the softmax: a NaN logit times a zero gradient would still be NaN.
        logits = torch.where(counted[:, None], logits, torch.zeros_like(logits))
    if base is not None and base.dim() == 2 and not q.rows:
        assert label is not None
        base = base[label]
    if valid is not None:
        logits = torch.where(valid, logits, -torch.inf)
        base = torch.full_like(logits, 1.0 / logits.shape[1], dtype=dtype) if base is None else base
        base = torch.where(valid, base, 0.0)
    # log-probabilities rather than lse - z: the row's maximum is subtracted before the sum, so logits of 1e4 lose no
    # digits to the cancellation of two large numbers.
    log_p = torch.log_softmax(logits, dim=-1, dtype=dtype)
    loss, nll = _scaled(q.scale, -_base_dot(log_p, base)), None
    if label is not None:
        nll = -log_p.gather(-1, label[:, None]).squeeze(-1)
        loss = _scaled(q.keep, nll) + loss
    if z_loss != 0.0:
        loss = loss + z_loss * torch.logsumexp(logits.to(dtype), dim=-1).square()
    if label is not None and nll is not None:
        zero = torch.zeros_like(nll)
        # A product, so that the gradient is NaN too; 1 in ignored rows, whose NaN would reach a gradient of keep.
        spoilt = torch.where(counted & ~inside, torch.nan, torch.ones_like(nll))
        return torch.where(counted, loss * spoilt, zero), torch.where(counted, nll * spoilt, zero)
    return loss, None


def _base_dot(log_p: Tensor, base: Tensor | None) -> Tensor:
    """<base_i, log p_i> of each row, with 0 * log 0 = 0."""
    if base is None:
        return log_p.mean(-1)
    base = base.to(log_p.dtype)
    return torch.where(base == 0, torch.zeros_like(log_p), base * log_p).sum(-1)


def _scaled(factor: float | Tensor, value: Tensor) -> Tensor:
    """factor * value, and 0 where the factor is 0: a logit of -inf makes the smooth term infinite, and 0 * inf would be
    NaN where plain cross-entropy is finite."""
    if isinstance(factor, Tensor):
        factor = factor.to(value.dtype)
        return torch.where(factor == 0, torch.zeros_like(value), factor * value)
    return factor * value if factor != 0.0 else torch.zeros_like(value)


def is_late(dtype: torch.dtype) -> bool:
    """Whether the gradient is computed in the backward pass, when the upstream gradient is known.

    In float16, 1 / N times a probability underflows unless a GradScaler's factor is already in it.
    """
    return dtype == torch.float16


def mean_of(losses: Tensor, divisor: float | Tensor) -> Tensor:
    """The sum of the losses over the divisor; NaN over no label."""
    if losses.is_cuda:  # in its own dtype, by a tree: a sum in another needs two more launches
        return (losses.sum() / divisor).to(losses.dtype)
    return (losses.sum(dtype=torch.float64) / divisor).to(losses.dtype)
