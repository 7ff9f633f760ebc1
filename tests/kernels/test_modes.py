"""Everything that records or replaces operators sees those of the loss: no result of a kernel is baked into a graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import labelsmooth as ls

WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.0, 1.5])
HEAD = torch.linspace(-1, 1, 25).reshape(5, 5)
LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "small batch": lambda z, y: ls.cross_entropy(z, y, label_smoothing=0.1),
    "rows": lambda z, y: ls.cross_entropy(z, y, WEIGHT.to(z.device), reduction="none", label_smoothing=0.1),
    "linear": lambda z, y: ls.linear_cross_entropy(z, HEAD.to(z.device), y, label_smoothing=0.1),
    "mixture": lambda z, y: ls.cross_entropy(z, ls.smoothing.mix(y, y.flip(0), 0.3)),
}


def problem(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 5, generator=generator), torch.randint(5, (6,), generator=generator)


def gradient(loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    leaf = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, labels).sum(), leaf)[0]


@pytest.fixture(params=LOSSES.values(), ids=LOSSES)
def loss(request):
    return request.param


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(loss, mode: str) -> None:
    for function in (loss, lambda z, y: gradient(loss, z, y)):
        graph = make_fx(function, tracing_mode=mode, _allow_non_fake_inputs=True)(*problem(0))
        torch.testing.assert_close(graph(*problem(1)), function(*problem(1)))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace", "ignore::DeprecationWarning")
def test_jit_trace(loss) -> None:
    traced = torch.jit.trace(loss, problem(0))
    torch.testing.assert_close(traced(*problem(1)), loss(*problem(1)))


class Operators(TorchDispatchMode):
    """Counts the operators that it sees, and the tensors among their arguments that are the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("mode", "name"), [(Operators, "aten._log_softmax"), (Functions, "log_softmax")])
def test_dispatch_and_function_modes(loss, mode, name: str) -> None:
    expected = loss(*problem(0))
    with mode() as recorded:
        torch.testing.assert_close(loss(*problem(0)), expected)
    assert any(name in seen for seen in recorded.seen)


def test_fake_tensors(loss) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        logits, labels = (mode.from_tensor(tensor) for tensor in problem(0))
        result = loss(logits, labels)
    assert isinstance(result, FakeTensor)
    assert result.shape == loss(*problem(0)).shape


class Logged(torch.Tensor):
    """A subclass with PyTorch's default behaviour."""


@pytest.mark.parametrize("which", [0, 1], ids=["logits", "labels"])
def test_subclasses(loss, which: int) -> None:
    arguments = list(problem(0))
    expected = loss(*arguments)
    arguments[which] = arguments[which].as_subclass(Logged)
    result = loss(*arguments)
    torch.testing.assert_close(result.as_subclass(torch.Tensor), expected)


TRANSFORMS = {
    "vmap": lambda f, z, y: torch.func.vmap(f)(z[:, None], y[:, None]).reshape(-1),
    "grad": lambda f, z, y: torch.func.grad(lambda x: f(x, y).sum())(z),
    "jvp": lambda f, z, y: torch.func.jvp(lambda x: f(x, y).sum(), (z,), (torch.ones_like(z),))[1],
    "functionalize": lambda f, z, y: torch.func.functionalize(f)(z, y),
    "jacrev": lambda f, z, y: torch.func.jacrev(lambda x: f(x, y))(z),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, of its forward mode
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms(transform) -> None:
    logits, labels = problem(0)
    theirs = transform(lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1), logits, labels)
    torch.testing.assert_close(transform(LOSSES["small batch"], logits, labels), theirs, rtol=1e-5, atol=1e-6)


