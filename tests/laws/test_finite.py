"""Every loss and penalty is finite, with a finite gradient, over the whole range of its settings, logits and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from cases import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st

import labelsmooth as ls
from labelsmooth import penalty
from labelsmooth.loss.brier_weighted import LARGEST_GAMMA
from labelsmooth.loss.by_row import LARGEST
from labelsmooth.smoothing import Uniform

epsilons = st.floats(0.0, 1.0)
amounts = st.sampled_from([0.0, 1e-6, 0.1, 1.0, 10.0, LARGEST])
gammas = st.one_of(
    st.sampled_from([0.0, 1e-6, 0.5, 1.0, 5.0, LARGEST]),
    st.floats(0.0, 6.0),
    st.lists(st.floats(0.0, 6.0), min_size=2, max_size=2).map(lambda g: [(0.2, g[0]), (1.0, g[1])]),
)


def linear(logits, labels, **options):
    """The logits as features under the identity."""
    return ls.linear_cross_entropy(logits, torch.eye(logits.shape[1], dtype=logits.dtype), labels, **options)


def binary(logits, labels, **options):
    targets = torch.nn.functional.one_hot(labels, logits.shape[1])
    return ls.binary_cross_entropy_with_logits(logits, targets, **options)


def vocab_parallel(logits, labels, **options):
    return ls.vocab_parallel_cross_entropy(logits, labels, **options)


def vocab_parallel_linear(logits, labels, **options):
    identity = torch.eye(logits.shape[1], dtype=logits.dtype)
    return ls.vocab_parallel_linear_cross_entropy(logits, identity, labels, **options)


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    """A group of one process for the vocabulary-parallel losses."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


# Each loss, and strategies for its settings.
LOSSES: dict[str, tuple[Callable[..., torch.Tensor], dict[str, st.SearchStrategy]]] = {
    "cross_entropy": (ls.cross_entropy, {"label_smoothing": epsilons, "z_loss": st.floats(0.0, 1.0)}),
    "over others": (ls.cross_entropy, {"label_smoothing": epsilons.map(lambda e: Uniform(e, "others"))}),
    "linear_cross_entropy": (linear, {"label_smoothing": epsilons}),
    "vocab_parallel_cross_entropy": (vocab_parallel, {"label_smoothing": epsilons}),
    "vocab_parallel_linear_cross_entropy": (vocab_parallel_linear, {"label_smoothing": epsilons}),
    "binary": (binary, {"label_smoothing": st.one_of(epsilons, st.tuples(epsilons, epsilons))}),
    "focal_loss": (ls.focal_loss, {"gamma": gammas}),
    "dual_focal_loss": (ls.dual_focal_loss, {"gamma": amounts}),
    "brier_weighted_loss": (ls.brier_weighted_loss, {"gamma": st.sampled_from([0.0, 1e-6, 0.5, 2.0, LARGEST_GAMMA])}),
    "label_relaxation_loss": (
        ls.label_relaxation_loss,
        {"alpha": st.one_of(epsilons, st.sampled_from([0.0, 1e-9, 1e-30, 1 - 1e-9, 1.0]))},
    ),
    "logit_norm_loss": (ls.logit_norm_loss, {"temperature": st.sampled_from([1e-6, 1e-3, 0.04, 1.0, LARGEST])}),
    "margin": (
        penalty.margin,
        {"strength": amounts, "margin": amounts, "over_classes": st.sampled_from(["mean", "sum"])},
    ),
    "acls": (penalty.acls, {"strength": amounts, "margin": amounts, "predicted": amounts, "others": amounts}),
    "max_suppression": (penalty.max_suppression, {"strength": amounts}),
    "confidence": (penalty.confidence, {"strength": amounts, "threshold": st.one_of(st.none(), amounts)}),
    "poly1": (penalty.poly1, {"strength": st.one_of(st.floats(-1.0, 6.0), amounts)}),
}


@st.composite
def problems(draw):
    """Logits of any size up to 1e4, with ties, and labels."""
    rows, classes = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    logit = st.one_of(st.sampled_from([0.0, 17.0, -17.0, 104.0, 1e4, -1e4]), st.floats(-1e4, 1e4), st.floats(-9, 9))
    logits = draw(st.lists(logit, min_size=rows * classes, max_size=rows * classes))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    return torch.tensor(logits, dtype=torch.float64).reshape(rows, classes), torch.tensor(labels)


def value_and_gradient(loss, logits, labels):
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels)
    value.backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25)
@given(problems(), st.data())
def test_value_and_gradient_are_finite(name, dtype, problem, data) -> None:
    function, strategies = LOSSES[name]
    logits, labels = problem
    if name == "over others" and logits.shape[1] == 1:
        return  # refused: there is no other class
    chosen = {setting: data.draw(strategy, setting) for setting, strategy in strategies.items()}
    loss = partial(function, reduction=data.draw(st.sampled_from(["mean", "sum"])), **chosen)
    value, gradient = value_and_gradient(loss, logits.to(dtype), labels)
    wide = value_and_gradient(loss, logits.to(dtype).double(), labels)
    assert bool(value.isfinite())
    # Some true gradients are beyond the largest float16.
    assert bool((gradient.isfinite() | (wide[1].abs() > torch.finfo(dtype).max)).all())
    assert bool(wide[1].isfinite().all())
