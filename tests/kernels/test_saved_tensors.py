"""What the backward pass reads: never anything that changed since the loss, and nothing of the caller's is changed."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls

CHANGED = "modified by an inplace operation"
K = 5


def problem(dtype: torch.dtype = torch.float32, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, K, generator=generator).to(dtype).requires_grad_()
    return logits, torch.arange(rows) % K


HEAD = torch.eye(K)
LOSSES = {
    "small": lambda z, y, **o: ls.cross_entropy(z, y, label_smoothing=0.1, **o),
    "rows": lambda z, y, **o: ls.cross_entropy(z, y, label_smoothing=0.1, reduction="none", **o),
    "linear": lambda z, y, **o: ls.linear_cross_entropy(z, HEAD.to(z.dtype), y, label_smoothing=0.1, **o),
    "linear, each": lambda z, y, **o: ls.linear_cross_entropy(z, HEAD.to(z.dtype), y, reduction="none", **o),
}
MIXTURE = {"mixture": lambda z, y: ls.cross_entropy(z, ls.smoothing.mix(y, y.flip(0), 0.3), label_smoothing=0.1)}


class TestChangedLabels:
    """As in PyTorch an error; never another gradient, and never memory outside the logits."""

    @pytest.mark.parametrize("value", [4, 2**40, -(2**40), -100])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("name", LOSSES)
    def test_before_backward(self, name: str, dtype: torch.dtype, value: int) -> None:
        logits, labels = problem(dtype)
        loss = LOSSES[name](logits, labels)
        labels.fill_(value)
        with pytest.raises(RuntimeError, match=CHANGED):
            loss.sum().backward()

    @pytest.mark.parametrize("name", LOSSES)
    def test_before_a_second_derivative(self, name: str) -> None:
        logits, labels = problem()
        loss = LOSSES[name](logits, labels)
        labels.fill_(0)
        with pytest.raises(RuntimeError, match=CHANGED):
            torch.autograd.grad(loss.sum(), logits, create_graph=True)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("what", ["epsilon", "mask", "prior", "probabilities"])
    def test_all_else_that_the_backward_pass_reads(self, what: str, dtype: torch.dtype) -> None:
        """An error, or the right gradient from a copy."""
        logits, labels = problem(dtype)
        prior = ls.smoothing.Prior(0.2, torch.rand(K))
        (table,) = prior.buffers()
        tensors = {
            "epsilon": torch.full((6,), 0.1),
            "mask": torch.ones(6, K, dtype=torch.bool),
            "prior": table,
            "probabilities": torch.rand(6, K).softmax(-1),
        }
        calls = {
            "epsilon": lambda t: ls.cross_entropy(logits, labels, label_smoothing=t),
            "mask": lambda t: ls.cross_entropy(logits, labels, label_smoothing=0.1, class_mask=t),
            "prior": lambda t: ls.cross_entropy(logits, labels, label_smoothing=prior),
            "probabilities": lambda t: ls.cross_entropy(logits, t),
        }
        tensor = tensors[what]
        (expected,) = torch.autograd.grad(calls[what](tensor), logits)
        loss = calls[what](tensor)
        tensor.zero_()
        sentence = ""
        try:
            (gradient,) = torch.autograd.grad(loss, logits)
        except RuntimeError as error:
            sentence = str(error)
        assert CHANGED in sentence if sentence else torch.equal(gradient, expected)

    def test_labels_with_an_ignored_one_are_copied_so_that_the_gradient_stays_right(self) -> None:
        for dtype in (torch.float32, torch.float16):
            logits, labels = problem(dtype)
            labels[2] = -100
            call = lambda: ls.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)  # noqa: B023, E731
            (expected,) = torch.autograd.grad(call().sum(), logits)
            loss = call()
            before = labels.clone()
            labels.fill_(2**40)
            (gradient,) = torch.autograd.grad(loss.sum(), logits)
            assert torch.equal(gradient, expected)
            labels.copy_(before)


def test_the_kernel_never_reads_outside_the_logits() -> None:
    """Whatever the labels are when it runs: another thread may change them after the check."""
    from labelsmooth.kernels import launch_cpu
    from labelsmooth.target import Target

    labels = torch.tensor([0, K, 2**40, -1, -(2**62), 3])
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        logits, _ = problem(dtype)
        for base in (None, torch.rand(K, K)):
            gradient, losses = torch.empty_like(logits), torch.empty(6, dtype=torch.promote_types(dtype, torch.float32))
            launch_cpu.run(logits.detach(), Target(K, labels, 0.9, 0.1, base), gradient=gradient, losses=losses)
            assert losses.isnan().tolist() == [False, True, True, False, True, False]
            assert gradient.isnan().all(-1).tolist() == [False, True, True, False, True, False]
            assert gradient[3].count_nonzero() == 0


class TestChangedLogits:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("name", ["small", "rows", "mixture"])
    def test_a_plain_backward_does_not_need_them(self, name: str, dtype: torch.dtype) -> None:
        leaf, labels = problem(dtype)
        call = {**LOSSES, **MIXTURE}[name]
        (expected,) = torch.autograd.grad(call(leaf, labels).sum(), leaf)
        logits = leaf * 1
        loss = call(logits, labels)
        logits.detach().clamp_(-0.1, 0.1)  # a metric that works in place
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        assert torch.equal(gradient, expected)

    @pytest.mark.parametrize("name", ["small", "rows", "mixture"])
    def test_a_second_derivative_does(self, name: str) -> None:
        leaf, labels = problem()
        logits = leaf * 1
        loss = {**LOSSES, **MIXTURE}[name](logits, labels)
        logits.detach().clamp_(-0.1, 0.1)
        with pytest.raises(RuntimeError, match=CHANGED):
            torch.autograd.grad(loss.sum(), leaf, create_graph=True)

    @pytest.mark.parametrize("name", [*LOSSES, *MIXTURE])
    def test_a_backward_pass_that_frees_the_graph_frees_them(self, name: str) -> None:
        class Packed:
            def __init__(self, tensor: torch.Tensor) -> None:
                self.tensor = tensor
                packed.append(weakref.ref(self))

        packed: list[weakref.ref[Packed]] = []
        logits, labels = problem()
        with torch.autograd.graph.saved_tensors_hooks(Packed, lambda p: p.tensor):
            loss = {**LOSSES, **MIXTURE}[name](logits, labels)
            total = loss.sum() if loss.dim() else loss
        assert packed
        total.backward()
        assert [reference for reference in packed if reference() is not None] == []


class TestKeptGraphs:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("name", [*LOSSES, *MIXTURE])
    def test_what_was_returned_is_the_callers(self, name: str, dtype: torch.dtype) -> None:
        logits, labels = problem(dtype)
        loss = {**LOSSES, **MIXTURE}[name](logits, labels).sum()
        (expected,) = torch.autograd.grad(loss, logits, retain_graph=True)
        for scale in (1.0, 3.0):
            (gradient,) = torch.autograd.grad(scale * loss, logits, retain_graph=True)
            gradient.mul_(0.5)  # gradient surgery
            gradient.numpy() if dtype in (torch.float32, torch.float64) else None
            gradient.detach().zero_()
        (last,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(last, expected)

    def test_the_weight_of_a_linear_head_too(self) -> None:
        features, labels = problem()
        head = torch.randn(K, K, requires_grad=True)
        loss = ls.linear_cross_entropy(features.detach(), head, labels)
        (gradient,) = torch.autograd.grad(loss, head, retain_graph=True)
        expected = gradient.clone()
        gradient.zero_()
        assert torch.equal(torch.autograd.grad(loss, head)[0], expected)

    def test_as_pytorch_does(self) -> None:
        for function in (F.cross_entropy, ls.cross_entropy):
            leaf, labels = problem()
            logits = leaf * 1
            loss = function(logits, labels)
            torch.autograd.grad(loss, logits, retain_graph=True)[0].mul_(0.5)
            loss.backward()
            (expected,) = torch.autograd.grad(F.cross_entropy(leaf, labels), leaf)
            torch.testing.assert_close(leaf.grad, expected)
