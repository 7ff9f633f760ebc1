"""LabelSmoothingCrossEntropy with a policy, penalties, a mixture, and evaluation without smoothing."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls
from labelsmooth import penalty
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing import Prior, Uniform, mix

Z = 9 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 4, -100, 2, 1, 3, 3])
ADDED = [name for name, method in PENALTIES.items() if not method.in_place_of_cross_entropy]
LONE = [name for name, method in PENALTIES.items() if method.in_place_of_cross_entropy]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ADDED)
def test_a_penalty_is_added(name, reduction) -> None:
    function = PENALTIES[name].make()
    policy = Prior(0.2, [1, 2, 3, 4, 5])
    loss = ls.LabelSmoothingCrossEntropy(policy, reduction, penalty=function)(Z, Y)
    plain = ls.cross_entropy(Z, Y, reduction=reduction, label_smoothing=policy)
    torch.testing.assert_close(loss, plain + function(Z, Y, reduction=reduction))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LONE)
def test_a_loss_of_its_own_stands_alone(name, reduction) -> None:
    function = PENALTIES[name].make()
    loss = ls.LabelSmoothingCrossEntropy(0.0, reduction, penalty=function)(Z, Y)
    torch.testing.assert_close(loss, function(Z, Y, reduction=reduction))


@pytest.mark.parametrize("name", PENALTIES)
def test_a_strength_is_bound_by_name(name) -> None:
    method = PENALTIES[name]
    torch.testing.assert_close(method.make(0.5)(Z, Y), method.function(Z, Y, **{method.setting: 0.5}))
    default = method.make(method.strength)(Z, Y)
    if name != "focal":  # whose default gamma depends on the example
        torch.testing.assert_close(default, method.make()(Z, Y))


@pytest.mark.parametrize(
    "options",
    [
        dict(epsilon=0.1),
        dict(epsilon=Uniform(0.1)),
        dict(epsilon=0.0, weight=torch.ones(5)),
    ],
)
@pytest.mark.parametrize("name", LONE)
def test_a_loss_of_its_own_goes_with_nothing_else(name, options) -> None:
    function = PENALTIES[name].function
    with pytest.raises(ValueError, match=f"{function.__name__} is a loss in place of the cross-entropy"):
        ls.LabelSmoothingCrossEntropy(**options, penalty=function)
    with pytest.raises(ValueError, match="is a loss in place of the cross-entropy"):
        ls.LabelSmoothingCrossEntropy(0.0, penalty=[partial(function), penalty.margin])


def test_smoothing_set_later_is_refused_too() -> None:
    criterion = ls.LabelSmoothingCrossEntropy(0.0, penalty=penalty.focal)
    with pytest.raises(ValueError, match="focal is a loss in place of the cross-entropy"):
        criterion.epsilon = 0.1


def test_several_penalties_and_a_users_own() -> None:
    def length(input, target, *, ignore_index, reduction):
        each = input.square().sum(1) * (target != ignore_index)
        return each if reduction == "none" else each.sum()

    both = [partial(penalty.margin, strength=0.3, margin=6.0), length]
    criterion = ls.LabelSmoothingCrossEntropy(0.1, "sum", penalty=both)
    expected = ls.cross_entropy(Z, Y, reduction="sum", label_smoothing=0.1)
    expected = expected + penalty.margin(Z, Y, strength=0.3, margin=6.0, reduction="sum") + Z[Y >= 0].square().sum()
    torch.testing.assert_close(criterion(Z, Y), expected)
    assert "penalty=['margin(strength=0.3, margin=6.0)', 'length']" in repr(criterion)


def test_penalties_of_a_mixture() -> None:
    other = Y.flip(0)
    criterion = ls.LabelSmoothingCrossEntropy(0.1, "none", penalty=[penalty.poly1, penalty.max_suppression])
    loss = criterion(Z, mix(Y, other, 0.3))
    torch.testing.assert_close(loss, 0.3 * criterion(Z, Y) + 0.7 * criterion(Z, other))
    alone = ls.LabelSmoothingCrossEntropy(0.0, "none", penalty=penalty.focal)
    torch.testing.assert_close(alone(Z, mix(Y, other, 0.3)), 0.3 * alone(Z, Y) + 0.7 * alone(Z, other))


class TestEvaluation:
    @pytest.mark.parametrize(
        "options", [dict(epsilon=0.3, penalty=penalty.margin), dict(epsilon=0.0, penalty=penalty.focal)]
    )
    def test_without_smoothing_and_penalties(self, options) -> None:
        weight = None if options["epsilon"] == 0 else torch.rand(5, dtype=torch.float64)
        criterion = ls.LabelSmoothingCrossEntropy(**options, weight=weight, smooth_in_eval=False)
        assert criterion(Z, Y) != ls.cross_entropy(Z, Y, weight)
        criterion.eval()
        torch.testing.assert_close(criterion(Z, Y), F.cross_entropy(Z, Y, weight))
        assert "smooth_in_eval=False" in repr(criterion)

    def test_with_them_by_default(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(0.3, penalty=penalty.margin)
        training = criterion(Z, Y)
        assert torch.equal(criterion.eval()(Z, Y), training)


class TestEpsilonOfTheModule:
    def test_is_checked_whenever_it_is_set(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(0.1)
        criterion.epsilon = Uniform(0.2)
        criterion.epsilon = 0.3
        torch.testing.assert_close(criterion(Z, Y), ls.cross_entropy(Z, Y, label_smoothing=0.3))
        with pytest.raises(ValueError, match=r"epsilon=2 is outside \[0, 1\]"):
            criterion.epsilon = 2

    def test_a_policys_tables_move_with_the_module(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(Prior(0.1, [1, 1])).to("meta")
        assert criterion.epsilon.prior.device.type == "meta"
        assert criterion.state_dict() == {}  # what was given is not state

    def test_copies_and_pickles(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(
            Prior(0.1, [1, 2, 1, 1, 1]), penalty=partial(penalty.acls, margin=5.0)
        )
        assert torch.equal(copy.deepcopy(criterion)(Z, Y), criterion(Z, Y))
        assert pickle.dumps(criterion)  # as processes that are spawned get it

    def test_a_policy_shows_in_the_repr(self) -> None:
        text = repr(ls.LabelSmoothingCrossEntropy(Uniform(0.1, "others", exclude=[0])))
        assert "(epsilon): Uniform(epsilon=0.1, over='others', exclude=[0])" in text


def test_a_penalty_that_cannot_be_called_is_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"penalty=0\.1 cannot be called"):
        ls.LabelSmoothingCrossEntropy(0.1, penalty=0.1)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_model_learns_with_every_one(name) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 2, generator=generator)
    y = (x[:, 0] > 0).long()
    model = torch.nn.Linear(2, 2)
    criterion = ls.LabelSmoothingCrossEntropy(0.0, penalty=PENALTIES[name].make())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    assert (model(x).argmax(-1) == y).float().mean() > 0.9
