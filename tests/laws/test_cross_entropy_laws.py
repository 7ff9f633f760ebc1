"""The laws of the smoothed cross-entropy, on random inputs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import labelsmooth as ls

CONVENTIONS = st.sampled_from(["all", "others"])
EPSILONS = st.floats(0.0, 1.0)


@st.composite
def problems(draw, min_classes: int = 2):
    """Logits and labels in float64, with logits from tiny to large."""
    rows, classes = draw(st.integers(1, 6)), draw(st.integers(min_classes, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0]))
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (rows,), generator=generator)


def dense(labels, num_classes, epsilon, over):
    return ls.smoothing.Uniform(epsilon, over)(labels, num_classes).dense(torch.float64)


@given(problems(), EPSILONS, CONVENTIONS)
def test_q_is_a_distribution(problem, epsilon, over) -> None:
    logits, labels = problem
    q = dense(labels, logits.shape[1], epsilon, over)
    assert bool((q >= -1e-15).all())
    torch.testing.assert_close(q.sum(-1), torch.ones(len(q), dtype=torch.float64))


@given(problems())
def test_epsilon_zero_is_plain_cross_entropy(problem) -> None:
    logits, labels = problem
    torch.testing.assert_close(ls.cross_entropy(logits, labels), F.cross_entropy(logits, labels), rtol=1e-13, atol=0)


@given(problems(), EPSILONS, CONVENTIONS, st.booleans())
def test_gradient_is_mass_p_minus_q(problem, epsilon, over, weighted) -> None:
    logits, labels = problem
    logits.requires_grad_()
    target = ls.smoothing.Uniform(epsilon, over)(labels, logits.shape[1])
    weight = torch.linspace(0.0, 2.0, logits.shape[1], dtype=torch.float64) if weighted else None
    if weight is not None:
        target = target.weighted(weight)
    policy = ls.smoothing.Uniform(epsilon, over)
    ls.cross_entropy(logits, labels, weight, reduction="sum", label_smoothing=policy).backward()
    q = target.dense(torch.float64)
    torch.testing.assert_close(
        logits.grad, q.sum(-1, keepdim=True) * logits.detach().softmax(-1) - q, rtol=1e-10, atol=1e-12
    )


@given(problems(), EPSILONS, CONVENTIONS)
def test_loss_is_the_cross_entropy_of_q(problem, epsilon, over) -> None:
    logits, labels = problem
    q = dense(labels, logits.shape[1], epsilon, over)
    loss = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=ls.smoothing.Uniform(epsilon, over))
    torch.testing.assert_close(loss, -(q * logits.log_softmax(-1)).sum(-1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss, ls.cross_entropy(logits, q, reduction="none"), rtol=1e-10, atol=1e-12)


@given(problems(), EPSILONS, CONVENTIONS)
def test_loss_is_at_least_the_entropy_of_q(problem, epsilon, over) -> None:
    logits, labels = problem
    entropy = torch.special.entr(dense(labels, logits.shape[1], epsilon, over).clamp(min=0)).sum(-1)
    loss = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=ls.smoothing.Uniform(epsilon, over))
    assert bool((loss >= entropy - 1e-12).all())


@given(problems(), EPSILONS, CONVENTIONS, st.randoms(use_true_random=False))
def test_permuting_the_classes_permutes_the_result(problem, epsilon, over, random) -> None:
    logits, labels = problem
    order = torch.tensor(random.sample(range(logits.shape[1]), logits.shape[1]))
    policy = ls.smoothing.Uniform(epsilon, over)
    before = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=policy)
    after = ls.cross_entropy(logits[:, order], order.argsort()[labels], reduction="none", label_smoothing=policy)
    torch.testing.assert_close(after, before)


@given(problems(), st.floats(0.0, 0.5))
def test_the_conventions_convert(problem, epsilon) -> None:
    logits, labels = problem
    classes = logits.shape[1]
    others = ls.cross_entropy(logits, labels, label_smoothing=ls.smoothing.Uniform(epsilon, "others"))
    everyone = ls.cross_entropy(logits, labels, label_smoothing=epsilon * classes / (classes - 1))
    torch.testing.assert_close(others, everyone)


@given(problems(min_classes=1), EPSILONS, st.sampled_from(["mean", "sum"]))
def test_module_is_the_linear_combination_of_the_formula(problem, epsilon, reduction) -> None:
    logits, labels = problem
    log_p = F.log_softmax(logits, -1)
    reduce = getattr(torch, reduction)
    smooth = reduce(-log_p.sum(-1)) / logits.shape[1]
    plain = F.nll_loss(log_p, labels, reduction=reduction)
    module = ls.LabelSmoothingCrossEntropy(epsilon, reduction)
    torch.testing.assert_close(module(logits, labels), (1 - epsilon) * plain + epsilon * smooth)


@pytest.mark.parametrize("over", ["all", "others"])
@pytest.mark.parametrize("weighted", [False, True])
@settings(max_examples=10)
@given(problems(), EPSILONS)
def test_first_and_second_derivatives(over, weighted, problem, epsilon) -> None:
    logits, labels = problem
    logits = logits.clamp(-5, 5).requires_grad_()
    weight = torch.linspace(0.5, 2.0, logits.shape[1], dtype=torch.float64) if weighted else None

    def loss(z):
        return ls.cross_entropy(z, labels, weight, label_smoothing=ls.smoothing.Uniform(epsilon, over))

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)
