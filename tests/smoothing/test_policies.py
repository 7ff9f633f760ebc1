"""Every policy in every form of the loss, in every dtype and reduction, against its dense target."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from cases import DTYPES, POLICIES, REDUCTIONS, PolicyCase, numbers

import labelsmooth as ls
from labelsmooth.kernels.choose import choose
from labelsmooth.smoothing.base import Smoothing

K = 10


def problem(shape, dtype):
    """Logits, labels of which some are ignored, and the labels as one-hot rows (zeros where ignored)."""
    logits = (6 * numbers(*shape, seed=11) - 3).to(dtype)
    labels = (K * numbers(shape[0], *shape[2:], seed=12)).long()
    labels.view(-1)[3] = -100
    onehot = torch.nn.functional.one_hot(labels.clamp(min=0), K).double() * (labels >= 0)[..., None]
    return logits, labels, onehot.reshape(-1, K)


def truth(logits, q, counted, upstream, reduction):
    """The loss and its gradient in float64 from dense targets."""
    z = logits.detach().double().clone().requires_grad_()
    losses = -(q * z.movedim(1, -1).reshape(-1, K).log_softmax(-1)).sum(-1).reshape(counted.shape)
    loss = reduce(losses, counted, reduction)
    (loss * upstream[: loss.numel()].reshape(loss.shape)).sum().backward()
    return loss.detach(), z.grad


def reduce(losses, counted, reduction):
    losses = torch.where(counted, losses, 0.0)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / counted.sum()}[reduction]


def function(logits, labels, policy, reduction):
    return ls.cross_entropy(logits, labels, reduction=reduction, label_smoothing=policy)


def module(logits, labels, policy, reduction):
    return ls.LabelSmoothingCrossEntropy(policy, reduction)(logits, labels)


def linear(logits, labels, policy, reduction):
    """The logits as features under the identity."""
    rows = logits.movedim(1, -1).reshape(-1, K)
    identity = torch.eye(K, dtype=logits.dtype)
    options = dict(reduction=reduction, label_smoothing=policy)
    loss = ls.linear_cross_entropy(rows, identity, labels.reshape(-1), **options)
    return loss.reshape(labels.shape) if reduction == "none" else loss


FORMS = {"function": function, "module": module, "linear": linear}
KERNELS = ("chosen", "reference")


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch) -> str:
    """The kernel that serves this machine, and the reference in its place."""
    if request.param == "reference":
        monkeypatch.setattr("labelsmooth.kernels.rows.row_kernel", lambda *_: None)
    else:
        assert choose("cpu", torch.float32).kernel != "reference"
    return request.param


def narrowed(policy, dtype):
    """The policy with its tables in the precision that the loss computes in."""
    return policy.to(torch.promote_types(dtype, torch.float32))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.name)
def test_is_the_cross_entropy_of_the_dense_target(case: PolicyCase, form, dtype, reduction, kernel) -> None:
    for shape in ((7, K), (2, K, 3)):
        logits, labels, onehot = problem(shape, dtype)
        q = case.dense(onehot, K) * (onehot.sum(-1, keepdim=True) > 0)
        upstream = 1.0 + numbers(labels.numel(), seed=13)
        loss_true, grad_true = truth(logits, q, labels >= 0, upstream, reduction)
        z = logits.clone().requires_grad_()
        policy = narrowed(case.make(labels, K), dtype)
        loss = FORMS[form](z, labels, policy, reduction)
        assert loss.dtype == torch.promote_types(dtype, torch.float32)
        (loss * upstream[: loss.numel()].reshape(loss.shape)).sum().backward()
        assert z.grad.dtype == dtype
        slack = 1e-12 if dtype == torch.float64 else 2e-6
        torch.testing.assert_close(loss.detach().double(), loss_true, rtol=slack, atol=4 * slack)
        rounding = torch.finfo(dtype).eps
        torch.testing.assert_close(z.grad.double(), grad_true, rtol=rounding, atol=max(4 * rounding * 0.1, 4 * slack))


@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.name)
def test_dense_of_the_target_is_the_formula(case: PolicyCase) -> None:
    _, labels, onehot = problem((7, K), torch.float64)
    index = labels.masked_fill(labels < 0, -1)
    q = case.make(labels, K)(index, K).dense(torch.float64)
    expected = case.dense(onehot, K) * (onehot.sum(-1, keepdim=True) > 0)
    torch.testing.assert_close(q, expected, rtol=1e-12, atol=1e-7)  # 1e-7: bases that are made in float32
    assert bool((q[labels < 0] == 0).all())


@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.name)
def test_class_probabilities(case: PolicyCase) -> None:
    logits = 6 * numbers(5, K, seed=21)
    y = (4 * numbers(5, K, seed=22)).softmax(-1)
    policy = case.make(torch.zeros(5), K)
    if case.name == "uniform over others, two classes excluded":
        with pytest.raises(TypeError, match="needs labels"):
            ls.cross_entropy(logits, y, label_smoothing=policy)
        return
    loss = ls.cross_entropy(logits, y, reduction="none", label_smoothing=policy)
    if case.probabilities:
        expected = -(case.dense(y, K) * logits.log_softmax(-1)).sum(-1)
    else:  # linear in the label, though its formula is not written so
        rows = torch.stack([case.dense(row.expand(5, K), K) for row in torch.eye(K, dtype=torch.float64)])
        expected = -(torch.einsum("nk,knj->nj", y, rows) * logits.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.name)
def test_class_weights(case: PolicyCase) -> None:
    logits, labels, onehot = problem((7, K), torch.float64)
    weight = 2 * numbers(K, seed=31)
    q = case.dense(onehot, K) * weight
    loss = ls.cross_entropy(logits, labels, weight, reduction="none", label_smoothing=case.make(labels, K))
    expected = torch.where(labels >= 0, -(q * logits.log_softmax(-1)).sum(-1), 0.0)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)


def test_every_policy_is_in_the_table() -> None:
    policies = {c for c in vars(ls.smoothing).values() if inspect.isclass(c) and issubclass(c, Smoothing)}
    tested = {type(case.make(torch.zeros(7), K)) for case in POLICIES}
    assert policies - tested == set()


def test_no_policy_but_the_teacher_makes_a_target_of_n_by_k() -> None:
    labels = torch.arange(7)
    for case in POLICIES:
        base = case.make(labels, K)(labels, K).base
        wide = base is not None and base.shape == (7, K)
        assert wide == (case.name == "teacher"), case.name


@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.name)
def test_runs_in_one_compiled_graph(case: PolicyCase) -> None:
    torch._dynamo.reset()  # else the cases before count as recompilations
    logits, labels, _ = problem((7, K), torch.float32)
    criterion = ls.LabelSmoothingCrossEntropy(narrowed(case.make(labels, K), torch.float32))
    compiled = torch.compile(criterion, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, labels), criterion(logits, labels))


NUMBERS = {
    "a number": lambda: 0.5,
    "uniform": lambda: ls.smoothing.Uniform(0.5),
    "others, one excluded": lambda: ls.smoothing.Uniform(0.5, "others", exclude=[9]),
    "prior": lambda: ls.smoothing.Prior(0.5, list(range(1, K + 1))),
    "class matrix": lambda: ls.smoothing.ClassMatrix(0.5, ls.smoothing.ordinal(K)),
    "online": lambda: ls.smoothing.Online(K, 0.5),
    "teacher": lambda: ls.smoothing.Teacher(0.5, logits=torch.arange(7.0 * K).reshape(7, K) / 30),
    "teacher-free": lambda: ls.smoothing.TeacherFree(0.5),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_new_epsilon_does_not_compile_again(name: str) -> None:
    graphs = 0

    def backend(graph, inputs):
        nonlocal graphs
        graphs += 1
        return graph.forward

    torch._dynamo.reset()
    logits, labels = problem((7, K), torch.float32)[0], torch.tensor([0, 1, -100, 3, 4, 2, 2])
    criterion = ls.LabelSmoothingCrossEntropy(NUMBERS[name]()).eval()
    criterion(logits, labels)  # the first call chooses the kernel
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    for epsilon in torch.linspace(0.0, 1.0, 12).tolist():
        if name == "a number":
            criterion.epsilon = epsilon
        else:
            criterion.epsilon.epsilon = epsilon
        torch.testing.assert_close(compiled(logits, labels), criterion(logits, labels))
    assert graphs == 1


def test_numbers_of_numpy_are_accepted() -> None:
    one, half = np.int64(1), np.float32(0.5)
    assert ls.smoothing.schedule.linear(half, 0.0, one)(one) == 0.0
    assert ls.smoothing.ordinal(np.int64(2), sharpness=half).shape == (2, 2)
    assert ls.smoothing.Online(np.int64(2)).table.shape == (2, 2)
    assert ls.smoothing.Uniform(half, exclude=[one]).exclude == (1,)
    logits, labels = torch.zeros(1, 3), torch.tensor([0])
    assert ls.focal_loss(logits, labels, gamma=half) == ls.focal_loss(logits, labels, gamma=0.5)
    ls.penalty.margin(logits, labels, strength=half, margin=one)
    ls.LabelSmoothingCrossEntropy(0.0)(logits, ls.smoothing.mix(labels, labels, half))
