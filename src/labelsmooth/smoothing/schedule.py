"""Schedules of epsilon: functions of the training step, and a policy that follows one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Integral

import torch
from torch import Tensor, nn

from labelsmooth.smoothing.base import Smoothing, name_of
from labelsmooth.target import Target, check_epsilon

__all__ = ["Schedule", "Scheduled", "constant", "cosine", "linear", "two_stage", "warm_up"]

Schedule = Callable[[int], float]
"""Epsilon as a function of the step, from 0; the functions below make the usual ones."""


def constant(epsilon: float) -> Schedule:
    """The same epsilon at every step.

    Example:
        >>> constant(0.1)(5)
        0.1
    """
    check_epsilon(epsilon, "epsilon")
    return partial(_constant, epsilon=epsilon)


def linear(start: float, end: float, steps: int) -> Schedule:
    """From ``start`` at step 0 to ``end`` at step ``steps`` and after, in a straight line.

    Example:
        >>> [round(linear(0.2, 0.0, steps=4)(step), 3) for step in range(6)]
        [0.2, 0.15, 0.1, 0.05, 0.0, 0.0]
    """
    _check(start, end, steps)
    return partial(_linear, start=start, end=end, steps=steps)


def cosine(start: float, end: float, steps: int) -> Schedule:
    """From ``start`` to ``end`` along half a cosine.

    Example:
        >>> [round(cosine(0.2, 0.0, steps=4)(step), 3) for step in range(6)]
        [0.2, 0.171, 0.1, 0.029, 0.0, 0.0]
    """
    _check(start, end, steps)
    return partial(_cosine, start=start, end=end, steps=steps)


def warm_up(steps: int, then: Schedule | float) -> Schedule:
    """From 0 in a straight line to the first epsilon of ``then``, which follows from there.

    Example:
        >>> schedule = warm_up(2, then=linear(0.2, 0.0, steps=2))
        >>> [round(schedule(step), 3) for step in range(6)]
        [0.0, 0.1, 0.2, 0.1, 0.0, 0.0]
    """
    after = then if callable(then) else constant(then)
    _check(0.0, after(0), steps)
    return partial(_warm_up, steps=steps, then=after)


def two_stage(epsilon: float, steps: int) -> Schedule:
    """Smooth for ``steps`` steps, then stop.

    Example:
        >>> [two_stage(0.1, steps=2)(step) for step in range(4)]
        [0.1, 0.1, 0.0, 0.0]

    Source: Xu et al., "Towards Understanding Label Smoothing", 2020 (TSLA).
    """
    _check(epsilon, 0.0, steps)
    return partial(_two_stage, epsilon=epsilon, steps=steps)


class Scheduled(nn.Module):
    """A policy whose epsilon follows a schedule; call :meth:`step` after each epoch or each batch.

    Epsilon is read at each call: nothing is compiled or built again for a new value.  The state_dict holds the step,
    so a resumed training continues where it was.

    Args:
        policy: a policy of ``labelsmooth.smoothing``; its epsilon is set from here on.
        schedule: epsilon as a function of the step, from 0.

    Example:
        >>> from labelsmooth.smoothing import Uniform
        >>> policy = Scheduled(Uniform(), two_stage(0.1, steps=2))
        >>> for epoch in range(4):
        ...     print(epoch, policy.epsilon)  # train with label_smoothing=policy here
        ...     policy.step()
        0 0.1
        1 0.1
        2 0.0
        3 0.0
    """

    def __init__(self, policy: Smoothing, schedule: Schedule) -> None:
        super().__init__()
        self.policy = policy
        self.schedule = schedule
        self._set(0)

    @property
    def epsilon(self) -> float | Tensor:
        """The current epsilon."""
        return self.policy.epsilon

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        target: Target = self.policy(labels, num_classes)
        return target

    def step(self) -> None:
        """Go to the next step, and step the inner policy too where it has steps (Online)."""
        self._set(self.count + 1)
        inner = getattr(self.policy, "step", None)
        if callable(inner):
            inner()

    def observe(self, logits: Tensor, target: Tensor, ignore_index: int = -100) -> None:
        """Call ``observe`` of the inner policy where it has one (Online)."""
        inner = getattr(self.policy, "observe", None)
        if callable(inner):
            inner(logits, target, ignore_index)

    def _set(self, count: int) -> None:
        self.count = count
        self.policy.epsilon = self.schedule(count)

    def __repr__(self) -> str:
        return f"Scheduled({self.policy}, {name_of(self.schedule)}, step={self.count})"

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.count, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self._set(int(state))


def _check(start: float, end: float, steps: int) -> None:
    check_epsilon(start, "epsilon")
    check_epsilon(end, "epsilon")
    if isinstance(steps, bool) or not isinstance(steps, int | Integral) or steps < 1:
        raise ValueError(f"steps={steps!r} must be an integer of at least 1.")


# At module level, so that partial() of them can be pickled to other processes, as a closure cannot.
def _constant(step: int, *, epsilon: float) -> float:
    return epsilon


def _linear(step: int, *, start: float, end: float, steps: int) -> float:
    part = min(step / steps, 1.0)
    return (1.0 - part) * start + part * end


def _cosine(step: int, *, start: float, end: float, steps: int) -> float:
    part = 0.5 - 0.5 * math.cos(math.pi * min(step / steps, 1.0))
    return (1.0 - part) * start + part * end


def _warm_up(step: int, *, steps: int, then: Schedule) -> float:
    return then(0) * step / steps if step < steps else then(step - steps)


def _two_stage(step: int, *, epsilon: float, steps: int) -> float:
    return epsilon if step < steps else 0.0
