"""Uniform smoothing in full: excluded classes, an epsilon for each label, a negative epsilon, and its limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import labelsmooth as ls
from labelsmooth.smoothing import ClassMatrix, Prior, Teacher, TeacherFree, Uniform, bounded_below, ceiling, ordinal


class TestExclude:
    def test_an_excluded_label_keeps_its_share(self) -> None:
        q = Uniform(0.3, exclude=[0])(torch.tensor([0]), 4).dense()
        assert q.tolist()[0] == pytest.approx([0.7, 0.1, 0.1, 0.1])
        q = Uniform(0.3, "others", exclude=[0])(torch.tensor([0, 1]), 4).dense()
        assert q.tolist()[0] == pytest.approx([0.7, 0.1, 0.1, 0.1])
        assert q.tolist()[1] == pytest.approx([0.0, 0.7, 0.15, 0.15])

    def test_padding_excluded_gives_vaswanis_target(self) -> None:
        # epsilon over V - 2 words: neither the label nor padding; the padding rows do not count.
        logits, labels = torch.randn(4, 6, dtype=torch.float64), torch.tensor([1, 5, 0, 3])
        policy = Uniform(0.1, "others", exclude=[0])
        loss = ls.cross_entropy(logits, labels, ignore_index=0, reduction="sum", label_smoothing=policy)
        q = torch.full((4, 6), 0.1 / 4, dtype=torch.float64)
        q[:, 0] = 0
        q[torch.arange(4), labels] = 0.9
        expected = -(q * logits.log_softmax(-1)).sum(-1)[labels != 0].sum()
        torch.testing.assert_close(loss, expected, rtol=1e-7, atol=0)

    @pytest.mark.parametrize("exclude", [[4], [-1], [0, 1, 2, 3]])
    def test_classes_that_do_not_fit_raise(self, exclude) -> None:
        with pytest.raises(ValueError, match="does not fit 4 classes"):
            Uniform(0.1, exclude=exclude)(torch.tensor([0]), 4)

    def test_other_errors(self) -> None:
        with pytest.raises(TypeError, match=r"exclude holds 0\.5"):
            Uniform(0.1, exclude=[0.5])
        with pytest.raises(ValueError, match="leaves 1 class in the base"):
            Uniform(0.1, "others", exclude=[0])(torch.tensor([1]), 2)


class TestEpsilon:
    def test_is_checked_whenever_it_is_set(self) -> None:
        policy = Uniform(0.1)
        policy.epsilon = 0.5
        assert policy(torch.tensor([0]), 2).dense().tolist() == [[0.75, 0.25]]
        with pytest.raises(ValueError, match=r"epsilon=1.5 is outside \[0, 1\]"):
            policy.epsilon = 1.5
        assert policy.epsilon == 0.5

    @pytest.mark.parametrize("make", [Uniform, lambda e: Uniform(e, exclude=[0]), lambda e: Prior(e, [1.0, 1.0])])
    def test_of_the_wrong_shape_raises(self, make) -> None:
        with pytest.raises(ValueError, match=r"epsilon has shape \(3,\), but there are 2 labels"):
            make(torch.rand(3))(torch.tensor([0, 1]), 2)

    @pytest.mark.parametrize(
        "make",
        [
            Uniform,
            lambda e: Uniform(e, "others", exclude=[4]),
            lambda e: Prior(e, [1, 2, 3, 4, 5]),
            lambda e: ClassMatrix(e, ordinal(5)),
            lambda e: Teacher(e, logits=torch.arange(20.0).reshape(4, 5)),
            TeacherFree,
        ],
    )
    def test_a_parameter_is_learned_and_may_be_replaced(self, make) -> None:
        logits, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
        first, second = (torch.nn.Parameter(torch.tensor(value)) for value in (0.2, 0.3))
        policy = make(first)
        criterion = ls.LabelSmoothingCrossEntropy(policy)
        for epsilon in (0.1, second, torch.tensor(0.4), first):
            policy.epsilon = epsilon
            torch.testing.assert_close(
                criterion(logits, labels),
                ls.cross_entropy(logits, labels, label_smoothing=make(torch.as_tensor(epsilon).item())),
            )
        assert list(criterion.parameters()) == [first]
        criterion(logits, labels).backward()
        assert first.grad is not None
        assert first.grad != 0

    def test_a_tensor_moves_with_the_policy(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(Uniform(torch.tensor([0.1, 0.2])))
        assert criterion.to("meta").epsilon.epsilon.device.type == "meta"

    def test_gradient_reaches_a_learned_epsilon(self) -> None:
        logits, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
        assert torch.autograd.gradcheck(
            lambda e: ls.cross_entropy(logits, labels, label_smoothing=Uniform(e)),
            torch.full((3,), 0.3, dtype=torch.float64, requires_grad=True),
        )


class TestNegative:
    def test_needs_allow_negative(self) -> None:
        with pytest.raises(ValueError, match="outside"):
            Uniform(-0.1)
        for bad in (1.1, -math.inf, math.nan):
            with pytest.raises(ValueError, match=r"outside \(-inf, 1\]"):
                Uniform(bad, allow_negative=True)
        assert Uniform(torch.tensor([-0.2]), allow_negative=True)(torch.tensor([0]), 2).dense().tolist()[
            0
        ] == pytest.approx([1.1, -0.1])

    @pytest.mark.parametrize("over", ["all", "others"])
    @given(st.floats(-3.0, 1.0), st.integers(2, 20))
    def test_the_loss_is_bounded_below_exactly_in_the_stated_range(self, over, epsilon, classes) -> None:
        """Along the label's logit, and along another's, the loss falls without end unless epsilon is in the range."""
        policy = Uniform(epsilon, over, allow_negative=True)

        def loss(gap, k):
            logits = torch.zeros(1, classes, dtype=torch.float64)
            logits[0, k] = gap
            return float(ls.cross_entropy(logits, torch.tensor([0]), label_smoothing=policy))

        slopes = [loss(2e6, k) - loss(1e6, k) for k in (0, 1)]
        falls = min(slopes) < -1e-3
        assert falls == (not bounded_below(epsilon, classes, over)) or abs(min(slopes)) < 1e-3
        if epsilon < 0:
            slope = epsilon * ((classes - 1) / classes if over == "all" else 1.0)
            assert slopes[0] / 1e6 == pytest.approx(slope, rel=1e-6, abs=1e-9)

    def test_bounds(self) -> None:
        assert bounded_below(10 / 9, 10)
        assert not bounded_below(10 / 9 + 1e-9, 10)
        assert bounded_below(1.0, 10, "others")
        assert not bounded_below(1.0 + 1e-9, 10, "others")
        assert bounded_below(-5.0, 1)


class TestCeiling:
    @pytest.mark.parametrize(("epsilon", "over"), [(0.1, "all"), (0.3, "all"), (0.1, "others"), (1.0, "all")])
    def test_is_where_training_the_logits_themselves_ends(self, epsilon, over) -> None:
        logits = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], lr=1.0, max_iter=200, tolerance_grad=1e-14, tolerance_change=1e-16)

        def closure():
            optimizer.zero_grad()
            loss = ls.cross_entropy(logits, torch.tensor([2]), label_smoothing=Uniform(epsilon, over))
            loss.backward()
            return loss

        optimizer.step(closure)
        stated = ceiling(epsilon, 5, over)
        z = logits.detach()[0]
        assert float(z.softmax(-1)[2]) == pytest.approx(stated.confidence, abs=1e-6)
        assert float(z[2] - z[0]) == pytest.approx(stated.logit_gap, abs=1e-5)

    def test_ends(self) -> None:
        assert ceiling(0.0, 10) == (1.0, math.inf)
        assert ceiling(1.0, 10, "others") == (0.0, -math.inf)
        with pytest.raises(ValueError, match="num_classes=1 is too few"):
            ceiling(0.1, 1, "others")
        with pytest.raises(ValueError, match="outside"):
            ceiling(1.1, 10)
