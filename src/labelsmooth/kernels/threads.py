"""Row ranges over a few threads: as many as PyTorch uses, safe beside other Python threads and after a fork."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

import torch

__all__ = ["spread"]

Result = TypeVar("Result")
# A thread is woken only for this many elements: the kernel needs 60 to 120 us for them, waking a thread half as long.
GRAIN = 1 << 18
# Pieces for each thread, so that one that is held up leaves its work to the others.
PIECES = 4

_lock = threading.Lock()
_threads = 0
_jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()


def spread(work: Callable[[int, int], Result], rows: int, elements: int) -> list[Result]:
    """work(first, last) for ranges that make up all ``rows``, in the order of the ranges.

    ``work`` must release the GIL.  The calling thread takes part, and waits only for ranges that another thread has
    begun, so any number of callers make progress together.
    """
    threads = min(torch.get_num_threads(), rows, elements // GRAIN)
    if threads <= 1:
        return [work(0, rows)]
    pieces = min(rows, threads * PIECES)
    bounds = [rows * i // pieces for i in range(pieces + 1)]
    results: list[Result | None] = [None] * pieces
    failures: list[BaseException] = []
    ticket, ended, finished = itertools.count(), itertools.count(1), threading.Lock()
    finished.acquire()

    def drain() -> None:
        while (piece := next(ticket)) < pieces:
            try:
                results[piece] = work(bounds[piece], bounds[piece + 1])
            except BaseException as failure:  # the caller's to raise, not a thread's of the pool
                failures.append(failure)
            if next(ended) == pieces:
                finished.release()

    _start(threads - 1)
    for _ in range(threads - 1):
        _jobs.put(drain)  # one that is fetched too late finds nothing left to do
    drain()
    finished.acquire()
    if failures:
        raise failures[0]
    return results  # type: ignore[return-value]  # every piece is done


def _start(wanted: int) -> None:
    """Have so many threads, but never more than there are processors."""
    global _threads
    wanted = min(wanted, os.cpu_count() or 1)
    if _threads >= wanted:
        return
    with _lock:
        while _threads < wanted:
            try:
                threading.Thread(target=_serve, args=(_jobs,), name=f"labelsmooth-{_threads}", daemon=True).start()
            except RuntimeError:  # the interpreter is shutting down and starts no thread any more
                return
            _threads += 1


def _serve(jobs: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        jobs.get()()


def _forget() -> None:
    """A forked child has none of its parent's threads, and they may have held the locks."""
    global _lock, _threads, _jobs
    _lock, _threads, _jobs = threading.Lock(), 0, SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
