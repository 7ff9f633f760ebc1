"""The score of a class for one-vs-rest calibration: its log-odds against all the others."""

from __future__ import annotations

import torch


def log_odds(z: torch.Tensor) -> torch.Tensor:
    r"""ln p_k / (1 - p_k) = z_k - ln Σ_{j≠k} exp z_j of softmax(z), (N, K) in float64.

    Unlike a raw logit it does not change when a constant is added to the row, and with two classes it is the binary
    logit z_1 - z_0. Exact for probabilities next to 1, where ln(1 - p) computed from p has no digits left.
    """
    wide = torch.float32 if z.device.type == "mps" else torch.float64
    log_p = torch.log_softmax(z.to(wide), dim=1)
    top = log_p.argmax(dim=1, keepdim=True)
    # Every class but the largest has p of at most 1/2, where 1 - p is exact enough; the largest is 1 minus the others.
    others = log_p.scatter(1, top, -torch.inf)
    rest = torch.log1p(-others.exp())
    rest.scatter_(1, top, torch.logsumexp(others, dim=1, keepdim=True))
    # A masked class (-inf) keeps a finite place at the bottom; its only competitor one at the top.
    return (log_p - rest).clamp_(-1e30, 1e30)


def normalised(log_q: torch.Tensor) -> torch.Tensor:
    """One-vs-rest log-probabilities (N, K) as logits; a row of zeros (all -inf) says nothing and becomes uniform."""
    return torch.where(torch.isneginf(log_q).all(dim=1, keepdim=True), torch.zeros_like(log_q), log_q)


def binary_logits(s: torch.Tensor) -> torch.Tensor:
    """The log-odds of class 1, (N,), as logits of both classes, (N, 2)."""
    return torch.stack([torch.zeros_like(s), s], dim=1)


def binary_from_probability(one: torch.Tensor) -> torch.Tensor:
    """The probability of class 1, (N,), as logits of both classes, (N, 2)."""
    return torch.stack([torch.log1p(-one), torch.log(one)], dim=1)
