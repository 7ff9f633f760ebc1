"""The rows of a kernel divided over as many threads as PyTorch uses, safe with other threads and after a fork.

Not by concurrent.futures: an exception of a signal handler that arrives inside one of its locks, which are Python
code, leaves the lock held, and the next loss waits without end.  Here threads meet in SimpleQueue and list alone,
whose operations are C and happen whole or not at all.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

import torch

__all__ = ["sum_over_rows"]

# The kernel takes 60 to 120 us for this many elements, and waking a thread about half as long.
GRAIN = 1 << 18
# Pieces per thread, so that a thread that is held up leaves its work to the others.
PIECES = 4

# Seconds.  The wait ends with the work; this is for a wake-up that an interruption of the wait took with it.
PATIENCE = 0.05

# By process: after a fork the child needs a pool of its own.
_pools: dict[int, _Pool] = {}


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
        if helper.error is not None:
            raise helper.error
    return sum(sums)  # in the order of the rows, whichever thread was faster


class _Helper:
    """Work for another thread, which the caller can take back until it has begun."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = [work]
        self.done = False
        self.error: BaseException | None = None
        self.wake_up: SimpleQueue[None] = SimpleQueue()

    def cancel(self) -> bool:
        """Take the work back; False if it has begun."""
        return self._take() is not None

    def _take(self) -> Callable[[], None] | None:
        try:
            return self._work.pop()
        except IndexError:
            return None

    def run(self) -> None:
        work = self._take()
        if work is None:
            return
        try:
            work()
        except BaseException as error:
            self.error = error
        self.done = True
        self.wake_up.put(None)


class _Pool:
    """Threads that take helpers from a queue.  They are started as they are asked for, and end with the process."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.queue: SimpleQueue[_Helper] = SimpleQueue()

    def submit(self, helpers: list[_Helper]) -> None:
        while len(self.threads) < len(helpers):
            thread = threading.Thread(target=self._serve, name=f"labelsmooth_{len(self.threads)}", daemon=True)
            thread.start()
            self.threads.append(thread)
        for helper in helpers:
            self.queue.put(helper)

    def _serve(self) -> None:
        while True:
            self.queue.get().run()


def _submit(work: Callable[[], None], count: int) -> list[_Helper]:
    pool = _pools.get(os.getpid()) or _pools.setdefault(os.getpid(), _Pool())
    helpers = [_Helper(work) for _ in range(count)]
    try:
        pool.submit(helpers)
    except RuntimeError:  # no thread can be started, for example while the interpreter shuts down
        return []
    return helpers


def _wait(begun: list[_Helper]) -> None:
    """Wait for all of them, then raise what interrupted the wait."""
    interruption: BaseException | None = None
    while waiting := [helper for helper in begun if not helper.done]:
        try:
            with suppress(Empty):
                waiting[0].wake_up.get(timeout=PATIENCE)
        except BaseException as error:  # noqa: PERF203
            interruption = error
    if interruption is not None:
        raise interruption
