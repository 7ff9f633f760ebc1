"""Forward and backward of the smoothed cross-entropy beside its peers: time, and peak memory beyond the logits.

    python bench/cross_entropy.py [--quick] [--threads 1]

"times exp" is the time over that of a bare torch.exp of the logits, a lower bound for anything that makes a softmax;
"times ours" above 1 means that the peer is slower, as the median over rounds in which all run; "memory" is the peak in
units of the logits; "note" states the aim, and why a peer is faster where one is.

labelsmooth sets glibc's malloc to keep freed memory (docs/kernels.md), which speeds up every row of a process.  So
"torch eager, alone" is measured in a process of its own with the default malloc: what a user has without labelsmooth.
"""

from __future__ import annotations

import importlib
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import interleaved, options, peak_bytes, ratio, table, write

import labelsmooth as ls

EPSILON = 0.1
SHAPES = [(128, 37), (256, 1000), (4096, 1000), (2048, 32000), (512, 128256)]


def formula_of_trainers(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Hugging Face's LabelSmoother, written out: the label's share and the mean over the classes."""
    log_p = F.log_softmax(logits, dim=-1)
    nll = -log_p.gather(-1, labels[:, None]).squeeze(-1)
    return ((1 - EPSILON) * nll - EPSILON * log_p.mean(-1)).mean()


def eager_alone(rows: int, classes: int, dtype: torch.dtype, threads: int, repeats: int) -> list[float]:
    """Seconds of forward and backward of F.cross_entropy, for a new process in which nothing of ours has run."""
    torch.set_num_threads(threads)
    leaf, labels = torch.randn(rows, classes).to(dtype).requires_grad_(), torch.randint(classes, (rows,))
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        F.cross_entropy(leaf, labels, label_smoothing=EPSILON).backward()
        leaf.grad = None
        times.append(time.perf_counter() - start)
    return times[1:]


def measure(rows: int, classes: int, dtype: torch.dtype, quick: bool) -> list[dict[str, object]]:
    importlib.import_module("labelsmooth.cpu_torchvision")  # lets timm import torchvision beside a CPU torch
    from timm.loss import LabelSmoothingCrossEntropy as Timm

    torch.manual_seed(0)
    plain = torch.randn(rows, classes).to(dtype)
    leaf, scratch = plain.clone().requires_grad_(), plain.clone().requires_grad_()
    labels = torch.randint(classes, (rows,))
    torch._dynamo.reset()
    compiled = torch.compile(lambda z, y: F.cross_entropy(z, y, label_smoothing=EPSILON))
    compiled_timm, compiled_formula = torch.compile(Timm(EPSILON)), torch.compile(formula_of_trainers)

    def step(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            loss(leaf, labels).backward()
            leaf.grad = None  # here, so that each pays for giving back its own

        return run

    def in_place() -> None:
        ls.cross_entropy(scratch.view_as(scratch), labels, label_smoothing=EPSILON, inplace=True).backward()
        scratch.grad = None

    calls: dict[str, Callable[[], object]] = {
        "labelsmooth": step(lambda z, y: ls.cross_entropy(z, y, label_smoothing=EPSILON)),
        "labelsmooth, in place": in_place,
        "torch eager": step(lambda z, y: F.cross_entropy(z, y, label_smoothing=EPSILON)),
        "torch compiled": step(compiled),
        "timm": step(Timm(EPSILON)),
        "timm compiled": step(compiled_timm),
        "Hugging Face formula": step(formula_of_trainers),
        "Hugging Face compiled": step(compiled_formula),
        "bare exp": lambda: plain.exp(),
        "copy": lambda: plain.clone(),
    }
    size = rows * classes
    repeats, inner = (
        (31, 50) if size < 1 << 14 else (31, 10) if size < 1 << 20 else (15, 2) if size < 1 << 23 else (5, 1)
    )
    times = interleaved(calls, max(3, repeats // 3) if quick else repeats, inner)
    nbytes = plain.numel() * plain.element_size()
    lines: list[dict[str, object]] = [
        {
            "shape": f"{rows} x {classes}",
            "dtype": str(dtype).removeprefix("torch."),
            "who": who,
            "median ms": 1e3 * times[who]["median"],
            "least ms": 1e3 * times[who]["least"],
            "times ours": ratio(times, who, "labelsmooth"),
            "times ours (least)": times[who]["least"] / times["labelsmooth"]["least"],
            "times exp": ratio(times, who, "bare exp"),
            "memory": peak_bytes(call) / nbytes,
        }
        for who, call in calls.items()
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        alone = pool.apply(eager_alone, (rows, classes, dtype, torch.get_num_threads(), repeats))
    lines.append(
        {
            "shape": f"{rows} x {classes}",
            "dtype": str(dtype).removeprefix("torch."),
            "who": "torch eager, alone",
            "median ms": 1e3 * statistics.median(alone),
            "least ms": 1e3 * min(alone),
            "times ours": statistics.median(alone) / times["labelsmooth"]["median"],
            "times ours (least)": min(alone) / times["labelsmooth"]["least"],
        }
    )
    eager, exp = float(str(lines[-1]["times ours"])), ratio(times, "labelsmooth", "bare exp")
    for row in lines:
        row["note"] = note(str(row["who"]), rows, classes, dtype, float(str(row["times ours"])), eager, exp)
    return lines


def note(who: str, rows: int, classes: int, dtype: torch.dtype, times_ours: float, eager: float, exp: float) -> str:
    """What the row stands for: an aim and whether it is met, a bound, or why a peer is faster."""
    if who in ("bare exp", "copy"):
        return "a bound: no loss, no gradient"
    if who == "labelsmooth":
        if dtype != torch.float32:
            return ""
        aim = 10.0 if classes >= 32000 else 2.0
        said = f"{eager:.1f} times faster than torch eager alone (aim {aim:g}{', not met' if eager < aim else ''})"
        if classes >= 32000:
            said += f"; {exp:.1f} times exp (aim 1.5{', not met' if exp > 1.5 else ''})"
        return said
    if who == "labelsmooth, in place" or times_ours >= 1.0:
        return ""
    if rows * classes < 1 << 14:
        return "faster: at this size a call costs what its Python and autograd cost, not its arithmetic"
    return "faster: the gradient's fresh memory is most of both, and the compiler may reuse its own"


if __name__ == "__main__":
    chosen = options("Time and peak memory of the smoothed cross-entropy beside its peers.")
    measured = []
    for shape in SHAPES[: chosen.first]:
        for dtype in (torch.float32, torch.bfloat16):
            rows = measure(*shape, dtype, chosen.quick)
            print(table(rows, list(rows[0])), end="\n\n", flush=True)
            measured += rows
    write("cross_entropy", rows=measured)
