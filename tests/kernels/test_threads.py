"""Threads do as they are told."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch

from labelsmooth.kernels import threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_range_once_and_in_order(two_threads) -> None:
    for rows in (2, 3, 8, 101):
        ranges = threads.spread(lambda first, last: (first, last), rows, 4 * threads.GRAIN)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == rows
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert threads.spread(lambda first, last: (first, last), 8, threads.GRAIN) == [(0, 8)]


def test_a_second_thread_takes_part_and_its_failure_is_the_callers(two_threads) -> None:
    both = threading.Barrier(2, timeout=30)

    def meet(first: int, last: int) -> str:
        both.wait()
        return threading.current_thread().name

    assert len(set(threads.spread(meet, 2, 2 * threads.GRAIN))) == 2

    def fail(first: int, last: int) -> None:
        both.wait()
        if threading.current_thread() is not threading.main_thread():
            raise ArithmeticError("from the other thread")

    with pytest.raises(ArithmeticError, match="from the other thread"):
        threads.spread(fail, 2, 2 * threads.GRAIN)
    assert len(threads.spread(meet, 2, 2 * threads.GRAIN)) == 2  # the pool is as it was
