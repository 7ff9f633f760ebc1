"""Row ranges over a few threads: as many as PyTorch uses, safe beside other Python threads and after a fork."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["spread"]

Result = TypeVar("Result")
# A thread is woken only for this many elements; the kernel needs about 30 us for them, waking a thread about as long.
GRAIN = 1 << 16
# Pieces for each thread, so that one that is held up leaves its work to the others.
PIECES = 4

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def spread(work: Callable[[int, int], Result], rows: int, elements: int) -> list[Result]:
    """work(first, last) for ranges that make up all ``rows``, in the order of the ranges.

    ``work`` must release the GIL.  The calling thread takes part, and never waits for a thread that has not begun, so
    any number of callers make progress together.
    """
    threads = min(torch.get_num_threads(), rows, elements // GRAIN)
    if threads <= 1:
        return [work(0, rows)]
    pieces = min(rows, threads * PIECES)
    bounds = [rows * i // pieces for i in range(pieces + 1)]
    results: list[Result | None] = [None] * pieces
    ticket = itertools.count()

    def drain() -> None:
        while (piece := next(ticket)) < pieces:
            results[piece] = work(bounds[piece], bounds[piece + 1])

    try:
        helpers = [_threads().submit(drain) for _ in range(threads - 1)]
    except RuntimeError:  # the interpreter is shutting down and starts no thread any more
        helpers = []
    drain()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    return results  # type: ignore[return-value]  # every piece is done


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1)), thread_name_prefix="labelsmooth")
        return _pool


def _forget() -> None:
    """A forked child has none of its parent's threads, and the lock may have been held by one of them."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
