"""A line on stderr while a kernel is compiled, so that the first call does not look as if it hung."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["announce", "announced"]

_lock = threading.Lock()
_said = False


def announce() -> None:
    """Say once in a process that kernels are being compiled."""
    global _said
    with _lock:
        if _said:
            return
        _said = True
    print("labelsmooth: compiling kernels, once: 5 to 10 s", file=sys.stderr, flush=True)


@contextmanager
def announced(seconds: float = 1.0) -> Iterator[None]:
    """:func:`announce` if the block takes longer: a compiler may have the kernel in its cache, and not say so."""
    timer = threading.Timer(seconds, announce)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
