"""The loss of a DTensor in every layout, on gloo with 3 and 4 processes, against the loss of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import gloo
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import labelsmooth as ls

N, K = 5, 7  # neither can be divided by the number of processes
ROWS, CLASSES, WHOLE = Shard(0), Shard(1), Replicate()
SHAPES = {3: (3,), 4: (2, 2)}
LAYOUTS = {3: [(WHOLE,), (ROWS,), (CLASSES,)], 4: [(ROWS, CLASSES), (CLASSES, WHOLE), (ROWS, ROWS), (WHOLE, CLASSES)]}


def problem(*inner: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, K, *inner, generator=generator, dtype=torch.float64)
    labels = torch.randint(K, (N, *inner), generator=generator)
    labels[0] = -100
    return logits, labels


def calls() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    weight, epsilon = torch.rand(K, generator=generator).double(), torch.rand(N, generator=generator).double()
    return [
        dict(label_smoothing=0.1),
        dict(label_smoothing=ls.smoothing.Uniform(0.1, over="others"), weight=weight, z_loss=1e-2),
        dict(label_smoothing=epsilon, reduction="sum"),
        dict(label_smoothing=0.1, weight=weight, reduction="none"),
    ]


def check(mesh: Any, layout: tuple[Any, ...], target: torch.Tensor, logits: torch.Tensor, call: dict[str, Any]) -> None:
    whole = logits.clone().requires_grad_()
    expected, plain = ls.cross_entropy(whole, target if type(target) is torch.Tensor else target.full_tensor(),
                                       return_nll=True, **call)  # fmt: skip
    divided = distribute_tensor(logits, mesh, layout).requires_grad_()
    loss, nll = ls.cross_entropy(divided, target, return_nll=True, **call)
    values = [value.full_tensor() if isinstance(value, DTensor) else value for value in (loss, nll)]
    torch.testing.assert_close(values, [expected, plain])
    upstream = torch.linspace(0.5, 1.5, expected.numel(), dtype=torch.float64).reshape(expected.shape)
    (expected * upstream).sum().backward()
    if isinstance(loss, DTensor):
        upstream = distribute_tensor(upstream, mesh, loss.placements)
    (loss * upstream).sum().backward()
    assert divided.grad is not None
    assert divided.grad.placements == layout
    torch.testing.assert_close(divided.grad.full_tensor(), whole.grad)


def check_layouts(size: int) -> None:
    mesh = init_device_mesh("cpu", SHAPES[size])
    everywhere = [WHOLE] * mesh.ndim
    for layout in LAYOUTS[size]:
        logits, labels = problem()
        for call in calls():
            check(mesh, layout, labels, logits, call)
        check(mesh, layout, logits.softmax(-1), logits, dict(label_smoothing=0.1))
        check(mesh, layout, distribute_tensor(labels, mesh, everywhere), logits, dict(label_smoothing=0.1))
        pixels, labels = problem(2)
        check(mesh, layout, labels, pixels, dict(label_smoothing=0.1))
    check(mesh, (Shard(2), *everywhere[1:]), labels, pixels, dict(label_smoothing=0.1, reduction="none"))
    rows = distribute_tensor(labels, mesh, [ROWS] * mesh.ndim)
    check(mesh, (ROWS,) * mesh.ndim, rows, pixels, dict(label_smoothing=0.1))


def check_model(size: int) -> None:
    """A head with sharded classes, with the module as its loss."""
    mesh = init_device_mesh("cpu", (size,))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, K)).double()
    features, (_, labels) = torch.randn(N, 3).double(), problem()
    criterion = ls.LabelSmoothingCrossEntropy(0.1)
    expected = criterion(model(features), labels)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    parallelize_module(model, mesh, {"2": ColwiseParallel(use_local_output=False)})
    loss = criterion(model(features), labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        ours = parameter.grad
        torch.testing.assert_close(ours.full_tensor() if isinstance(ours, DTensor) else ours, gradient)


def check_errors(size: int) -> None:
    mesh = init_device_mesh("cpu", (size,))
    logits, labels = problem()
    divided = distribute_tensor(logits, mesh, [ROWS])
    for call, sentence in (
        (lambda: ls.cross_entropy(DTensor.from_local(logits, mesh, [Partial()]), labels), "placed as"),
        (lambda: ls.cross_entropy(divided, labels[:2]), "give the labels of all its rows"),
        (lambda: ls.cross_entropy(divided, ls.smoothing.mix(labels, labels, 0.5)), "target a mixture"),
        (lambda: ls.cross_entropy(divided, labels, inplace=True), "inplace does not apply"),
        (lambda: ls.LabelSmoothingCrossEntropy(ls.smoothing.Online(K))(divided, labels), "observes"),
        (lambda: ls.LabelSmoothingCrossEntropy(penalty=ls.penalty.margin)(divided, labels), "a penalty"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            call()


def _process(rank: int, size: int, rendezvous: str) -> None:
    with gloo(rank, size, rendezvous):
        check_layouts(size)
        check_model(size)
        check_errors(size)


@pytest.mark.parametrize("size", SHAPES)
def test_is_the_loss_of_one_process(size: int, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, args=(size, str(tmp_path / "rendezvous")), nprocs=size)