class TestBatchedGradients:
    """Upstream gradients of several losses at once, as ``is_grads_batched`` and ``jacobian(vectorize=True)`` give."""

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    @pytest.mark.parametrize("kind", ["plain", "weights", "mixture", "linear"])
    def test_each_is_the_gradient_alone(self, kind: str, reduction: str, dtype: torch.dtype) -> None:
        logits, labels = problem(0)
        leaf = logits.to(dtype).requires_grad_()
        target = ls.smoothing.mix(labels, labels.flip(0), 0.3) if kind == "mixture" else labels

        def loss() -> torch.Tensor:
            if kind == "linear":
                return ls.linear_cross_entropy(leaf, HEAD.to(dtype), labels, reduction=reduction, chunk_size=4)
            weight = WEIGHT.to(dtype) if kind == "weights" else None
            return ls.cross_entropy(leaf, target, weight, reduction=reduction, label_smoothing=0.1)

        upstream = torch.randn(3, *loss().shape, dtype=loss().dtype)
        (batched,) = torch.autograd.grad(loss(), leaf, upstream, is_grads_batched=True)
        alone = torch.stack([torch.autograd.grad(loss(), leaf, one)[0] for one in upstream])
        close = {} if dtype.itemsize > 2 else dict(rtol=2**-7, atol=1e-3)
        torch.testing.assert_close(batched, alone, **close)

    def test_jacobian_and_hessian(self) -> None:
        logits, labels = problem(0)
        for function in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
            ours, theirs = (
                function(lambda z: f(z, labels, label_smoothing=0.1), logits, vectorize=True)  # noqa: B023
                for f in (ls.cross_entropy, F.cross_entropy)
            )
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_symbolic_trace() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.criterion = ls.LabelSmoothingCrossEntropy(0.1)

        def forward(self, z: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            loss = self.criterion(z, y) + ls.linear_cross_entropy(z, z, y % 6, chunk_size=4)
            return loss + ls.binary_cross_entropy_with_logits(z, t, label_smoothing=0.1)

    model = Model()
    tags = torch.rand(6, 5)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(*problem(1), tags), model(*problem(1), tags))


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
@pytest.mark.parametrize(
    "function",
    [
        ls.cross_entropy,
        ls.linear_cross_entropy,
        ls.binary_cross_entropy_with_logits,
        ls.LabelSmoothingCrossEntropy(),
        torch.nn.Sequential(ls.LabelSmoothingCrossEntropy()),
    ],
)
def test_torchscript_is_refused_in_one_sentence(function) -> None:
    with pytest.raises(NotImplementedError, match=r"torch.jit.script cannot compile \w+; use torch.compile"):
        torch.jit.script(function)


@pytest.mark.parametrize("rows", [4, 600], ids=["small", "large"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_default_device_does_not_move_the_loss(rows: int, reduction: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 1000, generator=generator).to(dtype)
    labels = torch.randint(1000, (rows,), generator=generator)
    features, head = (
        torch.randn(rows, 8, generator=generator).to(dtype),
        torch.randn(40, 8, generator=generator).to(dtype),
    )
    weight = torch.rand(1000, generator=generator)
    mask = torch.ones(1000, dtype=torch.bool)
    calls = [
        lambda z: ls.cross_entropy(z, labels, reduction=reduction, label_smoothing=0.1),
        lambda z: ls.cross_entropy(z, labels, weight, reduction=reduction, label_smoothing=0.1, class_mask=mask),
        lambda z: ls.cross_entropy(z, ls.smoothing.mix(labels, labels.flip(0), 0.3), reduction=reduction),
        lambda z: ls.linear_cross_entropy(features, head, labels % 40, reduction=reduction) + 0 * z.sum(),
        lambda z: ls.binary_cross_entropy_with_logits(z, z.detach() > 0, reduction=reduction, label_smoothing=0.1),
    ]
    for call in calls:
        leaf = logits.clone().requires_grad_()
        expected = call(leaf)
        (true,) = torch.autograd.grad(expected.sum(), leaf)
        with torch.device("meta"):
            loss = call(leaf)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient, true)


def test_a_first_call_in_a_whole_graph_looks_no_module_up(monkeypatch) -> None:
    """Not every version of torch.compile traces importlib."""
    from labelsmooth.kernels import choose

    monkeypatch.setattr(choose, "_choices", {})
    monkeypatch.setattr(choose, "find_spec", lambda name: pytest.fail(f"{name} is looked up"))
    torch._dynamo.reset()
    compiled = torch.compile(lambda z, y: ls.cross_entropy(z, y, label_smoothing=0.1), fullgraph=True, backend="eager")
    logits, labels = torch.randn(4, 5, requires_grad=True), torch.tensor([0, 1, 2, 3])
    torch.testing.assert_close(compiled(logits, labels), ls.cross_entropy(logits, labels, label_smoothing=0.1))
