"""The losses on a GPU: checked first, then timed beside PyTorch eager and compiled, Liger, Apple's CCE and quack.

    python bench/gpu.py [--seconds 230] [--tune]          # needs CUDA and triton; the others where they are installed

Small and usual batches are timed by the wall clock, 200 steps queued at a time: what Python and the launches cost.
Large ones are timed by events, queued while the device overwrites its cache, so that they hold its time alone, and
given as the share of the speed of a copy, which reads and writes each number once as the kernel does.  The linear form
is given as its time over that of the three matrix products alone.  "memory" is the peak beyond the inputs, in units of
the logits.

It stops before --seconds are over and says what it left out; if a check fails it times nothing.  --tune times the forms
of the row kernel instead, and the persistent loop of ``bench/persistent.py``, and prints the best for each number of
classes and dtype: what ``launch_cuda.FORMS`` should say.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from harness import installed, table, write

import labelsmooth as ls

EPSILON = 0.1
SMALL = [(128, 37), (256, 1000), (4096, 1000)]
LARGE = [(8192, 1000), (8192, 32000), (8192, 50257), (4096, 128256)]
LINEAR = [(8192, 2048, 32000), (8192, 4096, 128256)]
# Each compiles for a second or two; tests/gpu has more of them.
CHECKED = [(k, t) for k in (33, 1000, 32000, 50257, 128256, 262145) for t in (torch.float32, torch.bfloat16)]
CHECKED += [(k, t) for k in (33, 40001) for t in (torch.float16, torch.float64)]
Row = dict[str, object]
Step = Callable[[], object]


class Clock:
    """What is left of the time."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.left_out: list[str] = []

    def allows(self, what: str, seconds: float) -> bool:
        if time.monotonic() + seconds < self.end:
            return True
        self.left_out.append(what)
        return False


# --- checks ---------------------------------------------------------------------------------------------------------


