"""Classes divided over processes: the loss and gradients of one process, on gloo with three of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from processes import gloo
from torch.distributed.tensor import DeviceMesh, DTensor, Replicate, Shard, distribute_tensor
from torch.utils._python_dispatch import TorchDispatchMode

import labelsmooth as ls
from labelsmooth.interop import megatron

N, K, D, SIZE = 9, 13, 5, 3
PARTS = ([5, 5, 3], [6, 0, 7])  # uneven, and one process with no class at all


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
    for parts in PARTS:
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


def head_problem(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Features, weight and bias of a head."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in ((N, D), (K, D), (K,))]


def linear(loss: Callable[..., torch.Tensor], tensors: list[torch.Tensor], target: torch.Tensor, **call: Any) -> Any:
    """A head's losses and their gradients."""
    features, weight, bias = (t.detach().clone().requires_grad_() for t in tensors)
    value, nll = loss(features, weight, target, linear_bias=bias, return_nll=True, **call)
    upstream = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype)
    (value.flatten() * upstream).sum().backward()
    return value, nll, features.grad, weight.grad, bias.grad


def check_linear(rank: int, size: int) -> None:
    _, labels = problem()
    probabilities = torch.rand(N, K, generator=torch.Generator().manual_seed(4)).double().softmax(-1)
    for parts in PARTS:
        classes = slice(sum(parts[:rank]), sum(parts[: rank + 1]))
        for call in (*options().values(), dict(logit_softcap=2.0), dict(logit_softcap=2.0, reduction="none")):
            for target in (labels, probabilities) if call == {} else (labels,):
                if "class_mask" in call:
                    target = target.clamp(max=11)
                features, weight, bias = head_problem()
                *losses, d_features, d_weight, d_bias = linear(
                    ls.linear_cross_entropy, [features, weight, bias], target, **call
                )
                part = [features, weight[classes], bias[classes]]
                ours = linear(ls.vocab_parallel_linear_cross_entropy, part, target, chunk_size=4, **call)
                torch.testing.assert_close(ours, (*losses, d_features, d_weight[classes], d_bias[classes]))
    tensors = head_problem(torch.bfloat16)
    *losses, d_features, d_weight, _ = linear(ls.linear_cross_entropy, tensors, labels, label_smoothing=0.1)
    part = [tensors[0], *(t[classes] for t in tensors[1:])]
    ours = linear(ls.vocab_parallel_linear_cross_entropy, part, labels, label_smoothing=0.1)
    close = dict(rtol=2**-6, atol=2e-3)
    torch.testing.assert_close(ours[:2], tuple(losses), **close)
    torch.testing.assert_close(ours[2:4], (d_features, d_weight[classes]), **close)


def check_the_local_logits_are_not_made(rank: int, size: int) -> None:
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **kwargs or {})
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.elements = max(self.elements, tensor.numel())
            return result

    rows, local = 512, 200
    features, weight = torch.randn(rows, D).requires_grad_(), torch.randn(local, D).requires_grad_()
    with Largest() as seen:
        loss = ls.vocab_parallel_linear_cross_entropy(
            features, weight, torch.zeros(rows, dtype=torch.long), chunk_size=64
        )
        loss.backward()
    assert 64 * local <= seen.elements < rows * local / 4


