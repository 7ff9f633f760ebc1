"""Large buffers on memory that is kept, and huge pages asked for only where they lie free."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import labelsmooth as ls
from labelsmooth.kernels import memory

PAGE = 2 << 20
LARGE = (8192, 1200)  # 39 MB of float32
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is kept on Linux only")


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    memory.release()
    yield
    memory.release()


def large(*shape: int) -> torch.Tensor:
    return memory.empty(*(shape or LARGE), dtype=torch.float32, device=torch.device("cpu"))


# --- what is kept ---------------------------------------------------------------------------------------------------


@linux
def test_the_memory_of_a_buffer_is_the_next_ones() -> None:
    buffer = large()
    place = buffer.data_ptr()
    again = large()
    assert again.data_ptr() != place  # while it is in use nobody else has it
    del buffer
    assert large().data_ptr() == place
    assert large(4096, 2100).data_ptr() == place  # smaller ones too
    assert large(*LARGE[:1], 2000).data_ptr() != place


USERS = {
    "view": lambda t: t[5:],
    "detached": lambda t: t.detach(),
    "numpy": lambda t: t.numpy(),
    "memoryview": lambda t: memoryview(t.numpy()),
    "dlpack": torch.from_dlpack,
    "storage": lambda t: t.untyped_storage(),
}


@linux
@pytest.mark.parametrize("use", USERS.values(), ids=USERS)
def test_whoever_uses_the_memory_holds_it(use) -> None:
    buffer = large()
    place = buffer.data_ptr()
    user = use(buffer)
    del buffer
    gc.collect()
    assert large().data_ptr() != place
    memory.release()
    del user
    assert large().data_ptr() == place


@linux
def test_the_system_may_take_what_is_kept() -> None:
    buffer = large().fill_(1.0)
    size, place = buffer.nbytes, buffer.data_ptr()
    del buffer
    assert lazily_free(place) >= 0.9 * size
    assert large().fill_(2.0).data_ptr() == place


def lazily_free(place: int) -> int:
    """The bytes marked as free in the mapping at an address."""
    with open("/proc/self/smaps") as lines:
        inside = False
        for line in lines:
            first = line.split()[0]
            if "-" in first and not first.endswith(":"):
                start, end = (int(part, 16) for part in first.split("-"))
                inside = start <= place < end
            elif inside and first == "LazyFree:":
                return int(line.split()[1]) << 10
    return 0


@linux
def test_a_few_at_most_are_kept_and_release_keeps_none() -> None:
    buffers = [large() for _ in range(memory.MOST_KEPT + 2)]
    last = buffers[-1].data_ptr()
    while buffers:
        buffers.pop(0)
    assert len(memory._kept) == memory.MOST_KEPT
    assert last in {b.data_ptr() for b in [large() for _ in range(memory.MOST_KEPT)]}
    memory.release()
    assert memory._kept == []


@linux
def test_a_smaller_one_is_taken_before_a_larger_one() -> None:
    buffers = {size: large(size, 1000) for size in (30_000, 10_000, 20_000)}
    places = {size: buffer.data_ptr() for size, buffer in buffers.items()}
    buffers.clear()
    assert large(15_000, 1000).data_ptr() == places[20_000]


@linux
def test_what_the_system_would_not_take_back_is_not_kept(monkeypatch) -> None:
    monkeypatch.setattr(memory.mmap, "MADV_FREE", -1)  # refused, as in locked memory
    large()
    assert memory._kept == []


@linux
def test_without_memory_the_error_is_pytorchs(monkeypatch) -> None:
    large()
    assert len(memory._kept) == 1
    with pytest.raises(RuntimeError, match=r"can't allocate memory|not enough memory"):
        large(1 << 30, 1 << 15)
    assert memory._kept == []


@linux
def test_a_forked_process_has_memory_of_its_own() -> None:
    program = (
        "import os, torch\n"
        "from labelsmooth.kernels import memory\n"
        "def large(): return memory.empty(9000, 1000, dtype=torch.float32, device=torch.device('cpu'))\n"
        "place = large().fill_(1.0).data_ptr()\n"
        "ready, done = os.pipe(), os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    mine = large().fill_(3.0)\n"
        "    os.write(ready[1], b'x')\n"
        "    os.read(done[0], 1)\n"  # by now the parent has written to its own
        "    os._exit(0 if mine.data_ptr() == place and bool((mine == 3.0).all()) else 1)\n"
        "os.read(ready[0], 1)\n"
        "mine = large().fill_(2.0)\n"
        "os.write(done[1], b'x')\n"
        "print(os.waitpid(child, 0)[1], mine.data_ptr() == place, bool((mine == 2.0).all()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True True\n"


@linux
def test_threads_never_share_a_buffer() -> None:
    def work(number: int) -> bool:
        fine = True
        for _ in range(20):
            buffer = large(9000, 1000)
            buffer[::1000].fill_(number)
            fine &= bool((buffer[::1000] == number).all())
        return fine

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


@linux
def test_a_process_ends_quietly_whatever_it_holds() -> None:
    program = (
        "import torch, labelsmooth as ls\n"
        "z = torch.zeros(9000, 1000, requires_grad=True)\n"
        "ls.cross_entropy(z, torch.zeros(9000, dtype=torch.long)).backward()\n"
        "held = ls.cross_entropy(z, torch.zeros(9000, dtype=torch.long))\n"
        "class Late:\n"
        "    def __del__(self, z=z, held=held): z.grad = None\n"
        "late = Late(); late.itself = late\n"
        "print(z.grad.untyped_storage().nbytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("36000000\n", "")


# --- what a buffer is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_as_torch_would_make_it(dtype: torch.dtype) -> None:
    whole = torch.empty(64, 512, 1100, dtype=dtype)
    for tensor in (whole, whole.transpose(1, 2), whole.permute(2, 0, 1), whole[:, ::2]):
        with torch.device("meta"):  # a default for other tensors
            mine = memory.empty_like(tensor)
        theirs = torch.empty_like(tensor)
        assert (mine.shape, mine.stride(), mine.dtype) == (theirs.shape, theirs.stride(), theirs.dtype)
        assert mine.device == theirs.device
        assert mine._base is None
        assert not mine.requires_grad
        assert mine.data_ptr() % 64 == 0


def test_steps_do_not_disturb_each_other() -> None:
    labels = torch.randint(1200, (LARGE[0],))

    def gradient(logits: torch.Tensor) -> torch.Tensor:
        leaf = logits.clone().requires_grad_()
        ls.cross_entropy(leaf, labels, label_smoothing=0.1).backward()
        return leaf.grad

    first, second = torch.randn(2, *LARGE)
    expected = gradient(first).clone(), gradient(second).clone()
    held = gradient(first)
    for _ in range(3):
        assert torch.equal(gradient(second), expected[1])
    assert torch.equal(held, expected[0])


# --- huge pages -----------------------------------------------------------------------------------------------------


class Mapping:
    """Stands for a mapping, and notes what is asked for it."""

    def __init__(self, calls: list[tuple[int, ...]]) -> None:
        self.madvise = lambda *call: calls.append(call)


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[tuple[int, ...]]:
    """What the system would be asked for, on a machine with a free list of ours."""
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(memory, "_huge_page", lambda: PAGE)
    monkeypatch.setattr(memory.mmap, "PAGESIZE", 4096)
    monkeypatch.setattr(memory.mmap, "mmap", lambda *_, **__: Mapping(calls))
    monkeypatch.setattr(memory, "FREE_BLOCKS", tmp_path / "buddyinfo")
    return calls


def free_list(huge: int, larger: int) -> None:
    memory.FREE_BLOCKS.write_text(
        "Node 0, zone      DMA      1      0      0      0      2      1      1      0      1      0      0\n"
        f"Node 0, zone   Normal  90000  40000  20000  10000  5000   2000   1000    500    100  {huge}  {larger}\n"
    )


@linux
def test_no_more_than_half_of_what_lies_free(asked) -> None:
    free_list(huge=5, larger=3)
    assert memory.free_huge_pages(PAGE) == 5 + 2 * 3
    memory._fresh(64 << 20)
    assert asked == [(memory.mmap.MADV_HUGEPAGE, 0, 5 * PAGE)]


@linux
def test_never_beyond_the_buffer(asked) -> None:
    free_list(huge=0, larger=4000)
    memory._fresh((64 << 20) + 5)
    assert asked == [(memory.mmap.MADV_HUGEPAGE, 0, 64 << 20)]


@linux
def test_fragmented_memory_asks_for_none(asked) -> None:
    free_list(huge=1, larger=0)
    memory._fresh(64 << 20)
    memory.FREE_BLOCKS.unlink()  # as where the system does not tell
    memory._fresh(64 << 20)
    assert asked == []


@pytest.mark.parametrize(
    "setting", ["always [madvise] never", "[always] madvise never", "always madvise [never]", None]
)
def test_only_where_it_is_asking_that_decides(monkeypatch, tmp_path, setting) -> None:
    monkeypatch.setattr(memory, "SETTINGS", tmp_path)
    if setting is not None:
        (tmp_path / "enabled").write_text(setting)
        (tmp_path / "hpage_pmd_size").write_text(f"{PAGE}\n")
    assert memory._huge_page.__wrapped__() == (PAGE if setting and "[madvise]" in setting else 0)


def test_small_buffers_and_other_devices_are_left_to_torch() -> None:
    assert not memory._is_large((32 << 20) - 1, torch.device("cpu"))
    assert not memory._is_large(64 << 20, torch.device("meta"))
    assert memory.empty_like(torch.empty(64 << 20, device="meta")).is_meta
