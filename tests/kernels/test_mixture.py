"""Mixtures of two labels: the gradient of the dense target, chunk by chunk, and in the memory of one gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls
from labelsmooth.kernels import mixture as kernel
from labelsmooth.smoothing import Prior, Uniform, mix

ROWS, CLASSES = 12, 37


def problem(shape: str, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(0)
    size = (ROWS, CLASSES) if shape == "rows" else (ROWS, CLASSES, 3)
    logits = (3 * torch.randn(size, generator=generator, dtype=torch.float64)).to(dtype)
    labels = [torch.randint(CLASSES, (ROWS, *size[2:]), generator=generator) for _ in range(2)]
    lam = torch.rand(labels[0].shape, generator=generator, dtype=torch.float64)
    lam.view(-1)[:2] = torch.tensor([0.0, 1.0])
    return logits, labels, lam


@pytest.fixture(params=[1, 5 * CLASSES * 3, 1 << 20], ids=["a row", "some", "all"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(kernel, "chunk_elements", lambda elements: request.param)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", ["rows", "dense prediction"])
@pytest.mark.parametrize("epsilon", [0.1, Prior(0.3, torch.linspace(0.5, 1.5, CLASSES))])
def test_is_the_loss_of_the_dense_target(chunks, shape, reduction, epsilon) -> None:
    logits, (a, b), lam = problem(shape)
    leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = ls.cross_entropy(leaf, mix(a, b, lam), reduction=reduction, label_smoothing=epsilon)
    assert reduction == "none" or "Mixed" in loss.grad_fn.name()
    q = lam.unsqueeze(1) * F.one_hot(a, CLASSES).movedim(-1, 1) + (1 - lam).unsqueeze(1) * F.one_hot(
        b, CLASSES
    ).movedim(-1, 1)
    expected = ls.cross_entropy(other, q.double(), reduction=reduction, label_smoothing=epsilon)
    torch.testing.assert_close(loss, expected)
    upstream = torch.rand(loss.shape, dtype=torch.float64) + 1
    torch.testing.assert_close(
        torch.autograd.grad(loss, leaf, upstream)[0], torch.autograd.grad(expected, other, upstream)[0]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype(chunks, dtype: torch.dtype) -> None:
    logits, (a, b), lam = problem("rows", dtype)
    leaf, other = logits.clone().requires_grad_(), logits.double().requires_grad_()
    ls.cross_entropy(leaf, mix(a, b, lam), label_smoothing=0.1).backward()
    ls.cross_entropy(other, mix(a, b, lam), label_smoothing=0.1).backward()
    assert leaf.grad.dtype == dtype
    close = dict(rtol=1e-5, atol=1e-7) if dtype == torch.float32 else dict(rtol=2**-6, atol=1e-4)
    torch.testing.assert_close(leaf.grad.double(), other.grad, **close)


def test_ignored_labels_weights_and_a_share_of_nothing(chunks) -> None:
    logits, (a, b), lam = problem("rows")
    a[3], b[3], b[4] = -100, -100, -100
    logits[0, a[0]] = -torch.inf  # lam is 0 there
    weight = torch.rand(CLASSES, dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    loss = ls.cross_entropy(leaf, mix(a, b, lam), weight)
    loss.backward()
    each = [ls.cross_entropy(logits, y, weight, reduction="none") for y in (a, b)]
    worth = [torch.where(y >= 0, weight[y.clamp(min=0)], 0.0) for y in (a, b)]
    total = sum(torch.where(s == 0, 0.0, s * e) for s, e in zip((lam, 1 - lam), each, strict=True)).sum()
    torch.testing.assert_close(loss.detach(), total / (lam * worth[0] + (1 - lam) * worth[1]).sum())
    assert leaf.grad.isfinite().all()
    assert leaf.grad[3].count_nonzero() == 0


def test_first_and_second_derivatives() -> None:
    logits, (a, b), lam = problem("rows")
    leaf = logits[:4].clone().requires_grad_()
    for reduction in ("mean", "none"):

        def loss(z: torch.Tensor) -> torch.Tensor:
            return ls.cross_entropy(z, mix(a[:4], b[:4], lam[:4], Uniform(0.1)), reduction=reduction)  # noqa: B023

        assert torch.autograd.gradcheck(loss, leaf)
        assert torch.autograd.gradgradcheck(loss, leaf)


def test_a_share_that_learns() -> None:
    logits, (a, b), lam = problem("rows")
    lam.requires_grad_()
    ls.cross_entropy(logits.requires_grad_(), mix(a, b, lam)).backward()
    assert lam.grad is not None
    assert logits.grad is not None


def test_compiled() -> None:
    torch._dynamo.reset()
    logits, (a, b), _ = problem("rows")

    def loss(z: torch.Tensor) -> torch.Tensor:
        return ls.cross_entropy(z, mix(a, b, 0.3), label_smoothing=0.1)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    compiled(leaf).backward()
    loss(other).backward()
    torch.testing.assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("loss", [ls.cross_entropy, ls.LabelSmoothingCrossEntropy(0.1)], ids=["function", "module"])
def test_the_peak_is_one_gradient(loss) -> None:
    leaf = torch.randn(2000, 1000, requires_grad=True)
    a, b = torch.randint(1000, (2, 2000))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        loss(leaf, mix(a, b, 0.3)).backward()
    held = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert 1.0 <= peak / (leaf.numel() * 4) <= 1.07
