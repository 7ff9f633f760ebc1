"""Every loss that a module stands for: the module is the function, with the same arguments, repr and errors."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch

import labelsmooth as ls
from labelsmooth.smoothing import mix

Z = 6 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 4, -100, 2, 1, 3, 3])
PAIRS = {
    ls.LabelSmoothingCrossEntropy: (ls.cross_entropy, {"label_smoothing": 0.2}),
    ls.FocalLoss: (ls.focal_loss, {"gamma": 2.0}),
    ls.DualFocalLoss: (ls.dual_focal_loss, {"gamma": 2.0}),
    ls.BrierWeightedLoss: (ls.brier_weighted_loss, {"gamma": 3.0}),
    ls.LabelRelaxationLoss: (ls.label_relaxation_loss, {"alpha": 0.3}),
    ls.LogitNormLoss: (ls.logit_norm_loss, {"temperature": 0.5}),
}
each_pair = pytest.mark.parametrize("module", PAIRS, ids=lambda module: module.__name__)


@each_pair
def test_module_takes_what_its_function_takes(module) -> None:
    function, _ = PAIRS[module]
    taken = inspect.signature(module).parameters
    expected = inspect.signature(function).parameters
    assert set(expected) - {"input", "target"} <= set(taken)
    for name in set(expected) & set(taken) - {"label_smoothing"}:  # 0.1 in the module, 0 in the function
        assert taken[name].default == expected[name].default, name


@each_pair
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_module_is_its_function(module, reduction) -> None:
    function, settings = PAIRS[module]
    options = {"ignore_index": 3, "reduction": reduction}
    criterion = module(**settings, **options)
    for target in (Y.clamp(min=0), mix(Y.clamp(min=0), Y.clamp(min=0).flip(0), 0.3)):
        assert torch.equal(criterion(Z, target), function(Z, target, **settings, **options))
    assert torch.equal(copy.deepcopy(criterion).eval()(Z, Y.clamp(min=0)), criterion(Z, Y.clamp(min=0)))
    assert pickle.dumps(criterion)  # as processes that are spawned get it


@each_pair
def test_repr_is_one_line_that_says_what_differs_from_the_defaults(module) -> None:
    _, settings = PAIRS[module]
    shown = ", ".join(f"{name}={value}" for name, value in settings.items())
    assert repr(module(**settings)) == f"{module.__name__}({shown})"
    text = f"{module.__name__}({shown}, ignore_index=3, reduction='sum')"
    assert repr(module(**settings, ignore_index=3, reduction="sum")) == text


@each_pair
def test_unknown_reduction_raises(module) -> None:
    with pytest.raises(ValueError, match="reduction='avg' is unknown"):
        module(reduction="avg")


@each_pair
def test_fastai_finds_its_activation_and_decodes(module) -> None:
    criterion = module()
    images = Z.T.reshape(1, 5, 7)
    torch.testing.assert_close(criterion.activation(images), images.softmax(1))
    assert torch.equal(criterion.decodes(images), images.argmax(1))
    assert criterion.decodes(Z[0]) == Z[0].argmax()
    assert criterion.y_int
