"""Schedules as functions and as a policy that is stepped, and the registry of policies."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch

import labelsmooth as ls
from labelsmooth.smoothing import Scheduled, Uniform, schedule
from labelsmooth.smoothing.registry import POLICIES

SCHEDULES = {
    "constant": schedule.constant(0.1),
    "linear": schedule.linear(0.2, 0.0, 10),
    "cosine": schedule.cosine(0.0, 0.3, 10),
    "warm-up": schedule.warm_up(4, then=schedule.two_stage(0.1, 3)),
    "two stages": schedule.two_stage(0.1, 5),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_values_stay_in_the_range_and_can_be_sent_to_a_process(name) -> None:
    """Processes that are spawned get the policy pickled, which a closure is not."""
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

    def test_resumes_where_it_was(self) -> None:
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


class TestRegistry:
    @pytest.mark.parametrize("name", POLICIES)
    def test_a_model_learns_with_every_one(self, name) -> None:
        method = POLICIES[name]
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(90, 2, generator=generator)
        y = torch.bucketize(x[:, 0].contiguous(), torch.tensor([-0.4, 0.4]))
        model = torch.nn.Linear(2, 3)
        policy = method.make(method.epsilon, 3, y, 20)
        criterion = ls.LabelSmoothingCrossEntropy(policy)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(20):
            for rows in torch.arange(90).split(30):
                optimizer.zero_grad()
                criterion(model(x[rows]), y[rows]).backward()
                optimizer.step()
            if hasattr(policy, "step"):
                policy.step()
        assert (model(x).argmax(-1) == y).float().mean() > 0.8

    def test_every_entry_has_a_name_a_description_and_a_paper(self) -> None:
        for name, method in POLICIES.items():
            assert method.name == name
            assert method.line
            assert method.paper


def test_numpys_numbers_are_numbers() -> None:
    one, half = np.int64(1), np.float32(0.5)
    assert schedule.linear(half, 0.0, one)(one) == 0.0
    assert ls.smoothing.ordinal(np.int64(2), sharpness=half).shape == (2, 2)
    assert ls.smoothing.Online(np.int64(2)).table.shape == (2, 2)
    assert Uniform(half, exclude=[one]).exclude == (1,)
    logits, labels = torch.zeros(1, 3), torch.tensor([0])
    assert ls.focal_loss(logits, labels, gamma=half) == ls.focal_loss(logits, labels, gamma=0.5)
    ls.penalty.margin(logits, labels, strength=half, margin=one)
    ls.LabelSmoothingCrossEntropy(0.0)(logits, ls.smoothing.mix(labels, labels, half))
