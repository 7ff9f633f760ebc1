"""The cross-entropy of each row in plain PyTorch: the definition, the oracle of the tests, and the fallback.

It runs on any device, in any floating dtype, and can be differentiated any number of times.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["accumulation_dtype", "as_matrix", "row_losses"]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in: float64 for float64 logits, float32 for float32 and the half types."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def as_matrix(logits: Tensor) -> Tensor:
    """[N, K] as it is, and [B, K, D] as the [B * D, K] that it stands for."""
    return logits if logits.dim() == 2 else logits.movedim(1, -1).reshape(-1, logits.shape[1])


def row_losses(
    logits: Tensor,
    index: Tensor | None,
    keep: float | Tensor,
    scale: float | Tensor,
    base: Tensor | None,
    rows: bool = False,
    valid: Tensor | None = None,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor | None]:
    """H(q_i, softmax(z_i)) and -log p_i[index_i] of each row, with q_i = keep_i * onehot(index_i) + scale_i * base_i.

    Args:
        logits: [N, K] in any floating dtype, or [B, K, D] for N = B * D rows in that order.
        index: [N] int64 labels in [0, K); -1 marks a row that does not count.  None: rows without a label.
        keep, scale: floats or [N].
        base: None (uniform), [K], [K, K] (a row for each label), or [N, K] where ``rows`` is True.
        valid: [K] or [N, K] bool.  A class that is not valid has no part in the softmax, whatever its logit, and its
            base is 0.
        z_loss: the coefficient of logsumexp(z_i)^2, which is added to the loss.

    Returns:
        The losses [N] and, where there are labels, the unsmoothed negative log-likelihoods [N]; in float32, or
        float64 for float64 logits.  A row with index -1 has loss, likelihood and gradient 0, whatever its logits.
    """
    logits = as_matrix(logits)
    dtype = accumulation_dtype(logits.dtype)
    label = None
    if index is not None:
        counted, label = index >= 0, index.clamp(min=0)
        # Blanked before the softmax: a NaN logit times a zero gradient would still be NaN.
        logits = torch.where(counted[:, None], logits, torch.zeros_like(logits))
    if base is not None and base.dim() == 2 and not rows:
        assert label is not None
        base = base[label]
    if valid is not None:
        logits = torch.where(valid, logits, -torch.inf)
        base = torch.full_like(logits, 1.0 / logits.shape[1], dtype=dtype) if base is None else base
        base = torch.where(valid, base, 0.0)
    # Kept as log-probabilities rather than lse - z: the row's maximum is taken out before the sum, so logits of
    # 1e4 lose no digits to the cancellation of two large numbers.
    log_p = torch.log_softmax(logits, dim=-1, dtype=dtype)
    loss, nll = _scaled(scale, -_base_dot(log_p, base)), None
    if label is not None:
        nll = -log_p.gather(-1, label[:, None]).squeeze(-1)
        loss = _scaled(keep, nll) + loss
    if z_loss != 0.0:
        loss = loss + z_loss * torch.logsumexp(logits.to(dtype), dim=-1).square()
    if label is not None and nll is not None:
        zero = torch.zeros_like(nll)
        return torch.where(counted, loss, zero), torch.where(counted, nll, zero)
    return loss, None


def _base_dot(log_p: Tensor, base: Tensor | None) -> Tensor:
    """<base_i, log p_i> of each row, with 0 * log 0 = 0."""
    if base is None:
        return log_p.mean(-1)
    base = base.to(log_p.dtype)
    return torch.where(base == 0, torch.zeros_like(log_p), base * log_p).sum(-1)


def _scaled(factor: float | Tensor, value: Tensor) -> Tensor:
    """factor * value, where a zero factor leaves the value out: a logit of -inf makes the smooth term infinite, and
    0 * inf is NaN, where plain cross-entropy is finite."""
    if isinstance(factor, Tensor):
        factor = factor.to(value.dtype)
        return torch.where(factor == 0, torch.zeros_like(value), factor * value)
    return factor * value if factor != 0.0 else torch.zeros_like(value)
