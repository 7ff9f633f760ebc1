"""The Triton kernel, run by Triton's interpreter on the CPU: its numbers are the reference's.

The interpreter is switched on by an environment variable that Triton reads when it is imported, so the tests run in a
process of their own, which collects this file again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import labelsmooth as ls
from labelsmooth.kernels import linear, reference, rows, usual
from labelsmooth.kernels.choose import Kernel
from labelsmooth.kernels.rows import row_loss

sys.path.insert(0, str(Path(__file__).parent))
from test_numerics import DTYPES, KINDS, LAYOUTS, targets, terms

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="collected again by test_under_the_interpreter")


@pytest.mark.skipif(INTERPRETED, reason="this is the process that it starts")
@pytest.mark.skipif(find_spec("triton") is None, reason="triton has wheels for Linux alone; CI installs it there")
def test_under_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-W", "ignore::RuntimeWarning"]
    done = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.fixture(autouse=True)
def triton_everywhere(monkeypatch):
    if INTERPRETED:
        from labelsmooth.kernels import launch_cuda

        for module in (rows, linear, usual):
            monkeypatch.setattr(module, "row_kernel", lambda *_: Kernel(launch_cuda.run, launch_cuda.scale))
        monkeypatch.setattr(usual, "_launcher", lambda _: launch_cuda)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, where a kernel meets an infinity
        yield


@pytest.fixture(params=["resident", "groups"])
def form(request, monkeypatch) -> str:
    """A row in one program, or in groups of programs of 32 classes: on a GPU they begin at thousands of classes."""
    if request.param == "groups":
        from labelsmooth.kernels import launch_cuda

        monkeypatch.setattr(launch_cuda, "form_of", lambda classes, _: launch_cuda.Form(32, -(-classes // 32), 1, 4))
    return request.param


CLOSE = {torch.float64: (1e-12, 1e-12), torch.float32: (1e-5, 1e-5)}
# Twice rounded, and the interpreter cuts bfloat16 off where a GPU rounds it.
CLOSE_HALF = {torch.bfloat16: (2**-6, 1e-4), torch.float16: (2**-10, 1e-5)}


def assert_close(mine: torch.Tensor, true: torch.Tensor, dtype: torch.dtype) -> None:
    rtol, atol = {**CLOSE, **CLOSE_HALF}[dtype]
    torch.testing.assert_close(mine.to(true.dtype), true, rtol=rtol, atol=atol, equal_nan=True)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_target_is_the_references(form: str, kind: str, dtype: torch.dtype) -> None:
    wide = reference.accumulation_dtype(dtype)
    logits = (3 * torch.randn(6, 37, generator=torch.Generator().manual_seed(0))).to(dtype).requires_grad_()
    other = logits.detach().to(wide).requires_grad_()
    q = targets(kind, 6, 37, wide)
    upstream = torch.rand(6).to(wide)
    losses, nll = row_loss(logits, q, with_nll=True)
    expected, expected_nll = reference.row_losses(other, *q)
    assert_close(losses, expected, wide)
    if nll is not None:
        assert_close(nll, expected_nll.detach(), wide)
    with torch.no_grad():  # without a gradient the last program of a group writes the loss
        assert_close(row_loss(logits, q)[0], expected, wide)
    gradient = torch.autograd.grad(losses, logits, upstream)[0]
    assert_close(gradient, torch.autograd.grad(expected, other, upstream)[0], dtype)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [1, 31, 33, 70])
def test_rows_of_every_length_and_alignment_stay_within_their_bounds(
    form: str, classes: int, dtype: torch.dtype
) -> None:
    """What lies around the rows is NaN, so one number read from there would be seen, and has to be NaN afterwards."""
    from labelsmooth.kernels import launch_cuda

    wide = reference.accumulation_dtype(dtype)
    labels = torch.tensor([classes - 1, -1, classes // 2])
    for before, gap in ((0, 0), (0, 3), (5, 8)):
        buffer = torch.full((4, before + classes + gap), torch.nan, dtype=dtype)
        buffer[:3, before : before + classes] = (3 * torch.randn(3, classes)).to(dtype)
        logits = buffer[:3, before : before + classes]
        other = logits.to(wide).requires_grad_()
        expected, _ = reference.row_losses(other, *terms(labels, 0.9, 0.1, classes=classes))
        (truth,) = torch.autograd.grad(expected.sum(), other)
        for inplace in (False, True):
            into = buffer if inplace else torch.full_like(buffer, torch.nan)
            gradient = into[:3, before : before + classes]
            losses = torch.full((5,), torch.nan, dtype=wide)
            q = terms(labels, 0.9, 0.1, classes=classes)
            launch_cuda.run(logits, *q, gradient=gradient, losses=losses[1:4])
            assert_close(losses[1:4], expected.detach(), wide)
            assert_close(gradient, truth, dtype)
            assert losses[[0, 4]].isnan().all()
            gradient.fill_(torch.nan)
            assert into.isnan().all()


@interpreted
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_usual_call(form: str, monkeypatch, dtype: torch.dtype, reduction: str) -> None:
    from labelsmooth.kernels import launch_cuda

    for ignore_index, lanes in ((-100, 1024), (3, 4)):  # the labels are counted by each program, or before
        monkeypatch.setattr(launch_cuda, "COUNT_LANES", lanes)
        count = 6
        logits = (3 * torch.randn(count, 40, generator=torch.Generator().manual_seed(0))).to(dtype)
        labels = torch.arange(count) % 40
        labels[::4] = ignore_index
        leaf, wide = logits.clone().requires_grad_(), logits.double().requires_grad_()
        options = dict(label_smoothing=0.1, ignore_index=ignore_index, reduction=reduction)
        loss = ls.cross_entropy(leaf, labels, **options)
        assert loss.grad_fn.name() == "UsualBackward"
        expected = torch.nn.functional.cross_entropy(wide, labels, **options)
        assert_close(loss.double(), expected, reference.accumulation_dtype(dtype))
        (gradient,) = torch.autograd.grad(3 * loss, leaf)
        assert_close(gradient, torch.autograd.grad(3 * expected, wide)[0].to(gradient.dtype), dtype)
        with torch.no_grad():
            torch.testing.assert_close(ls.cross_entropy(leaf, labels, **options), loss)


@interpreted
def test_the_usual_call_without_a_label_that_counts_and_with_one_out_of_range(form: str) -> None:
    leaf = torch.randn(5, 40, requires_grad=True)
    loss = ls.cross_entropy(leaf, torch.full((5,), -100), label_smoothing=0.1)
    assert loss.isnan()
    assert torch.autograd.grad(loss, leaf)[0].count_nonzero() == 0
    loss = ls.cross_entropy(leaf, torch.tensor([0, 40, 3, -1, -100]), label_smoothing=0.1)
    assert loss.isnan()
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient.isnan().all(-1).tolist() == [False, True, False, True, False]


@interpreted
def test_labels_become_an_index_and_a_count() -> None:
    from labelsmooth.kernels import launch_cuda

    labels = torch.tensor([0, 4, 5, -1, -100, 2])
    index, count = launch_cuda.survey(labels, 5, -100)
    assert index.tolist() == [0, 4, -2, -2, -1, 2]
    assert count == 5
    many = torch.arange(10_000) % 7
    index, count = launch_cuda.survey(many, 7, 6)
    assert torch.equal(index, many.masked_fill(many == 6, -1))
    assert count == (many != 6).sum()
    assert launch_cuda.survey(labels[:0], 5, -100)[1] == 0


@interpreted
@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (2500, 7)])
def test_gradients_are_scaled_by_a_number_or_by_one_for_each_row(shape: tuple[int, int]) -> None:
    from labelsmooth.kernels import launch_cuda

    gradient = torch.randn(*shape)
    for upstream in (torch.tensor(1.0), torch.tensor(-2.5), torch.rand(shape[0])):
        expected = gradient * (upstream[:, None] if upstream.dim() else upstream)
        torch.testing.assert_close(launch_cuda.scale(gradient.clone(), upstream), expected)


@interpreted
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_every_layout(form: str, layout: str, reduction: str) -> None:
    logits = LAYOUTS[layout](torch.randn(12, 37)).clone(memory_format=torch.preserve_format).requires_grad_()
    labels = torch.arange(12) - 1
    divisor = 11.0 if reduction == "mean" else None
    loss, _ = row_loss(logits, terms(labels, 0.9, 0.1), divisor)
    other = logits.detach().clone().requires_grad_()
    losses, _ = reference.row_losses(other, *terms(labels, 0.9, 0.1))
    expected = losses if divisor is None else losses.sum() / divisor
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(3 * loss.sum(), logits)[0], torch.autograd.grad(3 * expected.sum(), other)[0]
    )


@interpreted
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("at", [0, 60, 129])
def test_what_is_not_finite(form: str, value: float, at: int) -> None:
    logits = torch.randn(3, 130)
    logits[1, at] = value
    logits.requires_grad_()
    other = logits.detach().clone().requires_grad_()
    q = terms(torch.tensor([0, 60, 129]), 0.9, 0.1)
    loss, expected = row_loss(logits, q)[0], reference.row_losses(other, *q)[0]
    torch.testing.assert_close(loss, expected, equal_nan=True)
    gradients = torch.autograd.grad(loss.sum(), logits)[0], torch.autograd.grad(expected.sum(), other)[0]
    torch.testing.assert_close(*gradients, equal_nan=True)


@interpreted
@pytest.mark.parametrize("inplace", [False, True])
def test_a_row_that_does_not_count_has_no_gradient_whatever_its_logits_are(form: str, inplace: bool) -> None:
    leaf = torch.randn(4, 70)
    leaf[1], leaf[2, 60] = torch.nan, torch.inf
    leaf.requires_grad_()
    labels = torch.tensor([0, -100, -100, 69])
    loss = ls.cross_entropy(leaf * 1, labels, label_smoothing=0.1, inplace=inplace)
    expected = ls.cross_entropy(leaf[[0, 3]], labels[[0, 3]], label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)
    gradient, other = (torch.autograd.grad(value, leaf)[0] for value in (loss, expected))
    torch.testing.assert_close(gradient, other)
    assert gradient[1:3].count_nonzero() == 0


@interpreted
def test_a_label_out_of_range_is_nan_in_its_row_and_reads_nothing(form: str) -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    loss, nll = row_loss(logits, terms(torch.tensor([1, 7, -5, -1]), 0.9, 0.1), with_nll=True)
    assert loss.isnan().tolist() == nll.isnan().tolist() == [False, True, True, False]
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isnan().all(-1).tolist() == [False, True, True, False]


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_in_place_and_kept_graphs(form: str, dtype: torch.dtype) -> None:
    leaf, labels = torch.randn(6, 50).to(dtype).requires_grad_(), torch.arange(6)
    loss = 2 * ls.cross_entropy(leaf, labels, label_smoothing=0.1)
    first = torch.autograd.grad(loss, leaf, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(loss, leaf)[0], first)
    logits = leaf * 1
    (2 * ls.cross_entropy(logits, labels, label_smoothing=0.1, inplace=True)).backward()
    torch.testing.assert_close(leaf.grad, first)
    torch.testing.assert_close(logits.detach(), first)


@interpreted
@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 3)], ids=str)
def test_an_empty_batch(shape: tuple[int, ...]) -> None:
    leaf = torch.zeros(shape, requires_grad=True)
    target = torch.zeros(shape[:1] + shape[2:]).long()
    ls.cross_entropy(leaf, target, label_smoothing=0.1, reduction="none").sum().backward()
    assert leaf.grad.shape == shape


@interpreted
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_in_a_compiled_graph(monkeypatch, reduction: str) -> None:
    from labelsmooth.kernels import launch_cuda, operators

    monkeypatch.setattr(operators, "row_kernel", lambda *_: Kernel(launch_cuda.run, launch_cuda.scale))
    labels = torch.tensor([0, -100, 2, 9])
    compiled = torch.compile(ls.cross_entropy, fullgraph=True, backend="aot_eager")
    head = torch.randn(7, 5, requires_grad=True)
    compiled_linear = torch.compile(ls.linear_cross_entropy, fullgraph=True, backend="aot_eager")
    for epsilon in (0.1, 0.2):
        options = dict(label_smoothing=epsilon, reduction=reduction)
        leaf = torch.randn(4, 5, requires_grad=True)
        results = []
        for function, head_function in ((compiled, compiled_linear), (ls.cross_entropy, ls.linear_cross_entropy)):
            loss = function(leaf, labels % 5, **options) + head_function(leaf, head, labels % 7, **options)
            results.append((loss.detach(), *torch.autograd.grad(loss.sum(), (leaf, head))))
        for mine, plain in zip(*results, strict=True):
            torch.testing.assert_close(mine, plain)


@interpreted
def test_second_derivatives() -> None:
    leaf = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda z: ls.cross_entropy(z, torch.tensor([0, -100, 2]), label_smoothing=0.1), leaf
    )


@interpreted
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("heads", [(), (2,)])
def test_a_linear_head_in_chunks(monkeypatch, heads, dtype: torch.dtype, reduction: str) -> None:
    from labelsmooth.kernels import launch_cuda

    generator = torch.Generator().manual_seed(0)
    features, weight = (
        torch.randn(*shape, generator=generator).to(dtype).requires_grad_() for shape in ((9, 5), (11, *heads, 5))
    )
    bias = torch.randn(11, *heads, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(11, (9, *heads), generator=generator)
    sizes, run = [], launch_cuda.run
    monkeypatch.setattr(launch_cuda, "run", lambda z, *a, **k: sizes.append(len(z)) or run(z, *a, **k))
    loss = ls.linear_cross_entropy(
        features, weight, labels, linear_bias=bias, label_smoothing=0.1, reduction=reduction, chunk_size=4
    )
    gradients = torch.autograd.grad(3 * loss.sum(), (features, weight, bias))
    assert max(sizes) == 4 * (2 if heads else 1)  # rows of one chunk
    wide = [t.detach().double().requires_grad_() for t in (features, weight, bias)]
    logits = torch.nn.functional.linear(wide[0], wide[1].flatten(0, -2), wide[2].flatten()).reshape(9, 11, *heads)
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction=reduction)
    close = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-5, 1e-5), torch.float16: (1e-2, 1e-2)}[dtype]
    torch.testing.assert_close(loss.double(), expected, rtol=close[0], atol=close[1])
    for mine, true in zip(gradients, torch.autograd.grad(3 * expected.sum(), wide), strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=close[0], atol=close[1])
