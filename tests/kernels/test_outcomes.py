"""Faults that other implementations have had, each kept out by a test; and what the options promise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls


def gradient(logits: torch.Tensor, *args, **options) -> torch.Tensor:
    logits = logits.detach().clone().requires_grad_()
    ls.cross_entropy(logits, *args, **options).sum().backward()
    assert logits.grad is not None
    return logits.grad


class TestFaultsOfOthers:
    def test_ignored_rows_do_not_leak_into_the_smooth_term(self) -> None:
        logits, labels = torch.randn(6, 9), torch.tensor([1, -100, 3, -100, 5, 0])
        kept = labels >= 0
        for reduction in ("mean", "sum"):
            alone = ls.cross_entropy(logits[kept], labels[kept], reduction=reduction, label_smoothing=0.3)
            torch.testing.assert_close(
                ls.cross_entropy(logits, labels, reduction=reduction, label_smoothing=0.3), alone
            )
        assert gradient(logits, labels, label_smoothing=0.3)[~kept].count_nonzero() == 0

    def test_class_weights_together_with_ignore_index(self) -> None:
        logits, labels, weight = torch.randn(6, 4), torch.tensor([1, 2, 3, 2, 0, 0]), torch.tensor([0.0, 1.0, 5.0, 2.0])
        for reduction in ("mean", "sum", "none"):
            for ignore_index in (2, -1, 0):
                arguments = (logits, labels, weight)
                options = dict(ignore_index=ignore_index, reduction=reduction, label_smoothing=0.2)
                torch.testing.assert_close(
                    ls.cross_entropy(*arguments, **options), F.cross_entropy(*arguments, **options)
                )

    def test_index_and_one_hot_targets_agree(self) -> None:
        logits, labels = torch.randn(7, 5), torch.arange(7) % 5
        one_hot = F.one_hot(labels, 5).float()
        for epsilon in (0.0, 0.1, 1.0):
            options = dict(label_smoothing=epsilon, reduction="none")
            torch.testing.assert_close(
                ls.cross_entropy(logits, one_hot, **options), ls.cross_entropy(logits, labels, **options)
            )
            torch.testing.assert_close(gradient(logits, one_hot, **options), gradient(logits, labels, **options))

    def test_a_negative_label_does_not_become_class_0(self) -> None:
        with pytest.raises(IndexError, match="label -1"):
            ls.cross_entropy(torch.randn(3, 4), torch.tensor([0, -1, 2]), label_smoothing=0.1)
        with pytest.raises(IndexError, match="label 7"):
            ls.cross_entropy(torch.randn(3, 4), torch.tensor([0, -100, 7]), label_smoothing=0.1)

    def test_minus_infinity_on_a_masked_class_costs_nothing(self) -> None:
        logits, labels = torch.randn(3, 6), torch.tensor([0, 2, 3])
        logits[:, 4:] = -torch.inf
        valid = torch.tensor([True] * 4 + [False] * 2)
        loss = ls.cross_entropy(logits, labels, label_smoothing=0.1, class_mask=valid)
        torch.testing.assert_close(loss, F.cross_entropy(logits[:, :4], labels, label_smoothing=0.1))
        grads = gradient(logits, labels, label_smoothing=0.1, class_mask=valid)
        assert grads[:, 4:].count_nonzero() == 0
        torch.testing.assert_close(grads[:, :4], gradient(logits[:, :4], labels, label_smoothing=0.1))

    def test_padding_of_the_vocabulary_is_no_class_whatever_it_holds(self) -> None:
        logits, labels, weight = torch.randn(5, 40), torch.randint(37, (5,)), torch.rand(40)
        logits[:, 37] = torch.nan
        valid = torch.arange(40) < 37
        for reduction in ("mean", "none"):
            options = dict(reduction=reduction, label_smoothing=0.2)
            padded = ls.cross_entropy(logits, labels, weight, class_mask=valid, **options)
            torch.testing.assert_close(padded, F.cross_entropy(logits[:, :37], labels, weight[:37], **options))


class TestClassMask:
    def test_one_mask_for_each_row_is_each_row_alone(self) -> None:
        logits, labels = torch.randn(4, 6, 3), torch.zeros(4, 3).long()
        mask = torch.rand(4, 6, 3) < 0.6
        mask[:, 0] = True
        each = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=0.3, class_mask=mask)
        for i in range(4):
            for j in range(3):
                z = logits[i, mask[i, :, j], j]
                torch.testing.assert_close(each[i, j], F.cross_entropy(z, torch.tensor(0), label_smoothing=0.3))

    def test_a_share_with_no_valid_class_goes_to_the_label(self) -> None:
        prior = ls.smoothing.Prior(0.5, torch.tensor([0.0, 0.0, 0.5, 0.5]))
        valid = torch.tensor([True, True, False, False])
        logits, labels = torch.randn(2, 4), torch.tensor([0, 1])
        loss = ls.cross_entropy(logits, labels, label_smoothing=prior, class_mask=valid)
        torch.testing.assert_close(loss, F.cross_entropy(logits[:, :2], labels))

    def test_probabilities(self) -> None:
        logits, q = torch.randn(3, 5), torch.rand(3, 4).softmax(-1)
        valid = torch.tensor([True] * 4 + [False])
        loss = ls.cross_entropy(logits, F.pad(q, (0, 1)), class_mask=valid)
        torch.testing.assert_close(loss, F.cross_entropy(logits[:, :4], q))

    @pytest.mark.parametrize(
        ("mask", "error", "sentence"),
        [
            (torch.ones(3), TypeError, "class_mask is torch.float32"),
            ([True], TypeError, "class_mask is list"),
            (torch.ones(4).bool(), ValueError, r"class_mask has shape \(4,\)"),
            (torch.tensor([True, False, True]), ValueError, "the label 1 in entry 1"),
        ],
    )
    def test_a_bad_mask_is_a_sentence(self, mask, error, sentence) -> None:
        with pytest.raises(error, match=sentence):
            ls.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), class_mask=mask)

    def test_probability_on_a_class_that_is_not_valid_is_a_sentence(self) -> None:
        q = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
        with pytest.raises(ValueError, match="probability in entry 1"):
            ls.cross_entropy(torch.zeros(2, 2), q, class_mask=torch.tensor([True, False]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", ["labels", "weights", "probabilities", "mask"])
def test_the_unsmoothed_loss_is_the_call_without_smoothing(kind: str, reduction: str) -> None:
    logits, labels = torch.randn(3, 5, 2), torch.tensor([[0, 1], [-100, 3], [4, 4]])
    options: dict = dict(reduction=reduction)
    target: torch.Tensor = labels
    if kind == "weights":
        options["weight"] = torch.rand(5)
    if kind == "mask":
        options["class_mask"] = torch.tensor([True, True, False, True, True])
    if kind == "probabilities":
        target = torch.rand(3, 5, 2).softmax(1)
    logits.requires_grad_()
    loss, nll = ls.cross_entropy(logits, target, label_smoothing=0.3, z_loss=0.1, return_nll=True, **options)
    assert not nll.requires_grad
    torch.testing.assert_close(nll, ls.cross_entropy(logits, target, **options).detach())
    torch.testing.assert_close(loss, ls.cross_entropy(logits, target, label_smoothing=0.3, z_loss=0.1, **options))


def test_z_loss_is_the_squared_log_partition_of_the_labels_that_count() -> None:
    logits, labels = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.tensor([0, -100, 1, 2, 3])
    loss = ls.cross_entropy(logits, labels, label_smoothing=0.1, z_loss=0.01)
    lse = logits.logsumexp(-1)[labels >= 0]
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1) + 0.01 * lse.square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))
    with pytest.raises(ValueError, match="z_loss=-1 is outside"):
        ls.cross_entropy(logits, labels, z_loss=-1)


class TestInPlace:
    def test_the_logits_become_the_gradient(self) -> None:
        leaf, labels = torch.randn(6, 50, requires_grad=True), torch.arange(6)
        logits = leaf * 1.0
        ls.cross_entropy(logits, labels, label_smoothing=0.1, inplace=True).backward()
        (expected,) = torch.autograd.grad(F.cross_entropy(leaf, labels, label_smoothing=0.1), leaf)
        torch.testing.assert_close(leaf.grad, expected)
        torch.testing.assert_close(logits.detach(), expected)

    def test_autograd_notices_where_the_logits_are_needed_again(self) -> None:
        leaf = torch.randn(3, 4, requires_grad=True)
        logits = leaf.exp()  # whose own backward reads its output
        loss = ls.cross_entropy(logits, torch.tensor([0, 1, 2]), inplace=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    def test_a_leaf_is_refused(self) -> None:
        with pytest.raises(ValueError, match="input is a leaf"):
            ls.cross_entropy(torch.zeros(1, 2, requires_grad=True), torch.tensor([0]), inplace=True)

    def test_no_second_derivative(self) -> None:
        leaf = torch.randn(3, 4, requires_grad=True)
        loss = ls.cross_entropy(leaf * 1.0, torch.tensor([0, 1, 2]), inplace=True)
        with pytest.raises(RuntimeError, match="Leave inplace=True out"):
            torch.autograd.grad(loss, leaf, create_graph=True)
