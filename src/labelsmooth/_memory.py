"""glibc's malloc set to keep large blocks that are freed, which saves page faults in each training step."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

import torch
from torch import Tensor

# glibc maps each block above this size from the system anew, page by page, and unmaps it when it is freed.
LARGE = 32 << 20
SETTING = "LABELSMOOTH_KEEP_MEMORY"
# Parameters of mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def empty_like(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """torch.empty_like; the first large buffer on the CPU calls :func:`keep_freed_memory`."""
    if tensor.device.type == "cpu" and tensor.numel() * tensor.element_size() >= LARGE:
        keep_freed_memory()
    return torch.empty_like(tensor, dtype=dtype)


@cache
def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed blocks of every size for the process; on other systems do nothing.

    Without it, a step that frees and allocates a gradient of 256 MiB spends most of its time on page faults.  The
    process then holds its peak of memory until it ends.  ``LABELSMOOTH_KEEP_MEMORY=0``, or any of glibc's own
    variables (``MALLOC_...``, ``GLIBC_TUNABLES``), leaves malloc as it is.
    """
    if os.environ.get(SETTING) == "0" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
