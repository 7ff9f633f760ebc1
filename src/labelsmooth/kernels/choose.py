"""Which row kernel runs for a tensor, and why."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["Choice", "choose"]


class Choice(NamedTuple):
    """A kernel's name and the reason for it, as ``labelsmooth doctor`` prints them."""

    kernel: str
    reason: str


def choose(device: torch.device | str, dtype: torch.dtype) -> Choice:
    """The kernel that runs for logits of this device and dtype.

    Example:
        >>> choose("cpu", torch.float32).kernel
        'reference'
    """
    return Choice("reference", f"plain PyTorch serves {torch.device(device).type} in {dtype}")
