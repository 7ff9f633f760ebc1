"""Large buffers in huge pages: a fresh buffer's page faults cost more than the pass that fills it."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import Tensor

__all__ = ["buffer_like"]

# Below this the allocator reuses memory whose pages are there already.
LARGE = 32 << 20
PAGE = 4096
MADV_HUGEPAGE = 14

_madvise = None
if sys.platform == "linux":
    try:
        _madvise = ctypes.CDLL(None).madvise
        _madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (OSError, AttributeError):  # a C library without it; the advice is only that
        _madvise = None


def buffer_like(tensor: Tensor) -> Tensor:
    """torch.empty_like(tensor), with the advice to Linux to back it with pages of 2 MB where it is large.

    Linux zeroes 512 times fewer pages then; most distributions ask for this advice ("madvise" in
    /sys/kernel/mm/transparent_hugepage/enabled), and where it is not followed nothing changes.
    """
    buffer = torch.empty_like(tensor)
    size = buffer.numel() * buffer.element_size()
    if size >= LARGE and _madvise is not None:
        start = -(-buffer.data_ptr() // PAGE) * PAGE
        _madvise(start, size - PAGE, MADV_HUGEPAGE)
    return buffer
