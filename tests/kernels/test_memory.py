"""Huge pages are asked for only where they lie free, and threads do as they are told."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch

from labelsmooth.kernels import memory, threads

PAGE = 2 << 20


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the system would be asked for, on a machine with a free list of ours."""
    calls: list[tuple[int, int, int]] = []
    monkeypatch.setattr(memory, "_huge_pages", lambda: (PAGE, lambda *call: calls.append(call) or 0))
    monkeypatch.setattr(memory.mmap, "PAGESIZE", 4096)
    monkeypatch.setattr(memory, "FREE_BLOCKS", tmp_path / "buddyinfo")
    return calls


def free_list(huge: int, larger: int) -> None:
    memory.FREE_BLOCKS.write_text(
        "Node 0, zone      DMA      1      0      0      0      2      1      1      0      1      0      0\n"
        f"Node 0, zone   Normal  90000  40000  20000  10000  5000   2000   1000    500    100  {huge}  {larger}\n"
    )


def test_no_more_than_half_of_what_lies_free(asked) -> None:
    free_list(huge=5, larger=3)
    assert memory.free_huge_pages(PAGE) == 5 + 2 * 3
    buffer = memory.empty(64 << 20, dtype=torch.uint8)
    ((start, size, advice),) = asked
    assert (start % PAGE, size, advice) == (0, 5 * PAGE, memory.MADV_HUGEPAGE)
    assert buffer.data_ptr() <= start
    assert start + size <= buffer.data_ptr() + (64 << 20)


def test_never_beyond_the_buffer(asked) -> None:
    free_list(huge=0, larger=4000)
    buffer = memory.empty_like(torch.empty(40 << 20, dtype=torch.uint8))
    ((start, size, _),) = asked
    assert buffer.data_ptr() <= start
    assert start + size <= buffer.data_ptr() + (40 << 20)
    assert size >= 38 << 20


def test_fragmented_memory_and_small_buffers_ask_for_nothing(asked) -> None:
    free_list(huge=1, larger=0)
    memory.empty(64 << 20, dtype=torch.uint8)
    free_list(huge=0, larger=4000)
    memory.empty((32 << 20) - 1, dtype=torch.uint8)
    memory.empty_like(torch.empty(64 << 20, dtype=torch.uint8, device="meta"))
    memory.FREE_BLOCKS.unlink()  # as where the system does not tell
    memory.empty(64 << 20, dtype=torch.uint8)
    assert asked == []


@pytest.mark.parametrize(
    "setting", ["always [madvise] never", "[always] madvise never", "always madvise [never]", None]
)
def test_only_where_it_is_asking_that_decides(monkeypatch, tmp_path, setting) -> None:
    monkeypatch.setattr(memory, "SETTINGS", tmp_path)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    if setting is not None:
        (tmp_path / "enabled").write_text(setting)
        (tmp_path / "hpage_pmd_size").write_text(f"{PAGE}\n")
    page, advise = memory._huge_pages.__wrapped__()
    assert (page, advise is not None) == ((PAGE, True) if setting and "[madvise]" in setting else (0, False))


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
