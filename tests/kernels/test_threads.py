"""The threads of the CPU kernel: every row once, the sum in order, and exceptions after all work has ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import torch

from labelsmooth.kernels import threads
from labelsmooth.kernels.threads import GRAIN, sum_over_rows


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_row_once(two_threads) -> None:
    for rows in (2, 3, 8, 101):
        ranges = []
        total = sum_over_rows(lambda first, last: ranges.append((first, last)) or float(last - first), rows, 4 * GRAIN)  # noqa: B023
        assert sorted(row for first, last in ranges for row in range(first, last)) == list(range(rows))
        assert total == rows
    assert sum_over_rows(lambda first, last: 8.0 if (first, last) == (0, 8) else 0.0, 8, GRAIN) == 8.0


def test_the_sum_does_not_depend_on_which_thread_is_faster(two_threads) -> None:
    terms = torch.randn(64, dtype=torch.float64).mul(1e8).tolist()

    def work(first: int, last: int) -> float:
        time.sleep(0.001 * (first % 3))
        return sum(terms[first:last])

    assert len({sum_over_rows(work, 64, 4 * GRAIN) for _ in range(5)}) == 1


def test_an_error_in_another_thread_is_raised_here(two_threads) -> None:
    both = threading.Barrier(2, timeout=30)
    names = set()

    def meet(first: int, last: int) -> float:
        both.wait()
        names.add(threading.current_thread().name)
        return 0.0

    sum_over_rows(meet, 2, 2 * GRAIN)
    assert len(names) == 2

    def fail(first: int, last: int) -> float:
        both.wait()
        if threading.current_thread() is not threading.main_thread():
            raise ArithmeticError("from the other thread")
        return 0.0

    with pytest.raises(ArithmeticError, match="from the other thread"):
        sum_over_rows(fail, 2, 2 * GRAIN)
    sum_over_rows(meet, 2, 2 * GRAIN)  # the pool still works


class Interruption(Exception):
    pass


@pytest.fixture
def alarm():
    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_an_exception_of_a_signal_handler_is_raised_after_the_other_threads_are_done(two_threads, alarm) -> None:
    running = 0

    def work(first: int, last: int) -> float:
        nonlocal running
        running += 1
        time.sleep(0.01 if threading.current_thread() is threading.main_thread() else 0.3)
        running -= 1
        return 0.0

    alarm(0.15)
    with pytest.raises(Interruption):
        sum_over_rows(work, 8, 2 * GRAIN)
    assert running == 0
    assert sum_over_rows(lambda first, last: float(last - first), 8, 2 * GRAIN) == 8.0


INTERRUPTED = """
    import faulthandler, random, signal, time, torch
    import labelsmooth as ls
    faulthandler.enable()
    torch.set_num_threads(3)
    class Interruption(Exception): pass
    def interrupt(*_): raise Interruption
    signal.signal(signal.SIGALRM, interrupt)
    rows, classes = 3, 400_000
    labels = torch.randint(classes, (rows,))
    def loss():
        return ls.cross_entropy(torch.zeros(rows, classes, requires_grad=True), labels)
    loss(), loss()
    def seconds():
        start = time.perf_counter(); loss()
        return time.perf_counter() - start
    longest = 2 * min(seconds() for _ in range(10))  # the least: with another program's time most calls would end first
    interruptions = calls = 0
    while interruptions < 200:
        calls += 1
        try:
            signal.setitimer(signal.ITIMER_REAL, max(longest * random.random(), 1e-5))
            loss()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interruption:
            interruptions += 1
    torch.testing.assert_close(loss().item(), float(torch.tensor(float(classes)).log()))
    print(interruptions, "of", calls)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_two_hundred_interruptions_while_logits_are_freed() -> None:
    """Each loss has logits of its own, which are freed as soon as the exception leaves it."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 of ")


def test_the_threads_hold_what_they_work_on(two_threads, monkeypatch) -> None:
    """So that memory survives even an exception that prevents the wait for them."""
    collected, begun, finished = [], threading.Event(), threading.Event()

    class Memory:
        def __del__(self) -> None:
            collected.append(finished.is_set())

    def interrupt(_: object) -> None:
        raise Interruption

    def work(first: int, last: int) -> float:
        if threading.current_thread() is threading.main_thread():
            begun.wait(30)
            return 0.0
        begun.set()
        time.sleep(0.2)
        finished.set()
        return 0.0

    monkeypatch.setattr(threads, "_wait", interrupt)
    with contextlib.suppress(Interruption):  # pytest.raises would hold the frame
        sum_over_rows(work, 2, 2 * GRAIN, Memory())
    assert not finished.is_set()
    assert finished.wait(30)
    deadline = time.monotonic() + 10
    while not collected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert collected == [True]


def test_without_further_threads_the_caller_does_all(two_threads, monkeypatch) -> None:
    class Full:
        def submit(self, helpers: object) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_pools", {threads.os.getpid(): Full()})
    assert sum_over_rows(lambda first, last: float(last - first), 8, 4 * GRAIN) == 8.0
