"""The row kernel and the linear form on a GPU, beside PyTorch eager and compiled, and Liger.

    python bench/gpu.py          # needs CUDA and triton; Liger where it is installed

The kernel reads the logits twice (the second time from the cache where a row fits) and writes the gradient once;
"share" counts one read and one write, which is what a copy does: it is the share of the measured copy bandwidth.  For
the linear form it is the share of the speed of the three matrix products alone, and "memory" is in units of the logits.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from harness import table, write

import labelsmooth as ls

EPSILON = 0.1
SHAPES = [(8192, 1000), (8192, 32000), (4096, 128256)]
LINEAR_SHAPES = [(8192, 2048, 32000), (8192, 4096, 128256)]


def seconds(call: Callable[[], object], repeats: int = 20) -> float:
    """Median time on the device; the cache is overwritten before each call."""
    flush = torch.empty(1 << 28, dtype=torch.int8, device="cuda")
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def peak(call: Callable[[], object]) -> int:
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(rows: int, classes: int, dtype: torch.dtype) -> list[dict[str, object]]:
    plain = torch.randn(rows, classes, device="cuda").to(dtype)
    leaf = plain.clone().requires_grad_()
    labels = torch.randint(classes, (rows,), device="cuda")
    torch._dynamo.reset()
    compiled = torch.compile(lambda z, y: F.cross_entropy(z, y, label_smoothing=EPSILON))

    def step(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            leaf.grad = None
            loss(leaf, labels).backward()

        return run

    def in_place() -> None:
        leaf.grad = None
        ls.cross_entropy(leaf.view_as(leaf), labels, label_smoothing=EPSILON, inplace=True).backward()

    other = torch.empty_like(plain)
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: other.copy_(plain),
        "labelsmooth": step(lambda z, y: ls.cross_entropy(z, y, label_smoothing=EPSILON)),
        "torch eager": step(lambda z, y: F.cross_entropy(z, y, label_smoothing=EPSILON)),
        "torch compiled": step(compiled),
    }
    if find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerCrossEntropyLoss

        # It writes the gradient over the logits, so it gets a copy's worth of them, as a model would make.
        calls["Liger"] = step(lambda z, y: LigerCrossEntropyLoss(label_smoothing=EPSILON)(z.view_as(z), y))
    # Last, since it leaves the gradient where the logits were.
    calls["labelsmooth, in place"] = in_place
    times = {who: seconds(call) for who, call in calls.items()}
    nbytes = plain.numel() * plain.element_size()
    return [
        {
            "shape": f"{rows} x {classes}",
            "dtype": str(dtype).removeprefix("torch."),
            "who": who,
            "ms": 1e3 * times[who],
            "times ours": times[who] / times["labelsmooth"],
            "share": times["copy"] / times[who],
            "memory": peak(call) / nbytes,
        }
        for who, call in calls.items()
    ]


def measure_linear(rows: int, features: int, classes: int, dtype: torch.dtype) -> list[dict[str, object]]:
    h = torch.randn(rows, features, device="cuda").to(dtype).requires_grad_()
    w = (torch.randn(classes, features, device="cuda") / features**0.5).to(dtype).requires_grad_()
    labels = torch.randint(classes, (rows,), device="cuda")
    plain_h, plain_w = h.detach(), w.detach()

    def products() -> None:
        logits = plain_h @ plain_w.t()
        _ = logits @ plain_w, logits.t() @ plain_h

    def step(loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            h.grad = w.grad = None
            loss().backward()

        return run

    calls: dict[str, Callable[[], object]] = {
        "three products": products,
        "labelsmooth": step(lambda: ls.linear_cross_entropy(h, w, labels, label_smoothing=EPSILON)),
        "torch eager": step(lambda: F.cross_entropy(F.linear(h, w), labels, label_smoothing=EPSILON)),
    }
    if find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss(label_smoothing=EPSILON)
        calls["Liger"] = step(lambda: fused(w, h, labels))
    times = {who: seconds(call) for who, call in calls.items()}
    nbytes = rows * classes * h.element_size()
    return [
        {
            "shape": f"{rows} x {features} x {classes}",
            "dtype": str(dtype).removeprefix("torch."),
            "who": who,
            "ms": 1e3 * times[who],
            "times ours": times[who] / times["labelsmooth"],
            "share": times["three products"] / times[who],
            "memory": peak(call) / nbytes,
        }
        for who, call in calls.items()
    ]


if __name__ == "__main__":
    if not torch.cuda.is_available():
        raise SystemExit("bench/gpu.py needs a CUDA device, and torch.cuda.is_available() is False.")
    found = []
    for shape in SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            rows = measure(*shape, dtype)
            print(table(rows, list(rows[0])), end="\n\n", flush=True)
            found += rows
    for linear_shape in LINEAR_SHAPES:
        rows = measure_linear(*linear_shape, torch.bfloat16)
        print(table(rows, list(rows[0])), end="\n\n", flush=True)
        found += rows
    for row in found:
        row["device"] = torch.cuda.get_device_name()
    write("gpu", found)
