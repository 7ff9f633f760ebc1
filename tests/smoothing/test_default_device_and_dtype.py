"""Policies made and used under another default device or dtype of PyTorch: the same targets in full precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import labelsmooth as ls
from labelsmooth import smoothing
from labelsmooth.smoothing import ClassMatrix, Online, Prior, Scheduled, Teacher, TeacherFree, Uniform, schedule

K = 4
LOGITS = 3 * torch.randn(5, K, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 2, 1, 1])
TREE = {"cat": "animal", "dog": "animal", "car": "thing", "ship": "thing", "animal": "root", "thing": "root"}
VECTORS, COUNTS = torch.rand(K, 3), torch.randint(9, (K, K)) + torch.eye(K, dtype=torch.int64)


def online() -> Online:
    policy = Online(K, 0.3)
    policy.observe(LOGITS, LOGITS.argmax(-1))
    policy.step()
    return policy


POLICIES: dict[str, Callable[[], torch.nn.Module]] = {
    "uniform": lambda: Uniform(0.1),
    "others, one excluded": lambda: Uniform(0.1, "others", exclude=[3]),
    "prior of a list": lambda: Prior(0.1, [0.3, 0.3, 0.2, 0.1]),
    "prior of labels": lambda: Prior.from_labels(0.1, [0, 1, 1, 2, 3, 3, 3], K, pseudocount=0.1),
    "matrix of a list": lambda: ClassMatrix(0.1, [[1, 2, 3, 4]] * K),
    "ordinal": lambda: ClassMatrix(0.1, smoothing.ordinal(K)),
    "ordinal by ranks": lambda: ClassMatrix(0.1, smoothing.ordinal([1.0, 2.3, 4.7, 9.9], distance="log")),
    "gaussian": lambda: ClassMatrix(0.1, smoothing.gaussian(K)),
    "binomial": lambda: ClassMatrix(0.1, smoothing.binomial(K)),
    "poisson": lambda: ClassMatrix(0.1, smoothing.poisson(K)),
    "beta": lambda: ClassMatrix(0.1, smoothing.beta(K)),
    "taxonomy": lambda: ClassMatrix(0.1, smoothing.taxonomy(TREE, ["cat", "dog", "car", "ship"])),
    "embeddings": lambda: ClassMatrix(0.1, smoothing.embeddings(VECTORS)),
    "confusion": lambda: ClassMatrix(0.1, smoothing.confusion(COUNTS, pseudocount=0.1)),
    "online": online,
    "teacher": lambda: Teacher(0.1, logits=LOGITS.flip(0)),
    "teacher-free": lambda: TeacherFree(0.1),
    "scheduled": lambda: Scheduled(Uniform(), schedule.constant(0.1)),
}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# "meta" is every device that is not the logits'.
DEFAULTS = {"device": lambda: torch.device("meta"), "dtype": lambda: default_dtype(torch.bfloat16)}


def loss_and_gradient(policy: torch.nn.Module, target: Tensor) -> tuple[Tensor, Tensor | None]:
    logits = LOGITS.clone().requires_grad_()
    loss = ls.cross_entropy(logits, target, label_smoothing=policy)
    loss.backward()
    return loss.detach(), logits.grad


@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize("name", POLICIES)
def test_made_under_it(name: str, default: str) -> None:
    expected = POLICIES[name]()
    with DEFAULTS[default]():
        policy = POLICIES[name]()
    for key, table in expected.named_buffers():
        assert torch.equal(policy.get_buffer(key), table), key
        assert policy.get_buffer(key).dtype == table.dtype, key
    assert torch.equal(loss_and_gradient(policy, LABELS)[0], loss_and_gradient(expected, LABELS)[0])
    if isinstance(policy, Online | Scheduled):
        with DEFAULTS[default]():
            state = policy.state_dict()
        expected.load_state_dict(state)
        assert torch.equal(loss_and_gradient(policy, LABELS)[0], loss_and_gradient(expected, LABELS)[0])


@pytest.mark.parametrize("name", POLICIES)
def test_used_under_a_default_device(name: str) -> None:
    policy = POLICIES[name]()
    expected = policy(LABELS, K).dense()
    with torch.device("meta"):
        q = policy(LABELS, K).dense()
    assert torch.equal(q, expected)


LABELS_ONLY = ("others, one excluded",)
TARGETS = [(name, "labels") for name in POLICIES]
TARGETS += [(name, "probabilities") for name in POLICIES if name not in LABELS_ONLY]


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_used_under_a_default_dtype(name: str, target: str) -> None:
    given = LABELS if target == "labels" else LOGITS.flip(0).softmax(-1)
    policy = POLICIES[name]()
    expected = loss_and_gradient(policy, given)
    with default_dtype(torch.bfloat16):
        mine = loss_and_gradient(policy, given)
    torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)
