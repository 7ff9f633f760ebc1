"""The rows of a kernel divided over as many threads as PyTorch uses, safe with other threads and after a fork."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

__all__ = ["sum_over_rows"]

# The kernel takes 60 to 120 us for this many elements, and waking a thread about half as long.
GRAIN = 1 << 18
# Pieces per thread, so that a thread that is held up leaves its work to the others.
PIECES = 4

# By process: after a fork the child needs a pool of its own.
_pools: dict[int, ThreadPoolExecutor] = {}


def sum_over_rows(work: Callable[[int, int], float], rows: int, elements: int, hold: object = None) -> float:
    """The sum of work(first, last) over ranges that make up all ``rows``.

    The calling thread takes part, and waits only for ranges that another thread has begun, so any number of callers
    make progress together.  An exception, of ``work`` or of a signal handler, is raised after all ranges that have
    begun are done: ``work`` writes to memory of the caller.

    Args:
        work: a function that releases the GIL.
        elements: the size of the whole problem; below 2 * GRAIN the calling thread does it alone.
        hold: kept alive for as long as a thread may be at work.
    """
    threads = min(torch.get_num_threads(), rows, elements // GRAIN)
    if threads <= 1:
        return work(0, rows)
    pieces = min(rows, threads * PIECES)
    bounds = [rows * i // pieces for i in range(pieces + 1)]
    sums = [0.0] * pieces
    remaining = deque(range(pieces))

    def drain(hold: object = hold) -> None:
        while remaining:
            try:
                piece = remaining.popleft()
            except IndexError:  # another thread took the last one
                return
            sums[piece] = work(bounds[piece], bounds[piece + 1])

    helpers = _submit(drain, threads - 1)
    try:
        drain()
    finally:
        remaining.clear()
        begun = [helper for helper in helpers if not helper.cancel()]
        _wait(begun)
    for helper in begun:
        helper.result()  # raises what failed there
    return sum(sums)  # in the order of the rows, whichever thread was faster


def _submit(work: Callable[[], None], count: int) -> list[Future[None]]:
    pool = _pools.get(os.getpid())
    if pool is None:
        pool = _pools.setdefault(os.getpid(), ThreadPoolExecutor(os.cpu_count(), "labelsmooth"))
    try:
        return [pool.submit(work) for _ in range(count)]
    except RuntimeError:  # no thread can be started, for example while the interpreter shuts down
        return []


def _wait(begun: list[Future[None]]) -> None:
    """Wait for all of them, then raise what interrupted the wait."""
    interruption: BaseException | None = None
    while any(not helper.done() for helper in begun):
        try:
            wait(begun)
        except BaseException as error:  # noqa: PERF203
            interruption = error
    if interruption is not None:
        raise interruption
