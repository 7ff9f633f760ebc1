"""Large fresh buffers on huge pages, where Linux has them free: else their page faults cost more than the pass does.

A buffer of 256 MiB is 65,536 small pages, and the first write to each of them traps into the system: several times what
the kernel needs for the numbers.  A huge page is 512 of them.  Asking for huge pages where memory is fragmented is
slower than not to ask, since the system then moves other pages about to make room; so no more are asked for than half
of those that lie free, which needs no moving.  Nothing is kept between calls: the buffer is PyTorch's like any other.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["empty", "empty_like", "free_huge_pages"]

# The C library has fresh memory mapped for sizes above this one always, and reuses its own for most below.
LEAST_BYTES = 32 << 20
MADV_HUGEPAGE = 14
SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
FREE_BLOCKS = Path("/proc/buddyinfo")


def empty_like(tensor: Tensor) -> Tensor:
    """torch.empty_like for a buffer that will be written in full."""
    return _advised(torch.empty_like(tensor))


def empty(*shape: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """torch.empty likewise."""
    return _advised(torch.empty(*shape, dtype=dtype, device=device))


def _advised(buffer: Tensor) -> Tensor:
    nbytes = buffer.numel() * buffer.element_size()
    if nbytes >= LEAST_BYTES and buffer.device.type == "cpu":
        page, advise = _huge_pages()
        if advise is not None:
            start = -(-buffer.data_ptr() // page) * page
            count = min((buffer.data_ptr() + nbytes - start) // page, free_huge_pages(page) // 2)
            if count > 0:
                advise(start, count * page, MADV_HUGEPAGE)  # where it is refused nothing changes
    return buffer


@cache
def _huge_pages() -> tuple[int, Callable[[int, int, int], int] | None]:
    """Their size, and the system's madvise where it gives them to those who ask.

    Where all have them, or nobody, asking is no use.
    """
    try:
        if sys.platform != "linux" or "[madvise]" not in (SETTINGS / "enabled").read_text():
            return 0, None
        page, advise = int((SETTINGS / "hpage_pmd_size").read_text()), ctypes.CDLL(None).madvise
    except (OSError, ValueError, AttributeError):
        return 0, None
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return page, advise


def free_huge_pages(page: int) -> int:
    """How many huge pages of so many bytes could be had now without moving anything.

    From the system's list of free blocks, whose columns count those of 1, 2, 4, ... small pages in each zone.
    """
    try:
        lines = FREE_BLOCKS.read_text().splitlines()
    except OSError:
        return 0
    zones = (line.partition("zone")[2].split()[1:] for line in lines)
    return sum((mmap.PAGESIZE << order) // page * int(count) for zone in zones for order, count in enumerate(zone))
