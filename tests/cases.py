"""The tables of cases for every test of a loss: calls as F.cross_entropy takes them, and the smoothing policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from labelsmooth import smoothing

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    """A call of cross_entropy; ``make`` gives the same numbers every time, and fresh tensors."""

    name: str
    shape: tuple[int, ...]  # of the logits: (K,), (N, K) or (N, K, d1, ...)
    target: str = "index"  # or "probabilities"
    weighted: bool = False
    ignored: bool = False  # about a third of the labels
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        generator = torch.Generator().manual_seed(len(self.name))
        class_dim = 0 if len(self.shape) == 1 else 1
        num_classes = self.shape[class_dim]
        logits = (3 * torch.randn(self.shape, generator=generator, dtype=torch.float64)).to(dtype)
        options = dict(self.options)
        if self.target == "probabilities":
            target = torch.rand(self.shape, generator=generator, dtype=torch.float64).softmax(class_dim).to(dtype)
        else:
            labels = self.shape[:class_dim] + self.shape[class_dim + 1 :]
            target = torch.randint(num_classes, labels, generator=generator)
            if self.ignored:
                target = target.masked_fill(
                    torch.rand(labels, generator=generator) < 0.3, options.get("ignore_index", -100)
                )
        if self.weighted:
            options["weight"] = torch.rand(num_classes, generator=generator, dtype=torch.float64).to(dtype)
        return logits, target, options


CASES = [
    Case("one example", (5,)),
    Case("rows", (7, 5)),
    Case("rows, smoothed", (7, 5), options={"label_smoothing": 0.1}),
    Case("epsilon one", (7, 5), options={"label_smoothing": 1.0}),
    Case("one class", (4, 1), options={"label_smoothing": 0.3}),
    Case("dense prediction", (2, 5, 3, 4), options={"label_smoothing": 0.2}),
    Case("sequence, some ignored", (3, 5, 6), ignored=True, options={"label_smoothing": 0.2}),
    Case("ignored by a class index", (9, 5), ignored=True, options={"label_smoothing": 0.1, "ignore_index": 2}),
    Case("class weights", (7, 5), weighted=True),
    Case("class weights, smoothed", (7, 5), weighted=True, options={"label_smoothing": 0.1}),
    Case("weights and ignored", (11, 5), weighted=True, ignored=True, options={"label_smoothing": 0.3}),
    Case("probabilities", (7, 5), target="probabilities"),
    Case("probabilities of one example", (5,), target="probabilities", options={"label_smoothing": 0.1}),
    Case("probabilities, weighted and smoothed", (4, 5, 3), "probabilities", True, options={"label_smoothing": 0.2}),
    Case("many classes", (3, 1001), options={"label_smoothing": 0.1}),
    Case("empty batch", (0, 5), options={"label_smoothing": 0.1}),
]
REDUCTIONS = ("mean", "sum", "none")


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """The same float64 numbers in (0, 1) every time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(epsilon: torch.Tensor) -> torch.Tensor:
    return epsilon.reshape(-1, 1)


@dataclass(frozen=True)
class PolicyCase:
    """A smoothing policy, and its target distributions written out.

    ``make(labels, K)`` builds the policy for labels of this shape; ``dense(y, K)`` is q by the formula, in float64,
    for y [N, K]: one-hot rows, or probabilities where the policy takes them.
    """

    name: str
    make: Callable[[torch.Tensor, int], Any]
    dense: Callable[[torch.Tensor, int], torch.Tensor]
    probabilities: bool = True


def _uniform_but(y: torch.Tensor, left_out: tuple[int, ...]) -> torch.Tensor:
    base = torch.ones(y.shape[1], dtype=torch.float64)
    base[list(left_out)] = 0
    return base / base.sum()


