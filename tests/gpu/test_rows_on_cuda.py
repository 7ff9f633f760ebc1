"""The Triton kernel on a CUDA device: numbers in every form, waits, streams, sizes beyond 2^31, labels out of range."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls
from labelsmooth.kernels import reference
from labelsmooth.kernels.reference import Terms
from labelsmooth.target import Target

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CLASSES = [1, 2, 31, 33, 37, 1000, 1001, 1023, 1025, 32000, 32768, 32769, 50257, 65537, 128256, 262144, 262145]


def smoothed(logits: torch.Tensor, labels: torch.Tensor, **options) -> torch.Tensor:
    return ls.cross_entropy(logits, labels, label_smoothing=0.1, **options)


def step(function, z: torch.Tensor, labels: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = z.detach().clone().requires_grad_()
    loss = function(leaf, labels, **options)
    loss.sum().backward()
    return loss.detach(), leaf.grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("rows", [1, 7])
def test_error_is_at_most_pytorchs(rows: int, classes: int, dtype: torch.dtype) -> None:
    logits = (3 * torch.randn(rows, classes, device="cuda", dtype=torch.float64)).to(dtype)
    labels = torch.randint(classes, (rows,), device="cuda")
    options = dict(reduction="none", label_smoothing=0.1)
    truth = step(F.cross_entropy, logits.double(), labels, **options)
    ours, theirs = (step(f, logits, labels, **options) for f in (ls.cross_entropy, F.cross_entropy))
    for mine, other, true in zip(ours, theirs, truth, strict=True):
        allowed = (other.double() - true).abs().amax() + torch.finfo(mine.dtype).eps * true.abs().clamp(min=1) + 1e-12
        assert bool(((mine.double() - true).abs() <= allowed).all())


def targets(kind: str, rows: int, classes: int, dtype: torch.dtype) -> Terms:
    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device="cuda", dtype=torch.float64).to(dtype)

    labels = torch.randint(classes, (rows,), device="cuda")
    labels[::3] = -1
    valid = torch.rand(rows, classes, device="cuda") < 0.7
    valid[torch.arange(rows, device="cuda"), labels.clamp(min=0)] = True
    return {
        "one epsilon for each": Terms(Target(classes, labels, 1 - rand(rows) / 2, rand(rows) / 2)),
        "prior": Terms(Target(classes, labels, 0.8, 0.2, rand(classes))),
        "table": Terms(Target(classes, labels, 0.8, 0.2, rand(classes, classes))) if classes < 9000 else Terms(
            Target(classes, labels, 0.8, 0.2, rand(1, classes).expand(rows, classes), rows=True)
        ),
        "rows": Terms(Target(classes, labels, 0.8, rand(rows), rand(rows, classes), True)),
        "probabilities": Terms(Target(classes, None, 0.0, 1.0, rand(rows, classes), True)),
        "z-loss": Terms(Target(classes, labels, 0.9, 0.1), z_loss=1e-2),
        "mask": Terms(Target(classes, labels, 0.9, 0.1), valid=valid),
        "mask and prior": Terms(Target(classes, labels, 0.9, 0.1, rand(classes)), valid, 1e-3),
    }[kind]  # fmt: skip


KINDS = ["one epsilon for each", "prior", "table", "rows", "probabilities", "z-loss", "mask", "mask and prior"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("classes", [37, 8193, 40001])  # several rows in a program, one, and a row in several
@pytest.mark.parametrize("kind", KINDS)
def test_every_target_is_the_references(kind: str, classes: int, dtype: torch.dtype) -> None:
    from labelsmooth.kernels.rows import row_loss

    wide = reference.accumulation_dtype(dtype)
    terms = targets(kind, 6, classes, wide)
    logits = (3 * torch.randn(6, classes, device="cuda")).to(dtype).requires_grad_()
    other = logits.detach().double().requires_grad_()
    losses, nll = row_loss(logits, terms, with_nll=True)
    expected, expected_nll = reference.row_losses(other, *terms)
    close = dict(rtol=1e-9, atol=1e-9) if dtype == torch.float64 else dict(rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(losses.double(), expected, **close)
    if nll is not None:
        torch.testing.assert_close(nll.double(), expected_nll.detach(), **close)
    gradient = torch.autograd.grad(losses.sum(), logits)[0]
    half = dict(rtol=2**-7, atol=1e-4) if dtype.itemsize == 2 else close
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(expected.sum(), other)[0], **half)


@pytest.mark.parametrize("classes", [33, 32768, 50257, 128256])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_stays_in_its_row(classes: int, value: float) -> None:
    logits = torch.randn(5, classes, device="cuda")
    logits[1, 0], logits[2, -1], logits[3] = value, value, value
    labels = torch.tensor([0, classes - 1, 0, 1, 1], device="cuda")
    ours = step(smoothed, logits, labels, reduction="none")
    cpu = step(smoothed, logits.cpu(), labels.cpu(), reduction="none")
    for mine, theirs in zip(ours, cpu, strict=True):
        torch.testing.assert_close(mine.cpu(), theirs, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("classes", [33, 50257, 128256])
def test_views_that_are_not_aligned_and_in_place(classes: int) -> None:
    labels = torch.randint(classes, (5,), device="cuda")
    for dtype in (torch.float32, torch.bfloat16):
        buffer = torch.randn(5, classes + 13, device="cuda").to(dtype)
        for first in (0, 1, 5):
            view = buffer[:, first : first + classes]
            expected = step(smoothed, view.contiguous(), labels)
            for inplace in (False, True):
                leaf = buffer.clone().requires_grad_()
                loss = smoothed((leaf * 1)[:, first : first + classes], labels, inplace=inplace)
                (gradient,) = torch.autograd.grad(loss, leaf)
                torch.testing.assert_close(loss.detach(), expected[0])
                torch.testing.assert_close(gradient[:, first : first + classes], expected[1])
                gradient[:, first : first + classes] = 0
                assert gradient.count_nonzero() == 0


def test_more_logits_than_32_bits_count() -> None:
    rows, classes = 17000, 128256  # 2.2e9
    logits = torch.zeros(rows, classes, device="cuda", dtype=torch.bfloat16).requires_grad_()
    labels = torch.full((rows,), classes - 1, device="cuda")
    loss = ls.cross_entropy(logits * 1, labels, label_smoothing=0.1, inplace=True)
    loss.backward()
    torch.testing.assert_close(loss.item(), float(torch.tensor(float(classes)).log()), rtol=1e-5, atol=0)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[-1, -1].item(), -0.9 / rows, rtol=1e-2, atol=0)


def test_more_rows_than_the_device_has_room_for() -> None:
    logits, labels = torch.randn(200_000, 10, device="cuda"), torch.arange(200_000, device="cuda") % 10
    labels[::7] = -100
    ours, theirs = (step(f, logits, labels, label_smoothing=0.1) for f in (ls.cross_entropy, F.cross_entropy))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_a_label_out_of_range_is_nan_and_check_raises() -> None:
    logits, labels = torch.randn(3, 5, device="cuda"), torch.tensor([0, 9, -3], device="cuda")
    loss = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    assert loss.isnan().tolist() == [False, True, True]
    assert ls.cross_entropy(logits, labels, label_smoothing=0.1).isnan()
    with pytest.raises(IndexError, match="label 9"):
        ls.cross_entropy(logits, labels, check=True)


CALLS = {
    "mean": {},
    "sum": dict(reduction="sum"),
    "each": dict(reduction="none"),
    "z-loss": dict(z_loss=1e-3),
    "nll": dict(return_nll=True),
}


@pytest.mark.parametrize("classes", [100, 50257])
@pytest.mark.parametrize("call", CALLS)
def test_nothing_waits_for_the_device(call: str, classes: int) -> None:
    leaf, labels = torch.randn(8, classes, device="cuda", requires_grad=True), torch.arange(8, device="cuda")

    def run() -> None:
        loss = smoothed(leaf, labels, **CALLS[call])
        (loss[0] if isinstance(loss, tuple) else loss).sum().backward()

    run()  # compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("rows", [128, 4096])
@pytest.mark.parametrize("classes", [37, 1000, 40000])
def test_a_usual_step_is_few_launches_and_no_copy(rows: int, classes: int) -> None:
    leaf, labels = (
        torch.randn(rows, classes, device="cuda", requires_grad=True),
        torch.zeros(rows, device="cuda").long(),
    )

    def launches(call) -> list[str]:
        call()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
            torch.cuda.synchronize()
        return [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]

    def whole() -> None:
        leaf.grad = None
        smoothed(leaf, labels).backward()

    both, forward = launches(whole), launches(lambda: smoothed(leaf.detach(), labels))
    assert len(both) <= 5, both
    assert len(forward) <= 3, forward
    assert not [name for name in both + forward if "memcpy" in name.lower()]


@pytest.mark.parametrize("classes", [100, 50257, 128256])
def test_a_step_is_captured_and_replayed_with_new_logits_and_labels(classes: int) -> None:
    leaf = torch.randn(64, classes, device="cuda", requires_grad=True)
    labels = torch.randint(classes, (64,), device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            smoothed(leaf, labels).backward()
    torch.cuda.current_stream().wait_stream(stream)
    leaf.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = smoothed(leaf, labels)
        loss.backward()
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            leaf.copy_(torch.randn_like(leaf))
            labels.copy_(torch.randint(classes, (64,), device="cuda"))
            labels[: 10 * seed] = -100
        leaf.grad.zero_()
        graph.replay()
        expected = step(F.cross_entropy, leaf, labels, label_smoothing=0.1)
        torch.testing.assert_close(loss, expected[0])
        torch.testing.assert_close(leaf.grad, expected[1])


@pytest.mark.parametrize("classes", [1000, 128256])
def test_two_calls_at_once_and_a_busy_device(classes: int) -> None:
    """Groups of programs finish beside other work, that of another stream's groups included."""
    problems = [
        (torch.randn(512, classes, device="cuda"), torch.randint(classes, (512,), device="cuda")) for _ in range(2)
    ]
    expected = [step(smoothed, *problem) for problem in problems]
    busy = torch.randn(8192, 8192, device="cuda")
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(3)]
    results = []
    for _ in range(5):
        with torch.cuda.stream(streams[2]):
            _ = busy @ busy
        for stream, problem in zip(streams[:2], problems, strict=True):
            with torch.cuda.stream(stream):
                results.append(step(smoothed, *problem))
    torch.cuda.synchronize()
    for i, result in enumerate(results):
        for mine, alone in zip(result, expected[i % 2], strict=True):
            torch.testing.assert_close(mine, alone)


def test_two_launches_where_programs_cannot_wait(monkeypatch) -> None:
    from labelsmooth.kernels import launch_cuda

    logits, labels = torch.randn(6, 70000, device="cuda"), torch.randint(70000, (6,), device="cuda")
    together = step(smoothed, logits, labels)
    monkeypatch.setattr(launch_cuda, "_may_wait", lambda *_: False)
    for mine, other in zip(step(smoothed, logits, labels), together, strict=True):
        torch.testing.assert_close(mine, other)


def test_a_kept_kernel_is_launched_itself() -> None:
    from labelsmooth.kernels import launch_cuda

    logits, labels = torch.randn(6, 70, device="cuda"), torch.randint(70, (6,), device="cuda")
    for _ in range(2):
        step(smoothed, logits, labels)
    assert launch_cuda._keeps_compiled
    assert launch_cuda._compiled
