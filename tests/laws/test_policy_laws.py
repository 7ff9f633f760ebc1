"""The laws of the policies, on random tables, labels and epsilons."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import labelsmooth as ls
from labelsmooth.smoothing import ClassMatrix, Online, Prior, Teacher, TeacherFree, Uniform, mix

EPSILONS = st.floats(0.0, 1.0)


@st.composite
def problems(draw):
    """Logits, labels, and a source of positive float64 tables, all of one size."""
    rows, classes = draw(st.integers(1, 6)), draw(st.integers(2, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def numbers(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 1e-3

    logits = 8 * numbers(rows, classes) - 4
    return logits, torch.randint(classes, (rows,), generator=generator), numbers


def online(epsilon, classes, numbers):
    policy = Online(classes, epsilon).double()
    policy.observe(4 * numbers(9, classes), torch.arange(9) % classes)
    policy.step()
    return policy


POLICIES = {
    "uniform": lambda e, n, k, numbers: Uniform(e),
    "others": lambda e, n, k, numbers: Uniform(e, "others"),
    "exclude": lambda e, n, k, numbers: Uniform(e, exclude=[0]),
    "prior": lambda e, n, k, numbers: Prior(e, numbers(k)),
    "matrix": lambda e, n, k, numbers: ClassMatrix(e, numbers(k, k)),
    "online": lambda e, n, k, numbers: online(e, k, numbers),
    "teacher": lambda e, n, k, numbers: Teacher(e, logits=numbers(n, k)),
    "teacher-free": lambda e, n, k, numbers: TeacherFree(e, temperature=2.0),
}
each_policy = pytest.mark.parametrize("name", POLICIES)
few = settings(max_examples=20)  # times eight policies


def made(name, epsilon, problem):
    logits, labels, numbers = problem
    return POLICIES[name](epsilon, len(labels), logits.shape[1], numbers)


@each_policy
@few
@given(problems(), EPSILONS)
def test_q_is_a_distribution(name, problem, epsilon) -> None:
    logits, labels, _ = problem
    target = made(name, epsilon, problem)(labels, logits.shape[1])
    q = target.dense(torch.float64)
    assert bool((q >= -1e-9).all())
    torch.testing.assert_close(q.sum(-1), torch.ones(len(q), dtype=torch.float64), rtol=1e-6, atol=0)


@each_policy
@few
@given(problems())
def test_epsilon_zero_is_plain_cross_entropy(name, problem) -> None:
    logits, labels, _ = problem
    loss = ls.cross_entropy(logits, labels, label_smoothing=made(name, 0.0, problem))
    torch.testing.assert_close(loss, ls.cross_entropy(logits, labels), rtol=1e-12, atol=1e-12)


@each_policy
@few
@given(problems(), EPSILONS)
def test_loss_is_linear_in_epsilon(name, problem, epsilon) -> None:
    logits, labels, _ = problem
    policy = made(name, 0.0, problem)

    def loss(e):
        policy.epsilon = e
        return ls.cross_entropy(logits, labels, label_smoothing=policy)

    torch.testing.assert_close(loss(epsilon), (1 - epsilon) * loss(0.0) + epsilon * loss(1.0), rtol=1e-6, atol=1e-6)


@each_policy
@few
@given(problems(), EPSILONS)
def test_a_label_equals_its_one_hot_row(name, problem, epsilon) -> None:
    logits, labels, _ = problem
    policy = made(name, epsilon, problem)
    onehot = torch.nn.functional.one_hot(labels, logits.shape[1]).double()
    by_label = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=policy)
    by_row = ls.cross_entropy(logits, onehot, reduction="none", label_smoothing=policy)
    torch.testing.assert_close(by_label, by_row, rtol=1e-6, atol=1e-6)


@each_policy
@few
@given(problems(), EPSILONS)
def test_loss_is_at_least_the_entropy_of_q(name, problem, epsilon) -> None:
    logits, labels, _ = problem
    policy = made(name, epsilon, problem)
    q = policy(labels, logits.shape[1]).dense(torch.float64).clamp(min=0)
    loss = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=policy)
    assert bool((loss >= torch.special.entr(q).sum(-1) - 1e-6).all())


@each_policy
@few
@given(problems(), EPSILONS, st.floats(0.0, 1.0))
def test_mixing_the_losses_is_the_loss_of_the_mixture(name, problem, epsilon, lam) -> None:
    logits, labels, _ = problem
    policy = made(name, epsilon, problem)
    other = labels.flip(0)
    q = lam * policy(labels, logits.shape[1]).dense(torch.float64)
    q = q + (1 - lam) * policy(other, logits.shape[1]).dense(torch.float64)
    criterion = ls.LabelSmoothingCrossEntropy(policy, "none").eval()  # eval: Online is not to learn from it
    loss = criterion(logits, mix(labels, other, lam))
    torch.testing.assert_close(loss, -(q * logits.log_softmax(-1)).sum(-1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "teacher"])
@few
@given(problems(), EPSILONS)
def test_rows_are_independent(name, problem, epsilon) -> None:
    logits, labels, _ = problem
    policy = made(name, epsilon, problem)
    together = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=policy)
    for i in range(len(labels)):
        alone = ls.cross_entropy(logits[i : i + 1], labels[i : i + 1], label_smoothing=policy)
        torch.testing.assert_close(together[i], alone)


@each_policy
@settings(max_examples=4)
@given(problems(), EPSILONS)
def test_first_and_second_derivatives(name, problem, epsilon) -> None:
    logits, labels, _ = problem
    policy = made(name, epsilon, problem)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ls.cross_entropy(z, labels, label_smoothing=policy), logits)
    assert torch.autograd.gradgradcheck(lambda z: ls.cross_entropy(z, labels, label_smoothing=policy), logits)
