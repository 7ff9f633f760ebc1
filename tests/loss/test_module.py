"""LabelSmoothingCrossEntropy: its names for the smoothing, policies, penalties, mixtures and evaluation."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import labelsmooth as ls
from labelsmooth import penalty
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing import Online, Prior, Scheduled, Uniform, mix, schedule

Z = 9 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 4, -100, 2, 1, 3, 3])
ADDED = [name for name, entry in PENALTIES.items() if entry.loss is None]


class TestNamesOfTheSmoothing:
    def test_first_argument_label_smoothing_and_epsilon_are_one(self) -> None:
        expected = ls.cross_entropy(Z, Y, label_smoothing=0.2)
        for criterion in (
            ls.LabelSmoothingCrossEntropy(0.2),
            ls.LabelSmoothingCrossEntropy(label_smoothing=0.2),
            ls.LabelSmoothingCrossEntropy(epsilon=0.2),
        ):
            assert torch.equal(criterion(Z, Y), expected)
            assert criterion.epsilon == criterion.label_smoothing == 0.2
        assert ls.LabelSmoothingCrossEntropy().epsilon == 0.1

    @pytest.mark.parametrize(
        "make",
        [
            lambda: ls.LabelSmoothingCrossEntropy(0.1, epsilon=0.1),
            lambda: ls.LabelSmoothingCrossEntropy(label_smoothing=0.1, epsilon=0.2),
        ],
    )
    def test_both_raise(self, make) -> None:
        with pytest.raises(TypeError, match="label_smoothing and epsilon are two names of one argument"):
            make()

    @pytest.mark.parametrize("weight", [torch.ones(5), torch.tensor(0.1), nn.Parameter(torch.ones(5))])
    def test_a_tensor_as_first_argument_raises(self, weight) -> None:
        """Ported from nn.CrossEntropyLoss(weight), it would be read as epsilons."""
        with pytest.raises(TypeError, match="Give class weights as weight="):
            ls.LabelSmoothingCrossEntropy(weight)

    @pytest.mark.parametrize("name", ["label_smoothing", "epsilon"])
    def test_tensors_by_keyword(self, name) -> None:
        epsilons = torch.linspace(0.0, 1.0, 7, dtype=torch.float64)
        for epsilon in (epsilons, torch.tensor(0.3)):
            criterion = ls.LabelSmoothingCrossEntropy(**{name: epsilon})
            assert torch.equal(criterion(Z, Y), ls.cross_entropy(Z, Y, label_smoothing=epsilon))

    @pytest.mark.parametrize("name", ["label_smoothing", "epsilon"])
    @pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "0.1"])
    def test_a_bad_value_raises_under_the_name_that_was_given(self, name, value) -> None:
        with pytest.raises((ValueError, TypeError), match=f"^{name}="):
            ls.LabelSmoothingCrossEntropy(**{name: value})


class TestEpsilonSetLater:
    @pytest.mark.parametrize("name", ["label_smoothing", "epsilon"])
    def test_any_kind_takes_the_place_of_any_other(self, name) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(0.1)
        kinds = (0.3, torch.tensor(0.2), nn.Parameter(torch.tensor(0.4)), Uniform(0.5), lambda y, k: Uniform(0.6)(y, k))
        for first in kinds:
            for second in kinds:
                setattr(criterion, name, first)
                setattr(criterion, name, second)
                assert criterion.epsilon is second
                assert criterion.label_smoothing is second
                torch.testing.assert_close(criterion(Z, Y), ls.cross_entropy(Z, Y, label_smoothing=second))
                assert len(list(criterion.parameters())) == isinstance(second, nn.Parameter)
                assert len(list(criterion.children())) == isinstance(second, nn.Module)

    def test_a_bad_value_raises_and_changes_nothing(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(Uniform(0.2))
        with pytest.raises(ValueError, match=r"epsilon=2 is outside \[0, 1\]"):
            criterion.epsilon = 2
        assert criterion.epsilon.epsilon == 0.2

    def test_a_tensor_moves_with_the_module_and_is_not_saved(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(epsilon=torch.tensor([0.1, 0.2]))
        assert criterion.state_dict() == {}
        assert criterion.double().epsilon.dtype == torch.float64
        assert criterion.to("meta").epsilon.device.type == "meta"
        assert list(criterion.buffers()) == []  # which DistributedDataParallel would overwrite by those of rank 0

    def test_a_parameter_is_learned(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(epsilon=nn.Parameter(torch.tensor(0.1, dtype=torch.float64)))
        criterion(Z, Y).backward()
        (parameter,) = criterion.parameters()
        smooth, plain = (ls.cross_entropy(Z, Y, label_smoothing=e) for e in (1.0, 0.0))
        torch.testing.assert_close(parameter.grad, smooth - plain)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_every_argument_of_the_function_reaches_it(reduction) -> None:
    mask = torch.tensor([True, True, True, True, False])
    labels = torch.where(Y == 4, 0, Y).masked_fill(Y < 0, 2)
    options = dict(weight=torch.rand(5, dtype=torch.float64), ignore_index=1, class_mask=mask, z_loss=0.3, check=True)
    criterion = ls.LabelSmoothingCrossEntropy(0.2, reduction, return_nll=True, **options)
    loss, nll = criterion(Z, labels)
    expected = ls.cross_entropy(Z, labels, reduction=reduction, label_smoothing=0.2, return_nll=True, **options)
    assert torch.equal(loss, expected[0])
    assert torch.equal(nll, expected[1])
    assert repr(criterion).endswith("weight=[5], class_mask=[5], z_loss=0.3, return_nll=True, check=True)")


def test_inplace_overwrites_the_logits_by_their_gradient() -> None:
    leaf = Z.clone().requires_grad_()
    logits = leaf * 1
    ls.LabelSmoothingCrossEntropy(0.2, inplace=True)(logits, Y).backward()
    (expected,) = torch.autograd.grad(ls.cross_entropy(leaf, Y, label_smoothing=0.2), leaf)
    torch.testing.assert_close(leaf.grad, expected)
    assert not torch.equal(logits, leaf)


def test_weight_and_class_mask_move_with_the_module() -> None:
    criterion = ls.LabelSmoothingCrossEntropy(weight=torch.ones(3), class_mask=torch.ones(3) > 0).to("meta")
    assert criterion.weight.device.type == criterion.class_mask.device.type == "meta"
    assert list(criterion.state_dict()) == ["weight"]  # as nn.CrossEntropyLoss has it


@pytest.mark.parametrize("name", ["weight", "class_mask"])
def test_a_list_in_the_place_of_a_tensor_raises(name) -> None:
    with pytest.raises(TypeError, match=f"{name} is a list; give a torch.Tensor"):
        ls.LabelSmoothingCrossEntropy(**{name: [1.0, 2.0]})


class TestPolicies:
    def test_tables_move_with_the_module_and_are_not_saved(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(Prior(0.1, [1, 1])).to("meta")
        assert criterion.epsilon.prior.device.type == "meta"
        assert criterion.state_dict() == {}

    def test_online_observes_valid_classes_only_and_before_the_logits_are_overwritten(self) -> None:
        mask = torch.tensor([True, True, False, True])
        logits, labels = torch.tensor([[2.0, 0.0, 9.0, 1.0], [0.0, 3.0, torch.nan, 1.0]]), torch.tensor([0, 1])
        expected = torch.full((4, 4), 0.25)
        for i in range(2):
            expected[i] = torch.where(mask, logits[i], -torch.inf).softmax(-1)
        for class_mask in (mask, mask.expand(2, 4)):
            criterion = ls.LabelSmoothingCrossEntropy(Online(4), class_mask=class_mask, inplace=True)
            criterion(logits.clone().requires_grad_() * 1, labels)
            criterion.epsilon.step()
            torch.testing.assert_close(criterion.epsilon.table, expected)

    def test_repr_is_one_line(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(Uniform(0.1, "others", exclude=[0]), "sum")
        policy = "Uniform(epsilon=0.1, over='others', exclude=[0])"
        assert repr(criterion) == f"LabelSmoothingCrossEntropy(label_smoothing={policy}, reduction='sum')"
        scheduled = Scheduled(Uniform(), schedule.linear(0.2, 0.0, steps=4))
        policy = "Scheduled(Uniform(epsilon=0.2, over='all'), linear(start=0.2, end=0.0, steps=4), step=0)"
        assert repr(ls.LabelSmoothingCrossEntropy(scheduled)) == f"LabelSmoothingCrossEntropy(label_smoothing={policy})"
        assert repr(ls.LabelSmoothingCrossEntropy(epsilon=torch.rand(3))) == (
            "LabelSmoothingCrossEntropy(label_smoothing=[3])"
        )


class TestPenalties:
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("name", ADDED)
    def test_each_is_added(self, name, reduction) -> None:
        function = PENALTIES[name].make()
        policy = Prior(0.2, [1, 2, 3, 4, 5])
        loss = ls.LabelSmoothingCrossEntropy(policy, reduction, penalty=function)(Z, Y)
        plain = ls.cross_entropy(Z, Y, reduction=reduction, label_smoothing=policy)
        torch.testing.assert_close(loss, plain + function(Z, Y, reduction=reduction))

    def test_several_and_one_of_the_user(self) -> None:
        def length(input, target, *, ignore_index, reduction):
            squares = input.square().sum(1) * (target != ignore_index)
            return squares if reduction == "none" else squares.sum()

        both = [partial(penalty.margin, strength=0.3, margin=6.0), length]
        criterion = ls.LabelSmoothingCrossEntropy(0.1, "sum", penalty=both, return_nll=True)
        expected = ls.cross_entropy(Z, Y, reduction="sum", label_smoothing=0.1)
        expected = expected + penalty.margin(Z, Y, strength=0.3, margin=6.0, reduction="sum")
        loss, nll = criterion(Z, Y)
        torch.testing.assert_close(loss, expected + Z[Y >= 0].square().sum())
        torch.testing.assert_close(nll, ls.cross_entropy(Z, Y, reduction="sum"))
        assert "penalty=[margin(strength=0.3, margin=6.0), length]" in repr(criterion)
        criterion.return_nll = False
        other = Y.flip(0)
        mixed = 0.3 * criterion(Z, Y) + 0.7 * criterion(Z, other)
        torch.testing.assert_close(criterion(Z, mix(Y, other, 0.3)), mixed)

    @pytest.mark.parametrize("options", [dict(inplace=True), dict(class_mask=torch.ones(5) > 0)])
    def test_with_overwritten_or_invalid_logits_raise(self, options) -> None:
        with pytest.raises(ValueError, match="a penalty reads all the logits"):
            ls.LabelSmoothingCrossEntropy(penalty=penalty.margin, **options)

    def test_what_cannot_be_called_raises(self) -> None:
        with pytest.raises(TypeError, match=r"penalty=0\.1 cannot be called"):
            ls.LabelSmoothingCrossEntropy(0.1, penalty=0.1)


class TestEvaluation:
    def test_without_smoothing_z_loss_and_penalties_where_asked_for(self) -> None:
        weight = torch.rand(5, dtype=torch.float64)
        options = dict(weight=weight, z_loss=0.1, penalty=penalty.margin, smooth_in_eval=False)
        criterion = ls.LabelSmoothingCrossEntropy(0.3, **options)
        assert criterion(Z, Y) != ls.cross_entropy(Z, Y, weight)
        criterion.eval()
        torch.testing.assert_close(criterion(Z, Y), F.cross_entropy(Z, Y, weight))
        assert "smooth_in_eval=False" in repr(criterion)
        mixture = mix(Y, Y.flip(0), 0.3, Uniform(0.3))
        unsmoothed = ls.cross_entropy(Z, mix(Y, Y.flip(0), 0.3), weight)
        torch.testing.assert_close(criterion(Z, mixture), unsmoothed)

    def test_with_them_by_default(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(0.3, penalty=penalty.margin)
        training = criterion(Z, Y)
        assert torch.equal(criterion.eval()(Z, Y), training)


@pytest.mark.parametrize("smoothing", [0.2, Uniform(0.2), Prior(0.2, [1, 2, 3, 4, 5])], ids=repr)
def test_is_exported(smoothing) -> None:
    criterion = ls.LabelSmoothingCrossEntropy(smoothing)
    program = torch.export.export(criterion, (Z, Y))
    torch.testing.assert_close(program.module()(Z, Y), criterion(Z, Y))


def test_copies_and_pickles() -> None:
    criterion = ls.LabelSmoothingCrossEntropy(Prior(0.1, [1, 2, 1, 1, 1]), penalty=partial(penalty.acls, margin=5.0))
    assert torch.equal(copy.deepcopy(criterion)(Z, Y), criterion(Z, Y))
    assert pickle.dumps(criterion)  # as processes that are spawned get it


def test_a_small_model_learns_with_it() -> None:
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    model = nn.Linear(2, 2)
    criterion = ls.LabelSmoothingCrossEntropy(0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    assert (model(x).argmax(-1) == y).float().mean() > 0.95