def gradient_of(loss: Callable[..., torch.Tensor], z: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    leaf = z.detach().clone().requires_grad_()
    losses = loss(leaf, y, reduction="none", label_smoothing=EPSILON)
    losses.sum().backward()
    assert leaf.grad is not None
    return losses.detach(), leaf.grad


def errors() -> Iterator[str]:
    """Where our error exceeds PyTorch's in the dtype, on labels of every kind and rows of every length."""
    for classes, dtype in CHECKED:
        z = (3 * torch.randn(5, classes, device="cuda", dtype=torch.float64)).to(dtype)
        y = torch.randint(classes, (5,), device="cuda")
        y[3] = -100
        truth = gradient_of(F.cross_entropy, z.double(), y)
        pairs = zip(gradient_of(ls.cross_entropy, z, y), gradient_of(F.cross_entropy, z, y), truth, strict=True)
        for what, (ours, theirs, true) in zip(("loss", "gradient"), pairs, strict=True):
            slack = torch.finfo(ours.dtype).eps * true.abs().clamp(min=1) + 1e-12
            allowed = (theirs.double() - true).abs().amax() + slack
            error = (ours.double() - true).abs()
            if not bool((error <= allowed).all()):
                yield f"{what} of {classes} classes in {dtype}: {float(error.max()):.1e}"


def mean_errors() -> Iterator[str]:
    """The usual call, which has a path of its own: against PyTorch in float64, and replayed from a CUDA graph."""
    for rows, classes in ((7, 1000), (3000, 37), (64, 50257), (64, 128256)):
        leaf = torch.randn(rows, classes, device="cuda", requires_grad=True)
        y = torch.randint(classes, (rows,), device="cuda")

        def step() -> torch.Tensor:
            leaf.grad = None  # noqa: B023
            loss = ls.cross_entropy(leaf, y, label_smoothing=EPSILON)  # noqa: B023
            loss.backward()
            return loss

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()
        with torch.no_grad():
            leaf.copy_(torch.randn_like(leaf))
        graph.replay()
        wide = leaf.detach().double().requires_grad_()
        expected = F.cross_entropy(wide, y, label_smoothing=EPSILON)
        (true,) = torch.autograd.grad(expected, wide)
        assert leaf.grad is not None
        for what, a, b in (("loss", loss.detach(), expected.detach()), ("gradient", leaf.grad, true)):
            if not torch.allclose(a.double(), b, rtol=1e-5, atol=1e-7):
                yield f"{what} of {rows} x {classes} replayed from a graph: {float((a - b).abs().max()):.1e}"


def waits() -> Iterator[str]:
    leaf, y = torch.randn(8, 100, device="cuda", requires_grad=True), torch.arange(8, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for reduction in ("mean", "none"):
            ls.cross_entropy(leaf, y, label_smoothing=EPSILON, reduction=reduction).sum().backward()
    except RuntimeError as error:
        yield f"a step waits for the device: {error}"
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- time -----------------------------------------------------------------------------------------------------------


def wall(call: Step, steps: int = 200) -> float:
    """Seconds of a step, the least of three times ``steps`` queued ones."""
    for _ in range(10):
        call()
    times = []
    for _ in range(3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / steps)
    return min(times)


def on_device(call: Step, repeats: int = 15) -> float:
    """Median seconds by events, queued while the cache is overwritten: a millisecond or more."""
    flush = torch.empty(1 << 31, dtype=torch.int8, device="cuda")
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        for _ in range(2):
            flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def peak(call: Step) -> int:
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def launches(call: Step) -> float:
    """Kernels, copies and fills of a step on the device."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    call()
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(5):
            call()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events()) / 5


# --- what is timed --------------------------------------------------------------------------------------------------


@contextmanager
def tolerant(what: str) -> Iterator[None]:
    """A peer that fails is a line, not the end."""
    try:
        yield
    except Exception as error:
        print(f"{what}: {type(error).__name__}: {str(error)[:120]}", file=sys.stderr, flush=True)


def losses(compiled: bool) -> dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    smoothed = {"label_smoothing": EPSILON}
    calls: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "labelsmooth": lambda z, y: ls.cross_entropy(z, y, label_smoothing=EPSILON),
        "eager": lambda z, y: F.cross_entropy(z, y, **smoothed),
        "eager, not smoothed": F.cross_entropy,
    }
    if compiled:
        torch._dynamo.reset()
        calls["compiled"] = torch.compile(lambda z, y: F.cross_entropy(z, y, **smoothed), dynamic=False)
    if find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerCrossEntropyLoss

        liger = LigerCrossEntropyLoss(label_smoothing=EPSILON)
        calls["Liger"] = lambda z, y: liger(z * 1, y)  # a copy, which it writes the gradient over
    if find_spec("quack") is not None:
        with tolerant("quack"):
            from quack.cross_entropy import cross_entropy as quack

            calls["quack, not smoothed"] = lambda z, y: quack(z, y, reduction="mean")
    return calls


def measure(rows: int, classes: int, dtype: torch.dtype, small: bool, compiled: bool) -> list[Row]:
    leaf = torch.randn(rows, classes, device="cuda").to(dtype).requires_grad_()
    plain, other = leaf.detach(), torch.empty_like(leaf, requires_grad=False)
    y = torch.randint(classes, (rows,), device="cuda")
    shape = {"shape": f"{rows} x {classes}", "dtype": str(dtype).removeprefix("torch.")}
    size, timed = plain.numel() * plain.element_size(), wall if small else on_device
    copy = timed(lambda: other.copy_(plain))
    measured: list[Row] = []
    calls: dict[str, tuple[Step, Step]] = {}
    for who, loss in losses(compiled).items():

        def step(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = loss) -> None:
            leaf.grad = None
            loss(leaf, y).backward()

        def forward(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = loss) -> None:
            with torch.no_grad():
                loss(plain, y)

        calls[who] = (step, forward)

    def in_place() -> None:
        leaf.grad = None
        ls.cross_entropy(leaf.view_as(leaf), y, label_smoothing=EPSILON, inplace=True).backward()

    if not small:  # last, since it leaves the gradient where the logits were
        calls["labelsmooth, in place"] = (in_place, in_place)
    for who, (step_of, forward_of) in calls.items():
        with tolerant(f"{who} at {shape['shape']}"):
            seconds = timed(step_of)
            row: Row = {**shape, "who": who, "step us": 1e6 * seconds, "share of copy": copy / seconds}
            if who != "labelsmooth, in place":
                row["forward us"] = 1e6 * timed(forward_of)
            row["memory"] = peak(step_of) / size
            if small:
                row["launches"] = launches(step_of)
                row["of forward"] = launches(forward_of)
            measured.append(row)
    return measured


def measure_linear(rows: int, features: int, classes: int, dtype: torch.dtype) -> list[Row]:
    h = torch.randn(rows, features, device="cuda").to(dtype).requires_grad_()
    w = (torch.randn(classes, features, device="cuda") / features**0.5).to(dtype).requires_grad_()
    y = torch.randint(classes, (rows,), device="cuda")
    plain_h, plain_w = h.detach(), w.detach()

    def products() -> None:
        logits = plain_h @ plain_w.t()
        _ = logits @ plain_w, logits.t() @ plain_h

    def step(loss: Callable[[], torch.Tensor]) -> Step:
        def run() -> None:
            h.grad = w.grad = None
            loss().backward()

        return run

    def ours(**options: bool) -> Step:
        return step(lambda: ls.linear_cross_entropy(h, w, y, label_smoothing=EPSILON, **options))

    calls: dict[str, Step] = {
        "three products": products,
        "labelsmooth": ours(),
        "labelsmooth, sums in bfloat16": ours(accumulate_in_float32=False),
        "eager": step(lambda: F.cross_entropy(F.linear(h, w), y, label_smoothing=EPSILON)),
    }
    if find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss(label_smoothing=EPSILON)
        calls["Liger"] = step(lambda: fused(w, h, y))
    if find_spec("cut_cross_entropy") is not None:
        from cut_cross_entropy import linear_cross_entropy as cce

        calls["CCE, not smoothed"] = step(lambda: cce(h, w, y))
    measured: list[Row] = []
    of_products = on_device(products, 5)
    for who, call in calls.items():
        with tolerant(f"{who} at {rows} x {features} x {classes}"):
            seconds = on_device(call, 5)
            measured.append(
                {
                    "shape": f"{rows} x {features} x {classes}",
                    "dtype": str(dtype).removeprefix("torch."),
                    "who": who,
                    "step us": 1e6 * seconds,
                    "times products": seconds / of_products,
                    "memory": peak(call) / (rows * classes * h.element_size()),
                }
            )
        h.grad = w.grad = None
        torch.cuda.empty_cache()
    return measured


# --- forms of the row kernel ----------------------------------------------------------------------------------------


def tune(clock: Clock) -> list[Row]:
    """The share of a copy of every form that fits, best first: three for each number of classes and dtype."""
    import persistent

    from labelsmooth.kernels import launch_cuda
    from labelsmooth.kernels.launch_cuda import Form

    chosen: list[Row] = []
    form_of = launch_cuda.form_of
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    for rows, classes in [*LARGE, (2048, 262144)]:
        for dtype in (torch.bfloat16, torch.float32):
            z = torch.randn(rows, classes, device="cuda").to(dtype)
            g, y, each = torch.empty_like(z), torch.randint(classes, (rows,), device="cuda"), torch.empty(rows).cuda()
            copy = on_device(lambda: g.copy_(z), 5)  # noqa: B023
            measured: list[Row] = []

            def timed(name: str, call: Step, **columns: object) -> None:
                shape = {"shape": f"{rows} x {classes}", "dtype": str(dtype)[6:]}  # noqa: B023
                if clock.allows(f"{name} at {shape}", 3):
                    with tolerant(f"{name} at {shape}"):
                        share = copy / on_device(call, 5)  # noqa: B023
                        measured.append({**shape, "kernel": name, "share of copy": share, **columns})  # noqa: B023

            now, whole = form_of(classes, dtype.itemsize), 1 << (classes - 1).bit_length()
            elements = {16: 64, 32: 64, 64: None} if dtype.itemsize == 2 else {8: None, 16: None, 32: None, 64: None}
            forms = [  # by the numbers of a thread and its registers
                Form(block, -(-classes // block), 1, block // 32 // n, registers)
                for block in dict.fromkeys((whole, 4096, 8192, 16384))
                if classes > block or block == whole
                for n, registers in elements.items()
            ]
            for form in [now, *(f for f in forms if f != now and 1 <= f.warps <= 32)]:
                launch_cuda.form_of = lambda *_, form=form: form  # type: ignore[assignment]
                name = "now" if form == now else "form"
                timed(name, lambda: launch_cuda.few(z, g, y, -100, EPSILON, True), **form._asdict())  # noqa: B023
            launch_cuda.form_of = form_of  # type: ignore[assignment]
            if classes <= 32768 and classes % 8 == 0:
                for warps in (whole // 1024, whole // 2048):
                    for stages, programs in ((1, 2), (2, 1), (2, 2), (3, 1)):  # programs of a processor

                        def loop(
                            warps: int = max(1, warps), stages: int = stages, programs: int = programs * processors
                        ) -> None:
                            persistent.launch(
                                z, g, y, each, EPSILON, programs=programs, warps=warps, stages=stages  # noqa: B023
                            )  # fmt: skip

                        timed(f"loop, {stages} stages", loop, block=whole, warps=max(1, warps), group=programs)
            best = sorted(measured, key=lambda row: -float(str(row["share of copy"])))[:4]
            chosen += [*best, *(row for row in measured[:1] if row not in best)]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description="The losses on a GPU: checked, then timed beside their peers.")
    parser.add_argument("--seconds", type=float, default=230.0, help="stop before this many are over")
    parser.add_argument("--tune", action="store_true", help="time the forms of the row kernel instead")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("bench/gpu.py needs a CUDA device, and torch.cuda.is_available() is False. Nothing was timed.")
    torch.manual_seed(0)
    clock = Clock(options.seconds)
    wrong = [fault for check in (errors, mean_errors, waits) for fault in check()]
    if wrong:
        raise SystemExit("Nothing was timed, since these checks fail:\n  " + "\n  ".join(wrong))
    print(f"checks hold on {torch.cuda.get_device_name()}\n", flush=True)
    measured: list[Row] = []

    def report(rows: list[Row]) -> None:
        if rows:
            columns = list(dict.fromkeys(column for row in rows for column in row))
            print(table(rows, columns), end="\n\n", flush=True)
            measured.extend(rows)

    if options.tune:
        import persistent

        print(f"error of the persistent loop: {persistent.error(1000, 500, torch.bfloat16, 'cuda'):.1e}")
        report(tune(clock))
        print(f"left out for lack of time: {len(clock.left_out)} forms")
        return
    for shape in SMALL:
        if clock.allows(f"{shape} float32", 12):
            report(measure(*shape, torch.float32, small=True, compiled=True))
    for linear_shape in LINEAR:
        if clock.allows(f"{linear_shape}", 15):
            report(measure_linear(*linear_shape, torch.bfloat16))
    for dtype in (torch.bfloat16, torch.float32):
        for shape in LARGE:
            if clock.allows(f"{shape} {dtype}", 15):
                compiled = shape[1] in (32000, 128256)
                report(measure(*shape, dtype, small=False, compiled=compiled))
                torch.cuda.empty_cache()
    print("left out for lack of time: " + (", ".join(clock.left_out) or "nothing"))
    versions = installed(["torch", "triton", "liger_kernel", "cut_cross_entropy", "cut-cross-entropy", "quack-kernels"])
    write("gpu", versions=versions, rows=measured)


if __name__ == "__main__":
    main()
