"""PyTorch's own samples of its losses, run against ours."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls

# Importing PyTorch's test helpers forbids setting backend flags for the rest of the process; other tests train there.
with mock.patch("torch.backends.disable_global_flags"):
    from torch.testing._internal.common_methods_invocations import op_db

OURS = {
    "cross_entropy": ls.cross_entropy,
    "linear_cross_entropy": ls.linear_cross_entropy,
    "binary_cross_entropy_with_logits": ls.binary_cross_entropy_with_logits,
}


def samples(name: str, dtype: torch.dtype):
    for op in op_db:
        if op.name == f"nn.functional.{name}":
            for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
                sample.kwargs.pop("options", None)  # how PyTorch cuts its chunks
                yield sample


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", OURS)
def test_same_loss_and_gradients(name: str, dtype: torch.dtype) -> None:
    if not hasattr(F, name):
        pytest.skip(f"this PyTorch has no {name}")
    count = 0
    for sample in samples(name, dtype):
        differentiated = [
            value
            for value in (sample.input, *sample.args, *sample.kwargs.values())
            if isinstance(value, torch.Tensor) and value.requires_grad
        ]
        results = []
        for function in (getattr(F, name), OURS[name]):
            loss = function(sample.input, *sample.args, **sample.kwargs)
            gradients = torch.autograd.grad(loss.sum(), differentiated, allow_unused=True)
            results.append((loss, *gradients))
        for mine, theirs in zip(results[1], results[0], strict=True):
            if theirs is not None or mine is not None:
                close = dict(rtol=1e-10, atol=1e-10) if dtype == torch.float64 else dict(rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(mine, theirs, equal_nan=True, **close)
        count += 1
    assert count > 20
