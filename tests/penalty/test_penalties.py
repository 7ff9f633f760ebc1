"""The penalties and the losses in place of the cross-entropy: the papers' formulas, gradients, shapes, errors."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls
from labelsmooth import penalty
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing import mix

LABEL_FREE = ("margin", "acls", "max-suppression", "confidence")


def onehot(z, y):
    return F.one_hot(y, z.shape[1]).to(z.dtype)


def p_of(z, y):
    return z.softmax(-1).gather(1, y[:, None]).squeeze(1)


def acls_formula(z, y):
    top, m = z.max(-1, keepdim=True)
    others = torch.ones_like(z).scatter_(1, m, 0.0)
    low = others * (top.detach() - z - 10).clamp(min=0) ** 2
    return 0.1 * ((top - 10).clamp(min=0).squeeze(1) ** 2 + 0.1 * low.sum(-1) / (z.shape[1] - 1))


def relaxation_formula(z, y):
    """KL from the projection onto the credal set, entry by entry."""
    p, a = z.softmax(-1), 0.1
    label = onehot(z, y)
    r = label * (1 - a) + (1 - label) * a * p / (1 - p_of(z, y))[:, None]
    divergence = F.kl_div(p.log(), r.detach(), reduction="none").sum(-1)
    return torch.where(p_of(z, y) >= 1 - a, torch.zeros_like(divergence), divergence)


def dual_focal_formula(z, y):
    p, p_y = z.softmax(-1), p_of(z, y)
    p_j = torch.where(p < p_y[:, None], p, 0.0).max(-1).values
    return -((1 - p_y + p_j) ** 5) * p_y.log()


def brier_weighted_formula(z, y):
    weight = (z.softmax(-1) - onehot(z, y)).square().sum(-1)
    return weight.detach() * F.cross_entropy(z, y, reduction="none")


# The papers' formulas as one would first write them; z in float64, of moderate size.
FORMULAS = {
    "margin": lambda z, y: 0.1 * (z.max(-1, keepdim=True).values - z - 10).clamp(min=0).mean(-1),
    "acls": acls_formula,
    "max-suppression": lambda z, y: 0.1 * (z.max(-1).values - z.mean(-1)),
    "confidence": lambda z, y: -0.1 * torch.distributions.Categorical(logits=z).entropy(),
    "focal": lambda z, y: -((1 - p_of(z, y)) ** torch.where(p_of(z, y) < 0.2, 5.0, 3.0)) * p_of(z, y).log(),
    "dual-focal": dual_focal_formula,
    "brier-weighted": brier_weighted_formula,
    "label-relaxation": relaxation_formula,
    "logit-normalization": lambda z, y: F.cross_entropy(F.normalize(z) / 0.04, y, reduction="none"),
    "poly1": lambda z, y: 2.0 * (1 - p_of(z, y)),
}


def problem(shape=(40, 6), scale=8.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    return logits, torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)


@pytest.mark.parametrize("name", PENALTIES)
def test_is_the_formula_of_the_paper(name) -> None:
    z, y = problem()
    penalties = PENALTIES[name].make()(z, y, reduction="none")
    assert bool((FORMULAS[name](z, y) != 0).any())
    torch.testing.assert_close(
        penalties, FORMULAS[name](z, y), rtol=1e-5 if name == "logit-normalization" else 1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_is_that_of_the_formula(name) -> None:
    z, y = problem(scale=5.0)
    mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    PENALTIES[name].make()(mine, y, reduction="sum").backward()
    FORMULAS[name](other, y).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-7)


# These hold a part of the loss constant, which gradcheck would not; their gradients are worked out by hand.
CONSTANT_IN_PART = ("acls", "brier-weighted")


@pytest.mark.parametrize("name", [name for name in PENALTIES if name not in CONSTANT_IN_PART])
def test_gradcheck(name) -> None:
    z, y = problem((5, 4), scale=9.0 if name == "margin" else 2.0)
    assert torch.autograd.gradcheck(partial(PENALTIES[name].make(), target=y, reduction="none"), z.requires_grad_())
    assert torch.autograd.gradgradcheck(partial(PENALTIES[name].make(), target=y), z)


def test_acls_gradient_by_hand() -> None:
    """Its second term holds the largest logit constant."""
    z = torch.tensor([[13.0, 1.0, 12.0, -2.0]], dtype=torch.float64, requires_grad=True)
    penalty.acls(z, torch.tensor([0]), strength=1.0).backward()
    # 2 * (13 - 10); -2 * 0.1 / 3 * (13 - 1 - 10); 0 within the margin; -2 * 0.1 / 3 * (13 + 2 - 10)
    assert z.grad is not None
    assert z.grad[0].tolist() == pytest.approx([6.0, -0.4 / 3, 0.0, -1.0 / 3])


@pytest.mark.parametrize("name", PENALTIES)
class TestShapes:
    def test_dense_prediction_and_single_example(self, name) -> None:
        function = PENALTIES[name].make()
        z, y = problem((2, 5, 3, 2))
        penalties = function(z, y, reduction="none")
        assert penalties.shape == y.shape
        for i, j, k in ((0, 0, 0), (1, 2, 1)):
            torch.testing.assert_close(penalties[i, j, k], function(z[i, :, j, k], y[i, j, k]))

    def test_reductions_and_ignored_labels(self, name) -> None:
        function = PENALTIES[name].make()
        z, y = problem((8, 5))
        kept = torch.arange(8) % 3 != 0
        ignored = y.masked_fill(~kept, 2**10)
        z = torch.where(kept[:, None], z, torch.nan).requires_grad_()
        penalties = function(z[kept], y[kept], reduction="none")
        options = {"ignore_index": 2**10}
        torch.testing.assert_close(function(z, ignored, reduction="none", **options)[kept], penalties)
        assert function(z, ignored, reduction="none", **options)[~kept].tolist() == [0.0] * 3
        torch.testing.assert_close(function(z, ignored, reduction="sum", **options), penalties.sum())
        loss = function(z, ignored, **options)
        torch.testing.assert_close(loss, penalties.mean())
        loss.backward()
        assert bool((z.grad[~kept] == 0).all())
        assert bool(z.grad[kept].isfinite().all())

    def test_mean_over_no_label_is_nan(self, name) -> None:
        function = PENALTIES[name].make()
        for z, y in ((torch.zeros(0, 3), torch.zeros(0).long()), (torch.zeros(2, 3), torch.tensor([-100] * 2))):
            assert function(z, y).isnan()
            assert function(z, y, reduction="sum") == 0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_half_types_are_computed_in_float32(self, name, dtype) -> None:
        function = PENALTIES[name].make()
        z, y = problem(scale=3.0)
        z = z.to(dtype).requires_grad_()
        penalties = function(z, y, reduction="none")
        assert penalties.dtype == torch.float32
        penalties.sum().backward()
        assert z.grad is not None
        assert z.grad.dtype == dtype
        truth = function(z.detach().double(), y, reduction="none")
        torch.testing.assert_close(penalties.double(), truth, rtol=1e-4, atol=1e-5)

    def test_large_logits_and_certain_predictions_stay_finite(self, name) -> None:
        z = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]], dtype=torch.float64, requires_grad=True)
        loss = PENALTIES[name].make()(z, torch.tensor([0, 0]))
        loss.backward()
        assert loss.isfinite()
        assert bool(z.grad.isfinite().all())

    def test_one_class(self, name) -> None:
        z = torch.tensor([[3.0]], requires_grad=True)
        loss = PENALTIES[name].make()(z, torch.tensor([0]))
        loss.backward()
        assert loss == 0
        assert z.grad == 0

    def test_a_mixture_is_the_mixed_values(self, name) -> None:
        function = PENALTIES[name].make()
        z, a = problem((8, 5))
        b = a.flip(0)
        lam = torch.linspace(0.0, 1.0, 8, dtype=torch.float64)
        expected = lam * function(z, a, reduction="none") + (1 - lam) * function(z, b, reduction="none")
        torch.testing.assert_close(function(z, mix(a, b, lam), reduction="none"), expected)
        torch.testing.assert_close(function(z, mix(a, b, lam)), expected.mean())

    def test_class_probabilities(self, name) -> None:
        z, _ = problem((4, 5))
        q = torch.rand(4, 5, dtype=torch.float64).softmax(-1)
        function = PENALTIES[name].make()
        if name in LABEL_FREE:
            y = torch.zeros(4).long()
            torch.testing.assert_close(function(z, q, reduction="none"), function(z, y, reduction="none"))
        elif name == "poly1":
            torch.testing.assert_close(function(z, q, reduction="none"), 2 * (1 - (q * z.softmax(-1)).sum(-1)))
        else:
            with pytest.raises(TypeError, match="needs labels, and this target holds class probabilities"):
                function(z, q)

    def test_a_label_out_of_range_raises(self, name) -> None:
        with pytest.raises(IndexError, match="holds the label 7"):
            PENALTIES[name].make()(torch.zeros(1, 3), torch.tensor([7]))


@pytest.mark.parametrize("name", PENALTIES)
class TestTransforms:
    z, y = problem((4, 5))
    y = y.masked_fill(torch.arange(4) == 2, -100)

    def test_one_compiled_graph_with_the_same_numbers(self, name) -> None:
        torch._dynamo.reset()
        criterion = PENALTIES[name].criterion()
        compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
        losses, gradients = [], []
        for function in (criterion, compiled):
            leaf = self.z.clone().requires_grad_()
            losses.append(function(leaf, self.y))
            gradients.append(torch.autograd.grad(losses[-1], leaf)[0])
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*gradients)
        labels = self.y.clamp(min=0)
        mixture = mix(labels, labels.flip(0), 0.3)
        torch.testing.assert_close(compiled(self.z, mixture), criterion(self.z, mixture))

    def test_vmap_and_grad(self, name) -> None:
        function = PENALTIES[name].make()
        rows = torch.func.vmap(function)(self.z, self.y.clamp(min=0))
        torch.testing.assert_close(rows, function(self.z, self.y.clamp(min=0), reduction="none"))
        leaf = self.z.clone().requires_grad_()
        function(leaf, self.y).backward()
        torch.testing.assert_close(torch.func.grad(function)(self.z, self.y), leaf.grad)

    def test_labels_of_a_small_type_keep_their_class(self, name) -> None:
        """-100 in uint8 is 156, which is a class of its own here."""
        z, labels = problem((2, 200))[0], torch.tensor([156, 3])
        function = PENALTIES[name].make()
        torch.testing.assert_close(function(z, labels.to(torch.uint8)), function(z, labels))

    def test_another_device_than_the_cpu(self, name) -> None:
        """Where a label out of range cannot raise, and nothing may read a value."""
        loss = PENALTIES[name].criterion()(self.z.to("meta"), self.y.to("meta"))
        assert loss.device.type == "meta"


class TestByHand:
    """The numbers of one example each, worked out on paper."""

    def test_margin(self) -> None:
        z, y = torch.tensor([[12.0, 0.0, 1.0, 11.0]]), torch.tensor([0])
        assert penalty.margin(z, y, strength=1.0, over_classes="sum").item() == 3.0  # 2 + 1
        assert penalty.margin(z, y, strength=1.0).item() == 0.75
        assert penalty.margin(z, y, strength=1.0, margin=0.0, over_classes="sum").item() == 24.0

    def test_confidence_with_a_threshold(self) -> None:
        z, y = torch.tensor([[0.0, 0.0], [50.0, 0.0]]), torch.tensor([0, 0])
        penalties = penalty.confidence(z, y, strength=1.0, threshold=0.5, reduction="none")
        assert penalties.tolist() == pytest.approx([0.0, 0.5])  # H = log 2 is above 0.5; H = 0

    def test_max_suppression_is_label_smoothings_own_term_on_a_correct_prediction(self) -> None:
        z, _ = problem()
        y = z.argmax(-1)
        smoothed = ls.cross_entropy(z, y, label_smoothing=0.1)
        torch.testing.assert_close(smoothed, F.cross_entropy(z, y) + penalty.max_suppression(z, y))

    def test_poly1_is_the_first_term_of_the_expansion(self) -> None:
        z, y = problem(scale=1.0)
        j = torch.arange(2, 2000)
        series = ((1 - p_of(z, y))[:, None] ** j / j).sum(-1)
        loss = F.cross_entropy(z, y) + penalty.poly1(z, y, strength=-1.0)  # the first term taken away
        torch.testing.assert_close(loss, series.mean(), rtol=1e-6, atol=0)


Z, Y = torch.zeros(2, 3), torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: penalty.margin(Z, Y, strength=-1.0), r"strength=-1.0 must be a number in \[0, 1e\+06\]"),
        (lambda: penalty.margin(Z, Y, margin=math.nan), "margin=nan"),
        (lambda: penalty.margin(Z, Y, over_classes="all"), "over_classes='all' is unknown"),
        (lambda: penalty.acls(Z, Y, others=-0.1), r"others=-0\.1"),
        (lambda: penalty.max_suppression(Z, Y, strength=math.inf), "strength=inf"),
        (lambda: penalty.confidence(Z, Y, threshold=-1.0), r"threshold=-1\.0"),
        (lambda: penalty.poly1(Z, Y, strength=-2.0), r"strength=-2.0 must be a number in \[-1, 1e\+06\]"),
        (lambda: penalty.poly1(Z, Y, reduction="avg"), "reduction='avg' is unknown"),
        (lambda: penalty.poly1(Z, Y[:1]), r"labels of shape \(2,\)"),
    ],
)
def test_errors(call, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()
