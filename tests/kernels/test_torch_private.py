"""Where PyTorch lacks a private name its replacement gives the same losses and gradients."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
import torch
from torch.overrides import TorchFunctionMode

import labelsmooth as ls
from labelsmooth import _torch_private
from labelsmooth.kernels import choose, linear, mixture, rows, usual
from labelsmooth.loss import arguments

NAMES = {
    "_get_current_graph_task_keep_graph": torch._C._autograd,
    "_are_functorch_transforms_active": torch._C,
    "is_legacy_batchedtensor": torch._C._functorch,
    "_get_tracing_state": torch._C,
    "_len_torch_dispatch_stack": torch._C,
    "_len_torch_function_stack": torch._C,
    "_get_function_stack_at": torch._C,
    "_debug_has_internal_overlap": torch,
    "_current_level": torch.autograd.forward_ad,
    "SavedTensor": torch._C._autograd,
}


def copy_without(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """The module as a PyTorch without the name has it."""
    with monkeypatch.context() as patch:
        patch.delattr(NAMES[name], name)
        specification = importlib.util.spec_from_file_location("copy", _torch_private.__file__)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    return module


def results() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels, values = torch.tensor([0, 3, -100, 1]), []
    for options in ({}, dict(reduction="none"), dict(inplace=True)):
        leaf = torch.randn(4, 5, generator=generator, dtype=torch.float64).requires_grad_()
        loss = 2 * ls.cross_entropy(leaf * 1, labels, label_smoothing=0.1, **options).sum()
        values += [loss.detach(), *torch.autograd.grad(loss, leaf, retain_graph=True)]
        values += torch.autograd.grad(loss, leaf)
    weight = torch.randn(5, 5, generator=generator, dtype=torch.float64).requires_grad_()
    loss = ls.linear_cross_entropy(leaf.detach(), weight, labels)
    (first,) = torch.autograd.grad(loss, weight, create_graph=True)
    values += [first.detach(), *torch.autograd.grad(first.square().sum(), weight)]
    loss = ls.cross_entropy(leaf, ls.smoothing.mix(labels.clamp(min=0), labels.clamp(max=2), 0.3))
    (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
    return [*values, first.detach(), *torch.autograd.grad(first.square().sum(), leaf)]


@pytest.mark.parametrize("name", NAMES)
def test_the_replacement_of_each_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = results()
    copy = copy_without(monkeypatch, name)
    for module in (choose, linear, mixture, rows, usual, arguments):
        for function in _torch_private.__all__:
            if hasattr(module, function):
                monkeypatch.setattr(module, function, getattr(copy, function))
    for mine, other in zip(results(), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_modes_transforms_and_tracing_intercept_and_a_default_device_does_not() -> None:
    class Mode(TorchFunctionMode):
        pass

    assert not _torch_private.is_intercepted()
    with torch.device("cpu"):
        assert not _torch_private.is_intercepted()
        with Mode():
            assert _torch_private.is_intercepted()
    with torch.autograd.forward_ad.dual_level():
        assert _torch_private.is_intercepted()
    seen = []
    torch.func.vmap(lambda x: seen.append(_torch_private.is_intercepted()) or x)(torch.zeros(2))
    assert seen == [True]


@pytest.mark.parametrize("can_unpack", [True, False])
def test_a_saved_tensor_is_checked_when_it_is_read_only_or_with_all(can_unpack: bool, monkeypatch) -> None:
    if can_unpack and not _torch_private._CAN_UNPACK:
        pytest.skip(f"PyTorch {torch.__version__} checks all saved tensors together")
    monkeypatch.setattr(_torch_private, "_CAN_UNPACK", can_unpack)

    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, None, y)
            return (x * y).sum()

        @staticmethod
        def backward(ctx, upstream):
            if not can_unpack:
                with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                    _torch_private.saved_tensors(ctx, 1)
                return upstream.expand(3), None
            assert _torch_private.saved_tensors(ctx, 1) == [None]
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                _torch_private.saved_tensors(ctx, 0)
            (y,) = _torch_private.saved_tensors(ctx, 2)
            assert y.grad_fn is inputs[1].grad_fn
            return upstream * y, None

    inputs = [torch.randn(3, requires_grad=True) * 1 for _ in range(2)]
    loss = Both.apply(*inputs)
    inputs[0].detach().add_(1)
    loss.backward()