def check_dtensor(rank: int, size: int) -> None:
    mesh = DeviceMesh("cpu", list(range(size)))
    logits, labels = problem()
    whole = logits.clone().requires_grad_()
    sharded = distribute_tensor(logits, mesh, [Shard(1)]).requires_grad_()
    for target in (labels, DTensor.from_local(labels, mesh, [Replicate()])):
        sharded.grad = whole.grad = None
        ls.vocab_parallel_cross_entropy(sharded, target, label_smoothing=0.1).backward()
        F.cross_entropy(whole, labels, label_smoothing=0.1).backward()
        torch.testing.assert_close(sharded.grad.full_tensor(), whole.grad)
    features, weight, bias = head_problem()
    expected = linear(ls.linear_cross_entropy, [features, weight, bias], labels, label_smoothing=0.1)
    for layout in (Replicate(), Shard(0), Shard(1)):
        placed = [
            distribute_tensor(t, mesh, [p]) for t, p in ((features, layout), (weight, Shard(0)), (bias, Shard(0)))
        ]
        *losses, d_features, d_weight, d_bias = linear(
            ls.vocab_parallel_linear_cross_entropy, placed, labels, label_smoothing=0.1
        )
        torch.testing.assert_close((*losses, *(d.full_tensor() for d in (d_features, d_weight, d_bias))), expected)
    for call in (
        lambda: ls.vocab_parallel_cross_entropy(distribute_tensor(logits, mesh, [Shard(0)]), labels),
        lambda: ls.vocab_parallel_linear_cross_entropy(features, distribute_tensor(weight, mesh, [Shard(1)]), labels),
    ):
        with pytest.raises(ValueError, match="shard it over its classes"):
            call()


def check_megatron(rank: int, size: int) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(4, 2, K, generator=generator)
    labels = torch.randint(K, (4, 2), generator=generator)
    classes = slice(sum(PARTS[0][:rank]), sum(PARTS[0][: rank + 1]))
    whole, part = logits.clone().requires_grad_(), logits[..., classes].clone().requires_grad_()
    # Megatron's definition, over all classes.
    log_p, share = whole.log_softmax(-1), 0.1 * K / (K - 1)
    expected = -(1 - share) * log_p.gather(-1, labels[..., None]).squeeze(-1) - share * log_p.mean(-1)
    losses = megatron.vocab_parallel_cross_entropy(part, labels, 0.1)
    torch.testing.assert_close(losses, expected)
    for value in (losses, expected):
        (value * torch.arange(8.0).reshape(4, 2)).sum().backward()
    torch.testing.assert_close(part.grad, whole.grad[..., classes])


def check_errors(rank: int, size: int) -> None:
    part, labels = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    for arguments, error, sentence in (
        ((part, torch.tensor([0, 1, 2 * size])), IndexError, f"label {2 * size}"),
        ((part, labels[:2]), ValueError, r"target has shape \(2,\)"),
        ((part, labels.float()), TypeError, "holds labels"),
        ((part, labels, torch.ones(2)), ValueError, r"weight has shape \(2,\)"),
        ((part[0], labels), ValueError, "this process's logits"),
    ):
        with pytest.raises(error, match=sentence):
            ls.vocab_parallel_cross_entropy(*arguments)
    leaf, head = part.clone().requires_grad_(), torch.ones(2, 2)
    for loss in (
        ls.vocab_parallel_cross_entropy(leaf, labels),
        ls.vocab_parallel_linear_cross_entropy(leaf, head, labels),
    ):
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad(loss, leaf, create_graph=True)
    with pytest.raises(ValueError, match=r"features \(N, D\) and a head"):
        ls.vocab_parallel_linear_cross_entropy(part, torch.ones(2, 3), labels)
    with pytest.raises(ValueError, match=r"linear_bias has shape \(3,\)"):
        ls.vocab_parallel_linear_cross_entropy(part, head, labels, linear_bias=torch.ones(3))


def _process(rank: int, size: int, rendezvous: str) -> None:
    with gloo(rank, size, rendezvous):
        check_logits(rank, size)
        check_far_logits(rank, size)
        check_linear(rank, size)
        check_the_local_logits_are_not_made(rank, size)
        check_dtensor(rank, size)
        check_megatron(rank, size)
        check_errors(rank, size)


def test_is_the_loss_of_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, args=(SIZE, str(tmp_path / "rendezvous")), nprocs=SIZE)


def test_without_a_group_the_error_says_so() -> None:
    with pytest.raises(RuntimeError, match="no process group is initialised"):
        ls.vocab_parallel_cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