def _others(y: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """The base without each row's label, scaled to 1."""
    rows = (base > 0) * (1 - y)
    return rows / rows.sum(-1, keepdim=True)


def _rank_softmax(k: int, scale: float, power: int) -> torch.Tensor:
    r = torch.arange(k, dtype=torch.float64)
    return (-scale * (r[:, None] - r).abs() ** power).softmax(-1)


def _seen_online(k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions of which row i belongs to class i % K and is right; class 0 is never right."""
    labels = torch.arange(3 * k) % k
    logits = 3 * numbers(3 * k, k, seed=4) + 4 * torch.nn.functional.one_hot(labels, k)
    logits[labels == 0, 0] = -1.0
    return logits, labels


def _online(labels: torch.Tensor, k: int) -> smoothing.Online:
    policy = smoothing.Online(k, 0.4).double()
    policy.observe(*_seen_online(k))
    policy.step()
    return policy


def _online_table(k: int) -> torch.Tensor:
    logits, labels = _seen_online(k)
    rows = [logits[labels == c].softmax(-1).mean(0) for c in range(k)]
    return torch.stack([torch.full((k,), 1 / k, dtype=torch.float64), *rows[1:]])


def _teacher_free(y: torch.Tensor, k: int) -> torch.Tensor:
    return 0.7 * y + 0.3 * ((0.9 * y + 0.1 / (k - 1) * (1 - y)) / 2).softmax(-1)


POLICIES = [
    PolicyCase("uniform", lambda n, k: smoothing.Uniform(0.1), lambda y, k: 0.9 * y + 0.1 / k),
    PolicyCase(
        "uniform over others",
        lambda n, k: smoothing.Uniform(0.3, "others"),
        lambda y, k: 0.7 * y + 0.3 * (1 - y) / (k - 1),
    ),
    PolicyCase(
        "uniform, two classes excluded",
        lambda n, k: smoothing.Uniform(0.2, exclude=[0, 3]),
        lambda y, k: 0.8 * y + 0.2 * _uniform_but(y, (0, 3)),
    ),
    PolicyCase(
        "uniform over others, two classes excluded",
        lambda n, k: smoothing.Uniform(torch.tensor(0.2, dtype=torch.float64), "others", exclude=[0, 3]),
        lambda y, k: 0.8 * y + 0.2 * _others(y, _uniform_but(y, (0, 3))),
        probabilities=False,
    ),
    PolicyCase("negative", lambda n, k: smoothing.Uniform(-0.5, allow_negative=True), lambda y, k: 1.5 * y - 0.5 / k),
    PolicyCase(
        "an epsilon for each label",
        lambda n, k: smoothing.Uniform(numbers(*n.shape, seed=1)),
        lambda y, k: (1 - column(numbers(len(y), seed=1))) * y + column(numbers(len(y), seed=1)) / k,
    ),
    PolicyCase(
        "prior",
        lambda n, k: smoothing.Prior(0.25, numbers(k, seed=2)),
        lambda y, k: 0.75 * y + 0.25 * numbers(k, seed=2) / numbers(k, seed=2).sum(),
    ),
    PolicyCase(
        "prior, an epsilon for each label",
        lambda n, k: smoothing.Prior(numbers(*n.shape, seed=1), numbers(k, seed=2)),
        lambda y, k: (
            (1 - column(numbers(len(y), seed=1))) * y
            + column(numbers(len(y), seed=1)) * numbers(k, seed=2) / numbers(k, seed=2).sum()
        ),
    ),
    PolicyCase(
        "class matrix",
        lambda n, k: smoothing.ClassMatrix(0.6, numbers(k, k, seed=3)),
        lambda y, k: 0.4 * y + 0.6 * y @ (numbers(k, k, seed=3) / numbers(k, k, seed=3).sum(-1, keepdim=True)),
    ),
    PolicyCase(
        "ordinal",
        lambda n, k: smoothing.ClassMatrix(1.0, smoothing.ordinal(torch.arange(1.0, k + 1).double())),
        lambda y, k: y @ _rank_softmax(k, 1.0, 1),
    ),
    PolicyCase(
        "gaussian",
        lambda n, k: smoothing.ClassMatrix(0.5, smoothing.gaussian(torch.arange(1.0, k + 1).double(), sigma=2.0)),
        lambda y, k: 0.5 * y + 0.5 * y @ _rank_softmax(k, 0.125, 2),
    ),
    PolicyCase("online", _online, lambda y, k: 0.6 * y + 0.4 * y @ _online_table(k)),
    PolicyCase(
        "teacher",
        lambda n, k: smoothing.Teacher(
            0.7,
            logits=(9 * numbers(n.numel(), k, seed=5)).reshape(*n.shape, k).movedim(-1, min(n.dim(), 1)),
            temperature=3.0,
        ),
        lambda y, k: 0.3 * y + 0.7 * (3 * numbers(len(y), k, seed=5)).softmax(-1),
    ),
    PolicyCase(
        "teacher-free",
        lambda n, k: smoothing.TeacherFree(0.3, correct=0.9, temperature=2.0),
        _teacher_free,
        probabilities=False,
    ),
    PolicyCase(
        "scheduled",
        lambda n, k: smoothing.Scheduled(smoothing.Uniform(), smoothing.schedule.constant(0.2)),
        lambda y, k: 0.8 * y + 0.2 / k,
    ),
]
