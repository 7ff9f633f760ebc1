"""Schedules as functions, and as a policy that is stepped."""

from __future__ import annotations

import io
import pickle

import pytest
import torch

import labelsmooth as ls
from labelsmooth.smoothing import Scheduled, Uniform, schedule

SCHEDULES = {
    "constant": schedule.constant(0.1),
    "linear": schedule.linear(0.2, 0.0, 10),
    "cosine": schedule.cosine(0.0, 0.3, 10),
    "warm-up": schedule.warm_up(4, then=schedule.two_stage(0.1, 3)),
    "two stages": schedule.two_stage(0.1, 5),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_values_stay_in_the_range_and_pickle(name) -> None:
    """Spawned processes get the policy pickled, which a closure cannot be."""
    values = [SCHEDULES[name](step) for step in range(30)]
    assert all(0.0 <= value <= 0.3 for value in values)
    assert pickle.dumps(SCHEDULES[name])


def test_values_by_hand() -> None:
    assert [schedule.linear(0.0, 0.4, 4)(s) for s in (0, 1, 4, 9)] == pytest.approx([0.0, 0.1, 0.4, 0.4])
    assert schedule.cosine(0.4, 0.0, 4)(2) == pytest.approx(0.2)
    assert [SCHEDULES["warm-up"](s) for s in range(9)] == pytest.approx(
        [0.0, 0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.0, 0.0]
    )
    assert schedule.warm_up(2, then=0.3)(5) == 0.3


@pytest.mark.parametrize(
    "make",
    [lambda: schedule.linear(0.1, 1.5, 3), lambda: schedule.linear(0.1, 0.0, 0), lambda: schedule.two_stage(0.1, 2.5)],
)
def test_errors(make) -> None:
    with pytest.raises(ValueError, match=r"epsilon=1.5 is outside|steps=.* must be an integer of at least 1"):
        make()


class TestScheduled:
    def test_the_loss_follows(self) -> None:
        policy = Scheduled(Uniform(over="others"), schedule.linear(0.3, 0.0, 3))
        criterion = ls.LabelSmoothingCrossEntropy(policy)
        logits, labels = torch.randn(5, 4), torch.arange(5) % 4
        for epsilon in (0.3, 0.2, 0.1, 0.0, 0.0):
            expected = ls.cross_entropy(logits, labels, label_smoothing=Uniform(epsilon, "others"))
            torch.testing.assert_close(criterion(logits, labels), expected)
            policy.step()

    def test_resumes_at_its_step(self) -> None:
        first = ls.LabelSmoothingCrossEntropy(Scheduled(Uniform(), schedule.linear(0.3, 0.0, 3)))
        first.epsilon.step()
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = ls.LabelSmoothingCrossEntropy(Scheduled(Uniform(), schedule.linear(0.3, 0.0, 3)))
        second.load_state_dict(torch.load(file, weights_only=True))
        assert second.epsilon.epsilon == first.epsilon.epsilon == pytest.approx(0.2)

    def test_a_user_function_out_of_range_raises(self) -> None:
        policy = Scheduled(Uniform(), lambda step: 0.5 + step)
        with pytest.raises(ValueError, match=r"epsilon=1.5 is outside \[0, 1\]"):
            policy.step()
