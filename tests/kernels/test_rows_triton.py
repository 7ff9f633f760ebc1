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
from labelsmooth.kernels import linear, reference, rows, small
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
        from labelsmooth.kernels import rows_triton

        for module in (rows, linear):
            monkeypatch.setattr(module, "row_kernel", lambda *_: Kernel(rows_triton.run, rows_triton.scale))
        monkeypatch.setattr(small, "cpu_launcher", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, where a kernel meets an infinity
        yield


@interpreted
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_target_is_the_references(kind: str, dtype: torch.dtype) -> None:
    wide = reference.accumulation_dtype(dtype)
    logits = (3 * torch.randn(12, 37, generator=torch.Generator().manual_seed(0))).to(dtype).requires_grad_()
    other = logits.detach().to(wide).requires_grad_()
    q = targets(kind, 12, 37, wide)
    upstream = torch.rand(12).to(wide)
    losses, nll = row_loss(logits, q, with_nll=True)
    expected, expected_nll = reference.row_losses(other, *q)
    close = dict(rtol=1e-12, atol=1e-12) if dtype == torch.float64 else dict(rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses, expected, **close)
    if nll is not None:
        torch.testing.assert_close(nll, expected_nll.detach(), **close)
    gradient = torch.autograd.grad(losses, logits, upstream)[0]
    truth = torch.autograd.grad(expected, other, upstream)[0]
    # Twice rounded, and the interpreter cuts bfloat16 off where a GPU rounds it.
    half = dict(rtol=2**-6, atol=1e-4) if dtype == torch.bfloat16 else dict(rtol=2**-10, atol=1e-5)
    torch.testing.assert_close(gradient.to(wide), truth, **(half if dtype.itemsize == 2 else close))


@interpreted
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_every_layout(layout: str, reduction: str) -> None:
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
@pytest.mark.parametrize("at", [0, 2500, 4999])
def test_rows_of_several_blocks_and_what_is_not_finite(value: float, at: int) -> None:
    logits = torch.randn(3, 5000)
    logits[1, at] = value
    logits.requires_grad_()
    other = logits.detach().clone().requires_grad_()
    q = terms(torch.tensor([0, 2500, 4999]), 0.9, 0.1)
    loss, expected = row_loss(logits, q)[0], reference.row_losses(other, *q)[0]
    torch.testing.assert_close(loss, expected, equal_nan=True)
    gradients = torch.autograd.grad(loss.sum(), logits)[0], torch.autograd.grad(expected.sum(), other)[0]
    torch.testing.assert_close(*gradients, equal_nan=True)


@interpreted
def test_a_label_out_of_range_is_nan_in_its_row_and_reads_nothing() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    loss, nll = row_loss(logits, terms(torch.tensor([1, 7, -5, -1]), 0.9, 0.1), with_nll=True)
    assert loss.isnan().tolist() == nll.isnan().tolist() == [False, True, True, False]
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isnan().all(-1).tolist() == [False, True, True, False]


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_in_place_and_kept_graphs(dtype: torch.dtype) -> None:
    leaf, labels = torch.randn(6, 50).to(dtype).requires_grad_(), torch.arange(6)
    loss = 2 * ls.cross_entropy(leaf, labels, label_smoothing=0.1)
    first = torch.autograd.grad(loss, leaf, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(loss, leaf)[0], first)
    logits = leaf * 1
    (2 * ls.cross_entropy(logits, labels, label_smoothing=0.1, inplace=True)).backward()
    torch.testing.assert_close(leaf.grad, first)
    torch.testing.assert_close(logits.detach(), first)


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
    from labelsmooth.kernels import rows_triton

    generator = torch.Generator().manual_seed(0)
    features, weight = (
        torch.randn(*shape, generator=generator).to(dtype).requires_grad_() for shape in ((9, 5), (11, *heads, 5))
    )
    bias = torch.randn(11, *heads, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(11, (9, *heads), generator=generator)
    sizes, run = [], rows_triton.run
    monkeypatch.setattr(rows_triton, "run", lambda z, *a, **k: sizes.append(len(z)) or run(z, *a, **k))
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
