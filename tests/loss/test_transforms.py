"""What runs the kernel, what runs PyTorch operators and what is refused: the table of docs/kernels.md, made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import labelsmooth as ls
from labelsmooth.kernels import reference

DOCS = Path(__file__).parents[2] / "docs" / "kernels.md"
HEAD = torch.linspace(-1, 1, 35).reshape(5, 7).sin()
Loss = Callable[..., Tensor]

LOSSES: dict[str, tuple[Loss, Loss, int]] = {
    "cross_entropy": (
        lambda z, y, e=0.1: ls.cross_entropy(z, y, label_smoothing=e),
        lambda z, y, e=0.1: F.cross_entropy(z, y, label_smoothing=float(e)),
        5,
    ),
    "linear_cross_entropy": (
        lambda h, y, e=0.1: ls.linear_cross_entropy(h, HEAD, y, label_smoothing=e),
        lambda h, y, e=0.1: F.cross_entropy(F.linear(h, HEAD), y, label_smoothing=float(e)),
        7,
    ),
}


def problem(width: int, rows: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, width, generator=generator), torch.randint(5, (rows,), generator=generator)


def gradient(f: Loss, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    leaf = z.clone().requires_grad_()
    loss = f(leaf, y)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def batched(f: Loss, z: Tensor, y: Tensor) -> Tensor:
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(f(leaf, y), leaf, torch.tensor([1.0, 2.0]), is_grads_batched=True)[0]


def second(f: Loss, z: Tensor, y: Tensor) -> Tensor:
    leaf = z.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(leaf, y), leaf, create_graph=True)
    return torch.autograd.grad(first.square().sum(), leaf)[0]


def exported(f: Loss, z: Tensor, y: Tensor) -> Tensor:
    class Model(torch.nn.Module):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return f(z, y)

    rows = torch.export.Dim("rows", min=2, max=1024)
    program = torch.export.export(Model(), (z, y), dynamic_shapes=({0: rows}, {0: rows}))
    return program.module()(*problem(z.shape[1], rows=9))


def scripted(f: Loss, z: Tensor, y: Tensor) -> Tensor:
    of_logits = z.shape[1] == 5
    arguments = (z, y) if of_logits else (z, HEAD, y)
    return torch.jit.script(ls.cross_entropy if of_logits else ls.linear_cross_entropy)(*arguments)


def online(f: Loss, z: Tensor, y: Tensor) -> Tensor:
    criterion = ls.LabelSmoothingCrossEntropy(ls.smoothing.Online(5))
    head = (lambda x: x) if z.shape[1] == 5 else (lambda x: F.linear(x, HEAD))
    return torch.func.grad(lambda x: criterion(head(x), y))(z)


EPSILONS = torch.tensor([0.0, 0.1, 0.7])
# How each is called with our loss; and with PyTorch's, where that is another way.
CASES: dict[str, tuple[Callable[[Loss, Tensor, Tensor], Any], Callable[[Loss, Tensor, Tensor], Any] | None]] = {
    "eager, with its gradient": (gradient, None),
    "`torch.compile`, with its gradient": (
        lambda f, z, y: gradient(torch.compile(f, backend="aot_eager"), z, y),
        gradient,
    ),
    "`torch.export` with a dynamic number of rows": (exported, lambda f, z, y: f(*problem(z.shape[1], rows=9))),
    "several upstream gradients (`is_grads_batched`)": (batched, None),
    "`torch.autograd.functional.jacobian(vectorize=True)`": (
        lambda f, z, y: torch.autograd.functional.jacobian(lambda x: f(x, y), z, vectorize=True),
        None,
    ),
    "`torch.func.grad`, `vjp`, `jacrev`": (lambda f, z, y: torch.func.grad(f)(z, y), None),
    "`torch.func.vmap` over rows": (lambda f, z, y: torch.func.vmap(f)(z[:, None], y[:, None]), None),
    "`torch.func.vmap` over epsilon (its range is not checked)": (
        lambda f, z, y: torch.func.vmap(f, (None, None, 0))(z, y, EPSILONS),
        lambda f, z, y: torch.stack([f(z, y, e) for e in EPSILONS]),
    ),
    "forward mode (`jvp`)": (lambda f, z, y: torch.func.jvp(lambda x: f(x, y), (z,), (z.cos(),))[1], None),
    "second derivatives (`create_graph=True`)": (second, None),
    "`make_fx`": (
        lambda f, z, y: make_fx(lambda z, y: f(z, y))(z, y)(*problem(z.shape[1])),
        lambda f, z, y: f(*problem(z.shape[1])),
    ),
    "`torch.jit.trace`": (lambda f, z, y: torch.jit.trace(lambda z, y: f(z, y), (z, y))(z, y), lambda f, z, y: f(z, y)),
    "`torch.jit.script`": (scripted, lambda f, z, y: f(z, y)),
    "`smoothing.Online` in training, in `torch.func`": (online, lambda f, z, y: None),
}


REMEDIES = ("torch.compile", "policy.observe")  # in our own sentences


def outcome(way: str, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    ours, theirs, width = LOSSES[name]
    call, their_call = CASES[way]
    z, y = problem(width)
    calls: list[int] = []
    of_rows = reference.row_losses

    def counted(*args: Any) -> Any:
        calls.append(1)
        return of_rows(*args)

    with monkeypatch.context() as patch:
        patch.setattr(reference, "row_losses", counted)
        try:
            result = call(ours, z, y)
        except (RuntimeError, TypeError) as error:
            if not any(remedy in str(error) for remedy in REMEDIES):
                raise
            return "refused"
    torch.testing.assert_close(result, (their_call or call)(theirs, z, y), rtol=1e-4, atol=1e-5)
    return "PyTorch operators" if calls else "fused"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
def test_the_table_of_the_docs_is_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"| | {' | '.join(f'`{name}`' for name in LOSSES)} |", "|---|---|---|"]
    lines += [f"| {way} | {' | '.join(outcome(way, name, monkeypatch) for name in LOSSES)} |" for way in CASES]
    table = "\n".join(lines)
    assert table in DOCS.read_text(), f"docs/kernels.md should hold\n\n{table}"
