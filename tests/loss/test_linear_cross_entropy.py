"""ls.linear_cross_entropy is the linear head and ls.cross_entropy, chunk by chunk."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.backends.debugging import aot_eager

import labelsmooth as ls

N, D, K = 23, 6, 11


def problem(dtype: torch.dtype = torch.float64, heads: tuple[int, ...] = ()):
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    labels = torch.randint(K, (N, *heads), generator=generator)
    labels[::5] = -100
    return randn(N, D), randn(K, *heads, D), randn(K, *heads), labels


def unfused(features, head, target, *, linear_bias=None, logit_softcap=None, weight=None, **options):
    """The definition: all logits, then the loss."""
    heads = head.shape[1:-1]
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = F.linear(features, head.reshape(-1, head.shape[-1]), bias)
    if features.dim() == 3:
        logits, target = logits.flatten(0, 1), target.flatten(0, 1)
    elif heads:
        logits = logits.reshape(len(features), len(head), *heads)
    if logit_softcap is not None:
        logits = logit_softcap * torch.tanh(logits / logit_softcap)
    return ls.cross_entropy(logits, target, weight, **options)


def loss_and_gradients(function, features, head, bias, target, upstream=1.0, **options):
    leaves = [t.detach().clone().requires_grad_() for t in (features, head, bias)]
    loss = function(leaves[0], leaves[1], target, linear_bias=leaves[2], **options)
    loss = loss[0] if isinstance(loss, tuple) else loss
    (upstream * loss).sum().backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


OPTIONS = {
    "plain": {},
    "smoothed": dict(label_smoothing=0.1),
    "sum": dict(label_smoothing=0.1, reduction="sum"),
    "each": dict(label_smoothing=0.1, reduction="none"),
    "weights": dict(label_smoothing=0.1, weight=torch.linspace(0.0, 2.0, K, dtype=torch.float64)),
    "prior": dict(label_smoothing=ls.smoothing.Prior(0.2, torch.linspace(1, 2, K, dtype=torch.float64) / (1.5 * K))),
    "others": dict(label_smoothing=ls.smoothing.Uniform(0.2, over="others")),
    "one epsilon for each": dict(label_smoothing=torch.linspace(0, 1, N, dtype=torch.float64), reduction="none"),
    "z-loss": dict(z_loss=1e-2),
    "softcap": dict(logit_softcap=2.0, label_smoothing=0.1),
    "softcap, each": dict(logit_softcap=2.0, reduction="none"),
    "ignore a class": dict(ignore_index=3),
}


@pytest.mark.parametrize("chunk_size", [1, 5, 23, 100, None])
@pytest.mark.parametrize("name", OPTIONS)
def test_is_the_unfused_loss_and_its_gradients(name: str, chunk_size: int | None) -> None:
    features, head, bias, labels = problem()
    if name == "ignore a class":
        labels = labels.clamp(min=0)
    ours = loss_and_gradients(
        ls.linear_cross_entropy, features, head, bias, labels, 3.0, chunk_size=chunk_size, **OPTIONS[name]
    )
    for mine, expected in zip(
        ours, loss_and_gradients(unfused, features, head, bias, labels, 3.0, **OPTIONS[name]), strict=True
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


beside_torchs = pytest.mark.skipif(
    not hasattr(F, "linear_cross_entropy"), reason="this PyTorch has no linear_cross_entropy to compare with"
)


@pytest.mark.parametrize("heads", [(), (2,)])
def test_no_rows_have_gradients_of_zeros_and_second_derivatives(heads: tuple[int, ...]) -> None:
    _, head, _, _ = problem(heads=heads)
    head.requires_grad_()
    features, labels = torch.zeros(0, head.shape[-1], dtype=head.dtype, requires_grad=True), torch.zeros(0, *heads)
    loss = ls.linear_cross_entropy(features, head, labels.long(), label_smoothing=0.1, reduction="sum")
    for create_graph in (True, False):
        gradients = torch.autograd.grad(loss, (features, head), create_graph=create_graph)
        assert [g.shape for g in gradients] == [features.shape, head.shape]
        assert gradients[1].count_nonzero() == 0


@beside_torchs
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("heads", [(), (2, 3)])
def test_probabilities_and_several_heads(heads: tuple[int, ...], reduction: str) -> None:
    features, head, bias, labels = problem(heads=heads)
    q = torch.rand(N, K, *heads, dtype=torch.float64).softmax(1)
    for target in (labels, q):
        options = dict(reduction=reduction, label_smoothing=0.1)
        ours = loss_and_gradients(ls.linear_cross_entropy, features, head, bias, target, chunk_size=4, **options)
        theirs = loss_and_gradients(F.linear_cross_entropy, features, head, bias, target, **options)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_sequences() -> None:
    features, head, bias, labels = problem()
    features, labels = features[:20].reshape(4, 5, D), labels[:20].reshape(4, 5)
    ours = loss_and_gradients(ls.linear_cross_entropy, features, head, bias, labels, label_smoothing=0.1)
    for mine, expected in zip(
        ours, loss_and_gradients(unfused, features, head, bias, labels, label_smoothing=0.1), strict=True
    ):
        torch.testing.assert_close(mine, expected)
    losses = ls.linear_cross_entropy(features, head, labels, reduction="none")
    assert losses.shape == (4, 5)


@beside_torchs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_error_is_at_most_the_unfused_one(dtype: torch.dtype, reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(512, 32, generator=generator).to(dtype)
    head, bias = torch.randn(100, 32, generator=generator).to(dtype) / 4, torch.zeros(100, dtype=dtype)
    labels = torch.randint(100, (512,), generator=generator)
    options = dict(label_smoothing=0.1, reduction=reduction)
    truth = loss_and_gradients(unfused, features.double(), head.double(), bias.double(), labels, **options)
    ours = loss_and_gradients(ls.linear_cross_entropy, features, head, bias, labels, chunk_size=64, **options)
    theirs = loss_and_gradients(F.linear_cross_entropy, features, head, bias, labels, **options)
    for mine, other, true in zip(ours, theirs, truth, strict=True):
        allowed = (other.double() - true).abs().amax() + torch.finfo(mine.dtype).eps * true.abs().amax()
        assert (mine.double() - true).abs().amax() <= allowed


def test_the_unsmoothed_loss() -> None:
    features, head, _, labels = problem()
    q = torch.rand(N, K, dtype=torch.float64).softmax(1)
    for target in (labels, q):
        for reduction in ("mean", "none"):
            loss, nll = ls.linear_cross_entropy(
                features, head, target, label_smoothing=0.2, reduction=reduction, return_nll=True, chunk_size=7
            )
            torch.testing.assert_close(nll, ls.linear_cross_entropy(features, head, target, reduction=reduction))
            torch.testing.assert_close(
                loss, ls.linear_cross_entropy(features, head, target, label_smoothing=0.2, reduction=reduction)
            )


def test_a_class_mask() -> None:
    features, head, bias, labels = problem()
    valid = torch.arange(K) < K - 2
    labels = torch.where(labels >= K - 2, -100, labels)
    loss = ls.linear_cross_entropy(features, head, labels, linear_bias=bias, label_smoothing=0.1, class_mask=valid)
    expected = ls.linear_cross_entropy(features, head[:-2], labels, linear_bias=bias[:-2], label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


class TestGradients:
    @pytest.mark.parametrize("frozen", [0, 1, 2])
    def test_what_is_frozen_costs_nothing(self, frozen: int) -> None:
        features, head, bias, labels = problem()
        tensors = [t.requires_grad_(i != frozen) for i, t in enumerate((features, head, bias))]
        ls.linear_cross_entropy(tensors[0], tensors[1], labels, linear_bias=tensors[2]).backward()
        assert [t.grad is None for t in tensors] == [i == frozen for i in range(3)]

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_first_and_second_derivatives(self, reduction: str) -> None:
        features, head, bias, labels = (t[:5] if i != 1 else t for i, t in enumerate(problem()))
        bias = problem()[2]

        def loss(h, w, b):
            return ls.linear_cross_entropy(
                h, w, labels, linear_bias=b, label_smoothing=0.1, reduction=reduction, chunk_size=2
            )

        leaves = [t.requires_grad_() for t in (features, head, bias)]
        assert torch.autograd.gradcheck(loss, leaves)
        assert torch.autograd.gradgradcheck(loss, leaves)

    def test_twice_with_the_graph_kept(self) -> None:
        features, head, _, labels = problem()
        head.requires_grad_()
        for reduction in ("mean", "none"):
            loss = 2 * ls.linear_cross_entropy(features, head, labels, reduction=reduction).sum()
            first = torch.autograd.grad(loss, head, retain_graph=True)[0].clone()
            assert torch.equal(first, torch.autograd.grad(loss, head)[0])

    def test_autocast_sums_the_weights_gradient_in_its_own_dtype(self) -> None:
        features, head, _, labels = problem(torch.float32)
        head.requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = ls.linear_cross_entropy(features, head, labels, label_smoothing=0.1, chunk_size=3)
        loss.backward()
        assert loss.dtype == head.grad.dtype == torch.float32
        expected = ls.linear_cross_entropy(features.bfloat16(), head.bfloat16(), labels, label_smoothing=0.1)
        torch.testing.assert_close(loss, expected)

    def test_transforms_and_compiled_graphs(self) -> None:
        features, head, _, labels = problem()

        def loss(w):
            return ls.linear_cross_entropy(features, w, labels, label_smoothing=0.1)

        leaf = head.clone().requires_grad_()
        loss(leaf).backward()
        torch.testing.assert_close(torch.func.grad(loss)(head), leaf.grad)
        compiled_leaf = head.clone().requires_grad_()
        torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled_leaf).backward()
        torch.testing.assert_close(compiled_leaf.grad, leaf.grad)


GRAPHS = {
    "plain": {},
    "bias and softcap": dict(linear_bias=True, logit_softcap=2.0),
    "weights and prior": dict(
        weight=torch.linspace(0.5, 2.0, K, dtype=torch.float64),
        label_smoothing=ls.smoothing.Prior(0.2, torch.linspace(1, 2, K, dtype=torch.float64)),
    ),
    "sum": dict(reduction="sum"),
    "each": dict(reduction="none"),
    "each, softcap, z-loss": dict(reduction="none", logit_softcap=2.0, z_loss=1e-2, linear_bias=True),
    "each, unsmoothed too, prior": dict(
        reduction="none",
        return_nll=True,
        label_smoothing=ls.smoothing.Prior(0.2, torch.linspace(1, 2, K, dtype=torch.float64)),
    ),
    "each, frozen features": dict(reduction="none", frozen=True),
    "unsmoothed too": dict(return_nll=True),
    "frozen features": dict(frozen=True),
}


class TestInGraphs:
    @pytest.mark.parametrize("name", GRAPHS)
    def test_same_numbers_and_no_logits(self, name: str) -> None:
        torch._dynamo.reset()
        options = {"label_smoothing": 0.1, **GRAPHS[name]}
        frozen, with_bias = options.pop("frozen", False), options.pop("linear_bias", False)
        shapes: list[tuple[int, ...]] = []

        def backend(graph, inputs):
            for node in graph.graph.nodes:
                value = node.meta.get("example_value")
                shapes.extend(tuple(t.shape) for t in (value if isinstance(value, tuple) else [value]) if t is not None)
            return aot_eager(graph, inputs)

        def loss(h, w, b):
            result = ls.linear_cross_entropy(h, w, labels, linear_bias=b, chunk_size=4, **options)
            return result if isinstance(result, tuple) else (result,)

        features, head, bias, labels = problem()
        results = []
        for function in (torch.compile(loss, fullgraph=True, backend=backend), loss):
            leaves = [t.clone().requires_grad_(i > 0 or not frozen) for i, t in enumerate((features, head, bias))]
            outputs = function(leaves[0], leaves[1], leaves[2] if with_bias else None)
            (torch.linspace(1, 3, outputs[0].numel(), dtype=torch.float64) * outputs[0]).sum().backward()
            results.append([*(output.detach() for output in outputs), *(leaf.grad for leaf in leaves)])
        for mine, plain in zip(*results, strict=True):
            if mine is not None or plain is not None:
                torch.testing.assert_close(mine, plain)
        assert shapes
        assert (N, K) not in shapes

    def test_float16_whose_gradients_wait_for_a_scalers_factor(self) -> None:
        torch._dynamo.reset()
        features, head, _, labels = problem(torch.float16)
        gradients = []

        def loss(h, w):
            return ls.linear_cross_entropy(h, w, labels, label_smoothing=0.1, chunk_size=4)

        for function in (torch.compile(loss, fullgraph=True, backend="aot_eager"), loss):
            leaves = [t.clone().requires_grad_() for t in (features, head)]
            value = function(*leaves)
            (2.0**12 * value).backward()
            gradients.append([value.detach(), *(leaf.grad for leaf in leaves)])
        for mine, plain in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, plain, rtol=2e-3, atol=1e-3)

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the check itself
    def test_the_operators_keep_pytorchs_rules(self) -> None:
        from labelsmooth.kernels.operators import linear_rows

        features, head, bias, labels = problem()
        number = torch.tensor(0.5, dtype=torch.float64)
        tensors = (features.requires_grad_(), head.requires_grad_(), bias.requires_grad_(), labels.clamp(min=-1))
        arguments = (*tensors, number, number, None, None, False, 0.0, K, 2.0, 4, torch.float64, True, True)
        tests = ("test_schema", "test_faketensor", "test_autograd_registration")
        for divisor, needed in ((None, [False] * 3), (7 * number, [True] * 3), (7 * number, [False, True, False])):
            more = ("test_aot_dispatch_static",) if divisor is None else ()
            torch.library.opcheck(linear_rows, (*arguments, divisor, None, needed), test_utils=(*tests, *more))


def test_the_logits_are_never_held_in_full(monkeypatch) -> None:
    from labelsmooth.kernels import chunks

    made = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: made.append(empty(*a, **k)) or made[-1])
    monkeypatch.setattr(chunks, "CPU_BYTES", 1 << 10)
    features = torch.randn(2048, 8, requires_grad=True)
    ls.linear_cross_entropy(features, torch.randn(300, 8), torch.zeros(2048).long(), label_smoothing=0.1)
    assert max(t.numel() for t in made) == 2048 * 300 // 8


@pytest.mark.parametrize("accumulate_in_float32", [True, False])
def test_the_gradient_of_a_16_bit_weight_is_summed_in_float32_or_in_its_dtype(accumulate_in_float32: bool) -> None:
    features, labels = torch.randn(400, 16), torch.randint(20, (400,))
    head = torch.randn(20, 16).bfloat16().requires_grad_()
    sums = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sums.append(t) or t, lambda t: t):
        loss = ls.linear_cross_entropy(
            features.bfloat16(), head, labels, chunk_size=4, accumulate_in_float32=accumulate_in_float32
        )
    (gradient,) = torch.autograd.grad(loss, head)
    wide = head.detach().double().requires_grad_()
    exact = F.cross_entropy(features.bfloat16().double() @ wide.T, labels)
    (true,) = torch.autograd.grad(exact, wide)
    error = float((gradient.double() - true).norm() / true.norm())
    assert error < 5e-3 if accumulate_in_float32 else 5e-3 < error < 0.1


BAD_CALLS = {
    "input": (dict(input=torch.zeros(1, 1, 1, 3)), ValueError, r"input has shape \(1, 1, 1, 3\)"),
    "input of integers": (dict(input=torch.zeros(2, 3).long()), TypeError, "input has dtype torch.int64"),
    "a list": (dict(linear_weight=[1.0]), TypeError, "linear_weight is a list"),
    "head": (dict(linear_weight=torch.zeros(4, 2)), ValueError, r"linear_weight has shape \(4, 2\).*\(K, 3\)"),
    "heads, alone": (dict(input=torch.zeros(3), linear_weight=torch.zeros(4, 2, 3)), ValueError, "several heads"),
    "bias": (dict(linear_bias=torch.zeros(3)), ValueError, r"linear_bias has shape \(3,\); give \(4,\)"),
    "target": (dict(target=torch.zeros(3).long()), ValueError, r"target has shape \(3,\)"),
    "target floating": (dict(target=torch.zeros(2)), TypeError, "holds labels"),
    "integer probabilities": (dict(target=torch.zeros(2, 4).long()), TypeError, "read as class probabilities"),
    "label": (dict(target=torch.tensor([0, 4])), IndexError, "label 4"),
    "softcap": (dict(logit_softcap=0.0), ValueError, "logit_softcap=0.0 must be above 0"),
    "chunk a float": (dict(chunk_size=2.5), TypeError, "chunk_size=2.5 is a float; give a number of rows"),
    "chunk a bool": (dict(chunk_size=True), TypeError, "chunk_size=True is a bool"),
    "softcap a word": (dict(logit_softcap="30"), TypeError, "logit_softcap='30' is a str; give a number"),
    "softcap NaN": (dict(logit_softcap=float("nan")), ValueError, "logit_softcap=nan must be above 0"),
    "ignore_index": (dict(ignore_index=2.0), TypeError, "ignore_index=2.0 is a float"),
    "z_loss": (dict(z_loss=None), TypeError, "z_loss=None is a NoneType"),
    "weight a list": (dict(weight=[1.0] * 4), TypeError, "weight is a list"),
    "mask a list": (dict(class_mask=[True] * 4), TypeError, "class_mask is list"),
    "chunk": (dict(chunk_size=0), ValueError, "chunk_size=0 must be above 0"),
    "mask": (dict(class_mask=torch.ones(3).bool()), ValueError, r"class_mask has shape \(3,\)"),
    "weight": (dict(weight=torch.ones(3)), ValueError, r"weight has shape \(3,\)"),
    "reduction": (dict(reduction="avg"), ValueError, "reduction='avg'"),
    "epsilon": (dict(label_smoothing=2.0), ValueError, "label_smoothing=2.0"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "error", "sentence"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_refused(options, error, sentence) -> None:
    call = {"input": torch.zeros(2, 3), "linear_weight": torch.zeros(4, 3), "target": torch.tensor([0, 1]), **options}
    with pytest.raises(error, match=sentence):
        ls.linear_cross_entropy(call.pop("input"), call.pop("linear_weight"), call.pop("target"), **call)
