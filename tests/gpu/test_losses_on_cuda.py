"""Every call, policy, penalty, metric and calibrator with its tensors on a CUDA device, against the same on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import CASES, POLICIES, REDUCTIONS

import labelsmooth as ls

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def moved(value: Any) -> Any:
    return value.cuda() if isinstance(value, torch.Tensor) else value


def assert_both(function, logits: torch.Tensor) -> None:
    """function(leaf, move) and its gradient, on both devices."""
    here, there = logits.clone().requires_grad_(), logits.cuda().requires_grad_()
    expected, loss = function(here, lambda value: value), function(there, moved)
    tolerance = TOLERANCES[logits.dtype]
    close = dict(rtol=tolerance, atol=tolerance, equal_nan=True)
    torch.testing.assert_close(loss.cpu(), expected, **close)
    (gradient,) = torch.autograd.grad(loss.sum(), there)
    torch.testing.assert_close(gradient.cpu(), torch.autograd.grad(expected.sum(), here)[0], **close)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_calls(case, dtype: torch.dtype, reduction: str) -> None:
    logits, target, options = case.make(dtype)

    def loss(leaf, move):
        keywords = {name: move(value) for name, value in options.items()}
        return ls.cross_entropy(leaf, move(target), reduction=reduction, **keywords)

    assert_both(loss, logits)


@pytest.mark.parametrize("shape", [(12, 7), (3, 7, 4)], ids=str)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_policies_moved_or_left_on_the_cpu(policy, shape: tuple[int, ...]) -> None:
    logits, labels = torch.randn(shape), torch.randint(7, shape[:1] + shape[2:])
    made = policy.make(labels, 7)
    assert_both(
        lambda leaf, move: ls.cross_entropy(leaf, move(labels), label_smoothing=policy.make(labels, 7).to(leaf.device)),
        logits,
    )
    epsilon = getattr(made, "epsilon", None)
    if isinstance(epsilon, torch.Tensor) and epsilon.dim():
        with pytest.raises(ValueError, match=r"is on cpu and input on cuda"):
            ls.cross_entropy(logits.cuda(), labels.cuda(), label_smoothing=made)
    else:
        assert_both(
            lambda leaf, move: ls.cross_entropy(leaf, move(labels), label_smoothing=policy.make(labels, 7)), logits
        )


def test_a_table_on_the_cpu_is_copied_once() -> None:
    logits, labels = torch.randn(12, 7, device="cuda"), torch.randint(7, (12,), device="cuda")
    policies = [ls.smoothing.Prior(0.1, torch.rand(7)), ls.smoothing.ClassMatrix(0.1, torch.rand(7, 7))]
    for policy in policies:
        first = ls.cross_entropy(logits, labels, label_smoothing=policy)
        torch.cuda.set_sync_debug_mode("error")  # a copy from the host waits
        try:
            again = ls.cross_entropy(logits, labels, label_smoothing=policy)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(again, first)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_linear_head(policy) -> None:
    features, head, labels = torch.randn(12, 5), torch.randn(7, 5), torch.randint(7, (12,))

    def loss(leaf, move):
        return ls.linear_cross_entropy(
            leaf, move(head), move(labels), label_smoothing=policy.make(labels, 7).to(leaf.device)
        )

    assert_both(loss, features)


@pytest.mark.parametrize("accumulate_in_float32", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_linear_head_in_chunks_is_as_exact_as_the_full_logits(
    reduction: str, dtype: torch.dtype, accumulate_in_float32: bool
) -> None:
    features = torch.randn(3000, 64, device="cuda").to(dtype).requires_grad_()
    head = (torch.randn(1001, 64, device="cuda") / 8).to(dtype).requires_grad_()
    labels = torch.randint(1001, (3000,), device="cuda")
    wide = [t.detach().double().requires_grad_() for t in (features, head)]
    options = dict(label_smoothing=0.1, reduction=reduction)
    truth = torch.autograd.grad(F.cross_entropy(F.linear(*wide), labels, **options).mean(), wide)
    eager = torch.autograd.grad(F.cross_entropy(F.linear(features, head), labels, **options).mean(), (features, head))
    loss = ls.linear_cross_entropy(
        features, head, labels, chunk_size=1024, accumulate_in_float32=accumulate_in_float32, **options
    )
    ours = torch.autograd.grad(loss.mean(), (features, head))
    slack = 2.0 if accumulate_in_float32 else 4.0
    for mine, other, true in zip(ours, eager, truth, strict=True):
        allowed = slack * (other.double() - true).norm() + 1e-5 * true.norm()
        assert (mine.double() - true).norm() <= allowed


def test_a_linear_head_needs_a_quarter_of_the_logits_beside_its_gradients() -> None:
    features = torch.randn(8192, 256, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    head = torch.randn(32000, 256, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(32000, (8192,), device="cuda")
    for _ in range(2):  # the first allocates cuBLAS's workspace
        features.grad = head.grad = None
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        ls.linear_cross_entropy(features, head, labels, label_smoothing=0.1).backward()
    gradients = 2 * (features.numel() + head.numel())
    assert torch.cuda.max_memory_allocated() - before <= gradients + 2 * 8192 * 32000 / 4


def test_a_linear_head_is_captured() -> None:
    features = torch.randn(2048, 64, device="cuda", requires_grad=True)
    head = torch.randn(300, 64, device="cuda", requires_grad=True)
    labels = torch.randint(300, (2048,), device="cuda")

    def step() -> torch.Tensor:
        loss = ls.linear_cross_entropy(features, head, labels, label_smoothing=0.1)
        loss.backward()
        return loss

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    features.grad = head.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    with torch.no_grad():
        features.copy_(torch.randn_like(features))
    features.grad.zero_(), head.grad.zero_()
    graph.replay()
    expected = F.cross_entropy(F.linear(features, head), labels, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(head.grad, torch.autograd.grad(expected, head)[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("linear", [False, True])
def test_compiled_graphs_contain_the_kernel(linear: bool, reduction: str) -> None:
    torch._dynamo.reset()
    labels = torch.randint(100, (64,), device="cuda")
    inputs = [
        torch.randn(64, 16, device="cuda", requires_grad=True),
        torch.randn(100, 16, device="cuda", requires_grad=True),
    ]
    if not linear:
        inputs = [torch.randn(64, 100, device="cuda", requires_grad=True)]
    graphs = []

    def backend(graph, example):
        graphs.append(str(graph.graph))
        return torch._inductor.compile(graph, example)

    def loss(epsilon, *tensors):
        ours = ls.linear_cross_entropy if linear else ls.cross_entropy
        return ours(*tensors, labels, label_smoothing=epsilon, reduction=reduction)

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    for epsilon in (0.1, 0.2, 0.3, 0.4):
        value = compiled(epsilon, *inputs)
        logits = F.linear(*inputs) if linear else inputs[0]
        expected = F.cross_entropy(logits, labels, label_smoothing=epsilon, reduction=reduction)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
        gradients = zip(
            torch.autograd.grad(value.sum(), inputs), torch.autograd.grad(expected.sum(), inputs), strict=True
        )
        for mine, theirs in gradients:
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert len(graphs) <= 2  # a new epsilon compiles nothing
    assert all("labelsmooth" in graph for graph in graphs)


PENALTIES = ["acls", "confidence", "margin", "max_suppression", "poly1"]


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(name: str) -> None:
    penalty = getattr(ls.penalty, name)
    labels = torch.randint(7, (12,))
    labels[3] = -100
    logits = torch.randn(12, 7)
    assert_both(lambda leaf, move: penalty(leaf, move(labels)), logits)
    assert_both(lambda leaf, move: ls.LabelSmoothingCrossEntropy(0.1, penalty=penalty)(leaf, move(labels)), logits)


LOSSES = ["brier_weighted_loss", "dual_focal_loss", "focal_loss", "label_relaxation_loss", "logit_norm_loss"]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_in_its_place(name: str) -> None:
    labels, logits = torch.randint(7, (12,)), torch.randn(12, 7)
    assert_both(lambda leaf, move: getattr(ls, name)(leaf, move(labels)), logits)


def test_mixtures_masks_and_binary_targets() -> None:
    logits, a, b = torch.randn(12, 7), torch.randint(5, (12,)), torch.randint(5, (12,))
    mask = torch.tensor([True] * 5 + [False] * 2)
    for lam in (0.3, torch.full((12,), 0.3)):
        assert_both(lambda leaf, move: ls.cross_entropy(leaf, ls.smoothing.mix(move(a), move(b), move(lam))), logits)  # noqa: B023
    assert_both(
        lambda leaf, move: ls.cross_entropy(leaf, move(a), class_mask=move(mask), z_loss=1e-3, label_smoothing=0.1),
        logits,
    )
    tags = torch.randint(0, 2, (12, 7)).float()
    assert_both(
        lambda leaf, move: ls.binary_cross_entropy_with_logits(
            leaf, move(tags), label_smoothing=0.1, pos_weight=move(torch.arange(1.0, 8.0))
        ),
        logits,
    )


def scored(rows: int = 2000, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(rows, classes, generator=generator)
    return logits, torch.multinomial((logits / 2).softmax(1), 1, generator=generator)[:, 0]


METRICS = [
    "error", "nll", "brier", "ece", "debiased_ece", "smooth_ece", "ks", "aurc", "e_aurc", "confidence_gap",
    "over_confidence", "under_confidence",
]  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name: str) -> None:
    logits, labels = scored()
    metric = getattr(ls.metrics, name)
    values = [metric(logits=z, labels=y) for z, y in ((logits, labels), (logits.cuda(), labels.cuda()))]
    expected, value = (float(getattr(result, "value", result)) for result in values)
    assert value == pytest.approx(expected, abs=1e-5)


CALIBRATORS = [
    "TemperatureScaling", "VectorScaling", "MatrixScaling", "DirichletCalibration", "PlattScaling", "BetaCalibration",
    "IsotonicCalibration", "HistogramBinning", "EnsembleTemperatureScaling", "Identity",
]  # fmt: skip


@pytest.mark.parametrize("name", CALIBRATORS)
def test_calibrators(name: str) -> None:
    logits, labels = scored()
    there = getattr(ls.calibrate, name)().fit(logits.cuda(), labels.cuda()).predict_proba(logits.cuda())
    here = getattr(ls.calibrate, name)().fit(logits, labels).predict_proba(logits)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu().to(here.dtype), here, rtol=0, atol=2e-3)


def test_a_temperature_is_fitted_where_the_logits_are(monkeypatch) -> None:
    logits, labels = (value.cuda() for value in scored(50_000, 100))

    def unless_logits(function):
        def checked(tensor, *arguments, **keywords):
            assert not tensor.is_cuda or tensor.numel() <= len(labels), "the logits are copied to the CPU"
            return function(tensor, *arguments, **keywords)

        return checked

    for name in ("cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, unless_logits(getattr(torch.Tensor, name)))
    fitted = ls.calibrate.TemperatureScaling().fit(logits, labels)
    monkeypatch.undo()
    assert fitted.temperature_ == pytest.approx(2.0, rel=0.05)


def test_autocast_with_a_scaler_trains() -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(16, 10).cuda()
    optimizer, scaler = torch.optim.SGD(network.parameters(), lr=0.1), torch.amp.GradScaler("cuda")
    criterion = ls.LabelSmoothingCrossEntropy(0.1).cuda()
    inputs, labels = torch.randn(64, 16, device="cuda"), torch.randint(10, (64,), device="cuda")
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(network(inputs), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_second_derivatives_and_transforms() -> None:
    labels = torch.tensor([0, 1, 2], device="cuda")
    leaf = torch.randn(3, 5, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda z: ls.cross_entropy(z, labels, label_smoothing=0.1), leaf)
    each = torch.func.vmap(torch.func.grad(lambda z, y: ls.cross_entropy(z, y, label_smoothing=0.1)))
    (expected,) = torch.autograd.grad(F.cross_entropy(leaf, labels, label_smoothing=0.1, reduction="sum"), leaf)
    torch.testing.assert_close(each(leaf.detach(), labels), expected)
