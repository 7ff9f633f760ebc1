"""Which row kernel runs for a tensor, and why."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Choice", "choose", "fits", "is_transformed"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Choice(NamedTuple):
    """A kernel's name and the reason for it, as ``labelsmooth doctor`` prints them."""

    kernel: str
    reason: str


_choices: dict[tuple[str, torch.dtype], Choice] = {}


def choose(device: torch.device | str, dtype: torch.dtype) -> Choice:
    """The kernel that runs for plain logits of this device and dtype: "rows_cpu", "rows_triton" or "reference".

    Example:
        >>> choose("cpu", torch.float32).kernel
        'rows_cpu'
        >>> choose("mps", torch.float32)
        Choice(kernel='reference', reason='plain PyTorch serves mps')
    """
    kind = device.type if isinstance(device, torch.device) else torch.device(device).type
    if (kind, dtype) not in _choices:
        _choices[kind, dtype] = _choose(kind, dtype)
    return _choices[kind, dtype]


def _choose(device: str, dtype: torch.dtype) -> Choice:
    if device not in ("cpu", "cuda"):
        return Choice("reference", f"plain PyTorch serves {device}")
    if dtype not in DTYPES:
        return Choice("reference", f"the kernels take float32, float64, bfloat16 and float16, not {dtype}")
    if device == "cpu":
        return Choice("rows_cpu", f"numba's row kernel serves the CPU in {dtype}")
    if find_spec("triton") is None:
        return Choice("reference", "triton, which the row kernel for CUDA is written in, is not installed")
    return Choice("rows_triton", f"triton's row kernel serves CUDA in {dtype}")


def fits(logits: Tensor, *others: float | Tensor | None) -> bool:
    """Whether a row kernel may serve this call in eager mode: plain tensors, and only the logits differentiated.

    The reference serves the rest: a base or an epsilon that needs a gradient, subclasses of Tensor, functorch's
    transforms, forward-mode differentiation and tracing.
    """
    if type(logits) not in (Tensor, torch.nn.Parameter) or logits.layout != torch.strided or logits.is_neg():
        return False
    for other in others:
        if isinstance(other, Tensor):
            if other.requires_grad and torch.is_grad_enabled():
                return False
            if type(other) not in (Tensor, torch.nn.Parameter) or other.device != logits.device:
                return False
    return not is_transformed()


def is_transformed() -> bool:
    """Whether functorch's transforms, forward-mode differentiation or tracing are at work."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )
