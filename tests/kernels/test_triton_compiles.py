"""The Triton kernel through Triton's own compiler, for a GPU that is not there: what the interpreter lets pass.

A driver without a device stands in for CUDA's.  Triton then compiles down to machine code (ptxas comes with it) and
hands each launch to a function that records it.  The driver is the process's, so the tests run in one of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import pytest
import torch

from labelsmooth.target import Target

CHILD = os.environ.get("LABELSMOOTH_WITHOUT_DEVICE") == "1"
compiled = pytest.mark.skipif(not CHILD, reason="collected again by test_with_a_driver_without_a_device")
LAUNCHES: list[tuple[object, ...]] = []  # the arguments of each


@pytest.mark.skipif(CHILD, reason="this is the process that it starts")
@pytest.mark.skipif(find_spec("triton") is None, reason="triton has wheels for Linux alone; CI installs it there")
def test_with_a_driver_without_a_device() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", __file__]
    environment = {**os.environ, "LABELSMOOTH_WITHOUT_DEVICE": "1"}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


class Driver:
    """As much of a driver as compilation and launches ask for: of an H100."""

    utils = property(lambda self: self)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 232448}

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, ...]:
        return 1, 1, 0, 0, 1024  # module, function, registers, spills, most threads

    def launcher_cls(self, source: object, metadata: object):
        return lambda *a: LAUNCHES.append(a[9:])  # after grid, stream, function, metadata and hooks


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """The kernels that were compiled, and the constants of each."""
    if not CHILD:
        yield []
        return
    from triton.runtime import driver

    from labelsmooth.kernels import launch_cuda

    driver.set_active(Driver())
    LAUNCHES.clear()
    kernels = []

    def launch(function, grid, kinds, arguments, constants, warps, registers=None) -> None:
        kernel = function[grid](*arguments, *constants, num_warps=warps, maxnreg=registers)
        kernel[(*grid, 1, 1)[:3]](*arguments, *constants)  # as it is launched from the second time on
        kernels.append((function.__name__, constants, kernel))

    monkeypatch.setattr(launch_cuda, "_launch", launch)
    monkeypatch.setattr(launch_cuda, "_may_wait", lambda *_: True)
    yield kernels


def accesses(kernel) -> Counter[tuple[str, int]]:
    """How many loads and stores of global memory there are of each size, as ("ld" or "st", bytes)."""
    instructions = re.findall(r"\b(ld|st)\.(?:volatile\.)?global\S*?(?:\.v(\d))?\.b(\d+)", kernel.asm["ptx"])
    return Counter((kind, int(vector or 1) * int(bits) // 8) for kind, vector, bits in instructions)


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("classes", [1000, 32000, 50257, 128256])
def test_logits_and_gradients_move_in_16_bytes(launched, classes: int, dtype: torch.dtype) -> None:
    from labelsmooth.kernels import launch_cuda

    logits = torch.empty(8, classes, dtype=dtype)
    launch_cuda.few(logits, torch.empty_like(logits), torch.zeros(8).long(), -100, 0.1, True)
    name, _, kernel = launched[-1]
    assert name == "smoothed_rows"
    counts = accesses(kernel)
    assert {("ld", 16), ("st", 16)} <= set(counts)
    if dtype.itemsize == 2 and classes % 8 == 0:  # single numbers: the label's alone
        assert counts["ld", 2] == counts["st", 2] == 1


@compiled
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("classes", [37, 1000, 9001, 32000, 50257, 128256])
def test_registers_are_not_spilled(launched, classes: int, itemsize: int) -> None:
    from labelsmooth.kernels import launch_cuda

    logits = torch.empty(8, classes, dtype={2: torch.bfloat16, 4: torch.float32}[itemsize])
    launch_cuda.few(logits, torch.empty_like(logits), torch.zeros(8).long(), -100, 0.1, True)
    assembly = launched[-1][2].asm["sass"]
    assert re.search(r"\bLDG\b", assembly)
    assert not re.search(r"\b(LDL|STL)\b", assembly)  # loads and stores of local memory


@compiled
@pytest.mark.parametrize(
    ("classes", "dtype"), [(10, torch.float64), (9000, torch.float64), (9001, torch.float16), (40000, torch.float16)]
)
def test_every_kind_of_target_compiles_in_every_form(launched, classes: int, dtype: torch.dtype) -> None:
    from labelsmooth.kernels import launch_cuda

    rows, wide = 4, torch.promote_types(dtype, torch.float32)
    labels, mask = torch.zeros(rows).long(), torch.ones(rows, classes, dtype=torch.bool)
    each = torch.full((rows,), 0.1, dtype=wide)
    targets = [
        (Target(classes, labels, 0.9, each, torch.empty(classes)), mask[0], 1e-3),
        (Target(classes, None, 0.0, torch.tensor(1.0), torch.empty(rows, classes), True), mask, 0.0),
    ]
    if classes == 10:
        targets.append((Target(classes, labels, each, 0.1, torch.empty(classes, classes)), None, 0.0))
    logits = torch.empty(rows, classes, dtype=dtype)
    for q, valid, z_loss in targets:
        losses, nll = torch.empty(2, rows, dtype=wide)
        for gradient in (None, torch.empty_like(logits)):
            launch_cuda.run(
                logits, q, valid, z_loss, gradient=gradient, factor=each, divisor=torch.tensor(3), losses=losses,
                nll=nll if q.index is not None else None,
            )  # fmt: skip
    in_one = {launch_cuda.ALONE}
    in_groups = {launch_cuda.LAST, launch_cuda.WAIT}  # without a gradient, and with one
    expected = in_one if classes == 10 or classes == 9001 else in_groups
    assert {constants[-1] for _, constants, _ in launched} == expected


@compiled
def test_a_kept_kernel_is_launched_with_what_triton_gives_it(launched) -> None:
    from labelsmooth.kernels import launch_cuda

    logits, labels = torch.empty(5, 40), torch.zeros(5).long()
    launch_cuda.few(logits, torch.empty_like(logits), labels, -100, 0.1, True)
    launch_cuda.survey(labels, 40, -100)
    launch_cuda.scale(logits, torch.tensor(2.0))
    assert len(LAUNCHES) == 6
    for first, second in zip(LAUNCHES[::2], LAUNCHES[1::2], strict=True):
        assert all(a is b or a == b for a, b in zip(first, second, strict=True))


@compiled
def test_a_usual_step_is_few_launches(launched) -> None:
    from labelsmooth.kernels import launch_cuda

    for rows, classes, expected in ((128, 37, 1), (4096, 1000, 2), (2048, 128256, 2)):
        launched.clear()
        logits = torch.empty(1, classes).expand(rows, classes)
        launch_cuda.few(logits, None, torch.zeros(rows).long(), -100, 0.1, True)
        assert len(launched) == expected  # and the sum of the losses


@compiled
def test_new_numbers_and_sizes_compile_nothing(launched) -> None:
    from labelsmooth.kernels import launch_cuda

    for rows, classes, epsilon, ignore_index in ((5, 700, 0.1, -100), (6, 900, 0.0, 1), (1, 1024, 1.0, 16)):
        logits = torch.empty(rows, classes)
        launch_cuda.few(logits, torch.empty_like(logits), torch.zeros(rows).long(), ignore_index, epsilon, True)
    kernels = {kernel.hash for name, _, kernel in launched if name == "smoothed_rows"}
    assert len(kernels) == 1
