"""The laws of the penalties and of the losses by name, on random logits and labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from labelsmooth.penalty.registry import PENALTIES

few = settings(max_examples=20)  # of each penalty
each_penalty = pytest.mark.parametrize("name", PENALTIES)


@st.composite
def problems(draw):
    """Logits and labels in float64, with logits from tiny to large."""
    rows, classes = draw(st.integers(1, 6)), draw(st.integers(2, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (rows,), generator=generator)


def values(name, logits, labels):
    return PENALTIES[name].make()(logits, labels, reduction="none")


@each_penalty
@few
@given(problems(), st.randoms(use_true_random=False))
def test_permuting_the_classes_changes_nothing(name, problem, random) -> None:
    logits, labels = problem
    order = torch.tensor(random.sample(range(logits.shape[1]), logits.shape[1]))
    permuted = values(name, logits[:, order], order.argsort()[labels])
    torch.testing.assert_close(permuted, values(name, logits, labels))


@pytest.mark.parametrize("name", [name for name in PENALTIES if name not in ("acls", "logit-normalization")])
@few
@given(problems(), st.floats(-50.0, 50.0))
def test_adding_a_constant_to_the_logits_changes_nothing(name, problem, constant) -> None:
    logits, labels = problem
    torch.testing.assert_close(
        values(name, logits + constant, labels), values(name, logits, labels), rtol=1e-8, atol=1e-9
    )


@few
@given(problems(), st.floats(0.1, 50.0))
def test_the_length_of_the_logits_does_not_matter(problem, factor) -> None:
    logits, labels = problem
    stretched = values("logit-normalization", factor * logits, labels)
    torch.testing.assert_close(stretched, values("logit-normalization", logits, labels), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in PENALTIES if name != "confidence"])
@few
@given(problems())
def test_is_at_least_zero(name, problem) -> None:
    assert bool((values(name, *problem) >= 0).all())


@few
@given(problems())
def test_the_confidence_penalty_lies_between_minus_log_k_and_zero(problem) -> None:
    logits, labels = problem
    penalties = values("confidence", logits, labels) / 0.1
    assert bool((penalties <= 1e-12).all())
    assert bool((penalties >= -torch.tensor(float(logits.shape[1])).double().log() - 1e-12).all())


@pytest.mark.parametrize("name", ["focal", "dual-focal", "label-relaxation"])
@few
@given(problems())
def test_is_at_most_the_cross_entropy(name, problem) -> None:
    logits, labels = problem
    assert bool((values(name, logits, labels) <= F.cross_entropy(logits, labels, reduction="none") + 1e-12).all())


@each_penalty
@few
@given(problems())
def test_rows_are_independent(name, problem) -> None:
    logits, labels = problem
    together = values(name, logits, labels)
    for i in range(len(labels)):
        torch.testing.assert_close(together[i : i + 1], values(name, logits[i : i + 1], labels[i : i + 1]))
