"""The Triton kernel on a CUDA device: numbers, sizes beyond 2^31 and labels out of range."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("classes", [1, 2, 37, 1001, 32000, 128256, 262144])
def test_error_is_at_most_pytorchs(classes: int, dtype: torch.dtype) -> None:
    logits = (3 * torch.randn(7, classes, device="cuda", dtype=torch.float64)).to(dtype)
    labels = torch.randint(classes, (7,), device="cuda")

    def run(function, z):
        leaf = z.detach().clone().requires_grad_()
        loss = function(leaf, labels, reduction="none", label_smoothing=0.1)
        loss.sum().backward()
        return loss.detach(), leaf.grad

    truth = run(F.cross_entropy, logits.double())
    for mine, other, true in zip(run(ls.cross_entropy, logits), run(F.cross_entropy, logits), truth, strict=True):
        allowed = (other.double() - true).abs().amax() + torch.finfo(mine.dtype).eps * true.abs().clamp(min=1) + 1e-12
        assert bool(((mine.double() - true).abs() <= allowed).all())


def test_more_logits_than_32_bits_count() -> None:
    rows, classes = 17000, 128256  # 2.2e9
    logits = torch.zeros(rows, classes, device="cuda", dtype=torch.bfloat16).requires_grad_()
    labels = torch.full((rows,), classes - 1, device="cuda")
    loss = ls.cross_entropy(logits * 1, labels, label_smoothing=0.1, inplace=True)
    loss.backward()
    torch.testing.assert_close(loss.item(), float(torch.tensor(float(classes)).log()), rtol=1e-5, atol=0)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[-1, -1].item(), -0.9 / rows, rtol=1e-2, atol=0)


def test_a_label_out_of_range_is_nan_and_check_raises() -> None:
    logits, labels = torch.randn(3, 5, device="cuda"), torch.tensor([0, 9, -3], device="cuda")
    loss = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    assert loss.isnan().tolist() == [False, True, True]
    with pytest.raises(IndexError, match="label 9"):
        ls.cross_entropy(logits, labels, check=True)


def test_nothing_waits_for_the_device() -> None:
    leaf, labels = torch.randn(8, 100, device="cuda", requires_grad=True), torch.arange(8, device="cuda")
    ls.cross_entropy(leaf, labels, label_smoothing=0.1).backward()  # compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        ls.cross_entropy(leaf, labels, label_smoothing=0.1).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
