"""Large buffers whose pages are there already, where Linux allows it: else page faults cost more than the pass does.

A buffer of 256 MiB is 65,536 small pages.  Where the C library maps it anew for each step, the first write to each page
traps into the system: several times what the kernel needs for the numbers.  So the memory of a large buffer is mapped
here, and when the last tensor on it is gone it is kept for the next one, marked as free (MADV_FREE): while memory is
plenty its pages stay, and a system that is short of it takes them first.  A mapping is private, so that a forked
process has its own.

What is mapped anew asks for huge pages, 512 small ones each.  Asking where memory is fragmented is slower than not to
ask, since the system then moves other pages about to make room; so no more are asked for than half of those that lie
free, which needs no moving.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import weakref
from functools import cache
from math import prod
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["empty", "empty_like", "free_huge_pages", "release"]

# The C library maps sizes above this one anew always, and reuses its own memory for most below.
LEAST_BYTES = 32 << 20
# More than one step of a training has at once.
MOST_KEPT = 4
SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
FREE_BLOCKS = Path("/proc/buddyinfo")

# Read and changed by single operations only, since other threads and the garbage collector do so too at any moment.
_kept: list[mmap.mmap] = []


def empty_like(tensor: Tensor) -> Tensor:
    """torch.empty_like for a buffer that will be written in full."""
    if _is_large(tensor.numel() * tensor.element_size(), tensor.device):
        return _mapped(torch.empty_like(tensor, device="meta"))
    return torch.empty_like(tensor)


def empty(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """torch.empty likewise."""
    if _is_large(prod(shape) * dtype.itemsize, device):
        return _mapped(torch.empty(*shape, dtype=dtype, device="meta"))
    return torch.empty(*shape, dtype=dtype, device=device)


def release() -> None:
    """Give what is kept back to the system now, rather than when it is short of memory."""
    _kept.clear()


def _is_large(nbytes: int, device: torch.device) -> bool:
    return nbytes >= LEAST_BYTES and device.type == "cpu" and sys.platform == "linux" and hasattr(mmap, "MADV_FREE")


def _mapped(plan: Tensor) -> Tensor:
    """A tensor of the plan's shape, strides and dtype on memory that is kept for another when its last user is gone."""
    nbytes = plan.numel() * plan.element_size()
    try:
        memory = _take(nbytes) or _fresh(nbytes)
    except OSError:  # too little memory: the C library may have some left, and PyTorch's error says what is missing
        release()
        return torch.empty_like(plan, device="cpu")
    # The tensor's storage holds on to the object that it lies on, here a memoryview, which ends with it.
    view = memoryview(memory)
    weakref.finalize(view, _keep, memory).atexit = False
    flat = torch.frombuffer(view, dtype=plan.dtype, count=plan.numel())
    return torch.empty(0, dtype=plan.dtype, device="cpu").set_(flat.untyped_storage(), 0, plan.shape, plan.stride())


def _take(nbytes: int) -> mmap.mmap | None:
    """The smallest of those kept that is large enough."""
    for memory in sorted(_kept.copy(), key=len):
        if len(memory) >= nbytes:
            with contextlib.suppress(ValueError):  # another thread was faster
                _kept.remove(memory)
                return memory
    return None


def _keep(memory: mmap.mmap) -> None:
    with contextlib.suppress(OSError):  # where the system would not take it back it is not kept
        memory.madvise(mmap.MADV_FREE)
        _kept.append(memory)
        del _kept[:-MOST_KEPT]


def _fresh(nbytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page = _huge_page()
    count = min(nbytes // page, free_huge_pages(page) // 2) if page else 0
    if count:
        with contextlib.suppress(OSError):  # where it is refused nothing changes
            memory.madvise(mmap.MADV_HUGEPAGE, 0, count * page)
    return memory


@cache
def _huge_page() -> int:
    """Its bytes where the system gives huge pages to those who ask.

    0 where all have them, or nobody: asking is no use there.
    """
    try:
        asking = "[madvise]" in (SETTINGS / "enabled").read_text()
        return int((SETTINGS / "hpage_pmd_size").read_text()) if asking else 0
    except (OSError, ValueError):
        return 0


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
