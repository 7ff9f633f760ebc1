"""Classes spread over processes: the loss and gradients of one process, on gloo with 2 and 3 of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from processes import gloo
from torch import distributed as dist
from torch.distributed.tensor import DeviceMesh, DTensor, Replicate, Shard

import labelsmooth as ls

N, K, D = 9, 13, 5
# Uneven parts, and one process with no class at all.
PARTS = {2: ([7, 6], [12, 1]), 3: ([5, 5, 3], [6, 0, 7])}


def problem(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(N, K, generator=generator, dtype=torch.float64)).to(dtype)
    labels = torch.randint(K, (N,), generator=generator)
    labels[3] = -100
    return logits, labels


def options() -> dict[str, dict]:
    generator = torch.Generator().manual_seed(1)
    prior = torch.rand(K, generator=generator, dtype=torch.float64)
    return {
        "plain": {},
        "all": dict(label_smoothing=0.2),
        "others": dict(label_smoothing=ls.smoothing.Uniform(0.2, over="others")),
        "prior": dict(label_smoothing=ls.smoothing.Prior(0.2, prior / prior.sum())),
        "table": dict(label_smoothing=ls.smoothing.ClassMatrix(0.2, torch.rand(K, K, generator=generator).double())),
        "weights": dict(label_smoothing=0.2, weight=prior),
        "each": dict(label_smoothing=0.2, reduction="none"),
        "sum": dict(label_smoothing=torch.linspace(0, 1, N, dtype=torch.float64), reduction="sum"),
        "z-loss": dict(label_smoothing=0.2, z_loss=1e-2),
        "padding": dict(label_smoothing=0.2, class_mask=torch.arange(K) != 12),
    }


def assert_same(rank: int, parts: list[int], call: dict, dtype: torch.dtype, logits, target, **close) -> None:
    classes = slice(sum(parts[:rank]), sum(parts[: rank + 1]))
    whole, part = logits.clone().requires_grad_(), logits[:, classes].clone().requires_grad_()
    upstream = torch.rand(N, generator=torch.Generator().manual_seed(2))
    expected = ls.cross_entropy(whole, target, **call)
    loss, nll = ls.vocab_parallel_cross_entropy(part, target, return_nll=True, **call)
    torch.testing.assert_close(loss, expected, **close)
    torch.testing.assert_close(nll, ls.cross_entropy(whole, target, return_nll=True, **call)[1], **close)
    for value in (loss, expected):
        (value * (upstream if value.dim() else upstream[0])).sum().backward()
    torch.testing.assert_close(part.grad, whole.grad[:, classes], **close)


def check_logits(rank: int, size: int) -> None:
    for parts in PARTS[size]:
        for name, call in options().items():
            logits, labels = problem()
            if name == "padding":
                logits[:, 12] = -torch.inf
                labels = labels.clamp(max=11)
            assert_same(rank, parts, call, torch.float64, logits, labels)
        logits, _ = problem()
        assert_same(rank, parts, dict(label_smoothing=0.1), torch.float64, logits, logits.softmax(-1))
        logits, labels = problem(torch.bfloat16)
        assert_same(rank, parts, dict(label_smoothing=0.1), torch.bfloat16, logits, labels, rtol=2**-7, atol=1e-4)


def check_far_logits(rank: int, size: int) -> None:
    """All but one process hold logits whose exponentials underflow; a NaN stays in its row."""
    part = torch.full((3, 4), -1e4 if rank else 1e4, requires_grad=True)
    labels = torch.tensor([0, 4, 4 * size - 1])
    loss = ls.vocab_parallel_cross_entropy(part, labels, label_smoothing=0.1, reduction="none")
    whole = torch.cat([torch.full((3, 4), -1e4 if r else 1e4) for r in range(size)], 1)
    torch.testing.assert_close(loss, F.cross_entropy(whole, labels, label_smoothing=0.1, reduction="none"))
    broken = part.detach().clone()
    if rank == size - 1:
        broken[1, 2] = torch.nan
    loss = ls.vocab_parallel_cross_entropy(broken, labels, label_smoothing=0.1, reduction="none")
    assert loss.isnan().tolist() == [False, True, False]


def check_linear(rank: int, size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(N, D, generator=generator, dtype=torch.float64)
    head, bias = torch.randn(K, D, generator=generator).double(), torch.randn(K, generator=generator).double()
    _, labels = problem()
    for parts in PARTS[size]:
        classes = slice(sum(parts[:rank]), sum(parts[: rank + 1]))
        whole = [t.clone().requires_grad_() for t in (features, head, bias)]
        part = [t.clone().requires_grad_() for t in (features, head[classes], bias[classes])]
        expected = ls.linear_cross_entropy(whole[0], whole[1], labels, linear_bias=whole[2], label_smoothing=0.1)
        loss = ls.vocab_parallel_linear_cross_entropy(
            part[0], part[1], labels, linear_bias=part[2], label_smoothing=0.1
        )
        torch.testing.assert_close(loss, expected)
        expected.backward()
        loss.backward()
        torch.testing.assert_close(part[0].grad, whole[0].grad)
        torch.testing.assert_close(part[1].grad, whole[1].grad[classes])
        torch.testing.assert_close(part[2].grad, whole[2].grad[classes])


def check_dtensor(rank: int, size: int) -> None:
    mesh = DeviceMesh("cpu", list(range(size)))
    logits, labels = problem()
    whole = logits.clone().requires_grad_()
    sharded = dist.tensor.distribute_tensor(logits, mesh, [Shard(1)]).requires_grad_()
    for target in (labels, DTensor.from_local(labels, mesh, [Replicate()])):
        sharded.grad = whole.grad = None
        ls.vocab_parallel_cross_entropy(sharded, target, label_smoothing=0.1).backward()
        F.cross_entropy(whole, labels, label_smoothing=0.1).backward()
        torch.testing.assert_close(sharded.grad.full_tensor(), whole.grad)
    with pytest.raises(ValueError, match="shard it over its classes"):
        ls.vocab_parallel_cross_entropy(dist.tensor.distribute_tensor(logits, mesh, [Shard(0)]), labels)


def check_errors(rank: int, size: int) -> None:
    part, labels = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    for arguments, error, sentence in (
        ((part, torch.tensor([0, 1, 2 * size])), IndexError, f"label {2 * size}"),
        ((part, labels[:2]), ValueError, r"target has shape \(2,\)"),
        ((part, labels.float()), TypeError, "target holds labels"),
        ((part, labels, torch.ones(2)), ValueError, r"weight has shape \(2,\)"),
        ((part[0], labels), ValueError, "this process's logits"),
    ):
        with pytest.raises(error, match=sentence):
            ls.vocab_parallel_cross_entropy(*arguments)
    leaf = part.clone().requires_grad_()
    loss = ls.vocab_parallel_cross_entropy(leaf, labels)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(loss, leaf, create_graph=True)


CHECKS = {
    check.__name__: check for check in (check_logits, check_far_logits, check_linear, check_dtensor, check_errors)
}


def _process(rank: int, size: int, rendezvous: str) -> None:
    with gloo(rank, size, rendezvous):
        for check in CHECKS.values():
            check(rank, size)


@pytest.mark.parametrize("size", [2, 3])
def test_is_the_loss_of_one_process(size: int, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, args=(size, str(tmp_path / "rendezvous")), nprocs=size)


def test_without_a_group_the_error_says_so() -> None:
    with pytest.raises(RuntimeError, match="no process group is initialised"):
        ls.vocab_parallel_cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
