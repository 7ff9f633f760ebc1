"""Which row kernel runs for a tensor, and why; the kernels are imported here on first use."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from labelsmooth._torch_private import is_intercepted

__all__ = ["Choice", "Kernel", "choose", "cpu_launcher", "cuda_launcher", "is_plain", "row_kernel"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # an import that failed or was interrupted has left the module without a specification
        return True


# On import: not every version of torch.compile can trace it (2.13 can, 2.11 cannot).
INSTALLED = {module: _is_installed(module) for module in ("numba", "triton")}


class Choice(NamedTuple):
    """A kernel's name and the reason for it, as ``labelsmooth doctor`` prints them."""

    kernel: Literal["rows_cpu", "rows_triton", "reference"]
    reason: str


# A dict, since torch.compile warns of functools.cache.
_choices: dict[tuple[str, torch.dtype], Choice] = {}


def choose(device: torch.device | str, dtype: torch.dtype) -> Choice:
    """The kernel that runs for plain logits of this device and dtype: "rows_cpu", "rows_triton" or "reference".

    Example:
        >>> choose("cpu", torch.float32).kernel
        'rows_cpu'
        >>> choose("mps", torch.float32)
        Choice(kernel='reference', reason='no fused kernel for mps: using PyTorch operators')
    """
    kind = device.type if isinstance(device, torch.device) else torch.device(device).type
    if (kind, dtype) not in _choices:
        _choices[kind, dtype] = _choose(kind, dtype)
    return _choices[kind, dtype]


def _choose(device: str, dtype: torch.dtype) -> Choice:
    if device not in ("cpu", "cuda"):
        return Choice("reference", f"no fused kernel for {device}: using PyTorch operators")
    if dtype not in DTYPES:
        return Choice("reference", f"no fused kernel for {dtype}: it takes float32, float64, bfloat16 and float16")
    if device == "cuda":
        if not INSTALLED["triton"]:
            return Choice("reference", "the kernel for CUDA needs triton, which is not installed")
        return Choice("rows_triton", f"the Triton kernel for {dtype} on CUDA")
    if not INSTALLED["numba"]:
        return Choice("reference", "the kernel for the CPU needs numba, which is not installed")
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return Choice("reference", "NUMBA_DISABLE_JIT is set, so the kernel for the CPU cannot be compiled")
    return Choice("rows_cpu", f"the numba kernel for {dtype} on the CPU")


class Kernel(NamedTuple):
    """The row kernel of a device, as :class:`labelsmooth.kernels.rows.RowLoss` calls it.

    run: the arguments of :func:`reference.row_losses` and the outputs to fill; the sum of the losses, or None where
        that would cost an operation of its own.
    scale: gradient *= upstream in place, where upstream is a number or one for each row.
    """

    run: Callable[..., float | None]
    scale: Callable[[Tensor, Tensor], Tensor]


@cache
def cpu_launcher() -> ModuleType | None:
    """The module of the CPU kernel, imported on first use, and numba with it; None, with a warning, if that fails."""
    choice = choose("cpu", torch.float32)
    problem = choice.reason
    if choice.kernel == "rows_cpu":
        try:
            from labelsmooth.kernels import launch_cpu
        except Exception as error:
            problem = f"numba cannot be imported ({type(error).__name__}: {error})"
        else:
            return launch_cpu
    warnings.warn(f"{problem}; using PyTorch operators, which are slower.", RuntimeWarning, stacklevel=2)
    return None


@cache
def cuda_launcher() -> ModuleType | None:
    """The module of the CUDA kernel, imported on first use, and Triton with it; None without Triton."""
    if choose("cuda", torch.float32).kernel == "reference":
        return None
    from labelsmooth.kernels import launch_cuda

    return launch_cuda


@cache
def row_kernel(device: str, dtype: torch.dtype) -> Kernel | None:
    """The row kernel for logits on this kind of device, or None for the reference."""
    name = choose(device, dtype).kernel
    launcher = None if name == "reference" else cpu_launcher() if name == "rows_cpu" else cuda_launcher()
    return None if launcher is None else Kernel(launcher.run, launcher.scale)


def is_plain(logits: Tensor, *others: float | Tensor | None) -> bool:
    """Whether a row kernel may run in eager mode: plain tensors on one device, and only the logits differentiated.

    The reference is used for the rest: a base or an epsilon that needs a gradient, subclasses of Tensor, torch.func,
    forward-mode differentiation, tracing, and dispatch or function modes.
    """
    if not _has_plain_memory(logits) or logits.layout != torch.strided:
        return False
    for other in others:
        if isinstance(other, Tensor):
            if other.requires_grad and torch.is_grad_enabled():
                return False
            if not _has_plain_memory(other) or other.device != logits.device:
                return False
    return not is_intercepted()


def _has_plain_memory(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_neg()
