"""Teachers: shapes, temperatures, no gradient to the teacher, and the virtual teacher."""

from __future__ import annotations

import math

import pytest
import torch

import labelsmooth as ls
from labelsmooth.smoothing import Teacher, TeacherFree

TEACHER = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]], dtype=torch.float64)


def test_logits_and_probabilities_agree() -> None:
    labels = torch.tensor([0, 1])
    for temperature in (1.0, 3.0):
        by_logits = Teacher(0.4, logits=TEACHER, temperature=temperature)(labels, 3).dense()
        by_p = Teacher(0.4, probabilities=TEACHER.softmax(-1), temperature=temperature)(labels, 3).dense()
        torch.testing.assert_close(by_logits, by_p)


def test_a_probability_of_zero_stays_zero() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0]])
    for temperature in (1.0, 2.0):
        assert Teacher(1.0, probabilities=p, temperature=temperature)(torch.tensor([0]), 3).dense()[0, 2] == 0


def test_is_hintons_loss_with_the_student_at_temperature_one() -> None:
    logits, labels = torch.randn(2, 3, dtype=torch.float64), torch.tensor([0, 1])
    loss = ls.cross_entropy(logits, labels, label_smoothing=Teacher(0.7, logits=TEACHER, temperature=2.0))
    soft = (TEACHER / 2).softmax(-1)
    hard = torch.nn.functional.cross_entropy(logits, labels)
    divergence = torch.nn.functional.kl_div(logits.log_softmax(-1), soft, reduction="batchmean")
    entropy = torch.special.entr(soft).sum(-1).mean()
    torch.testing.assert_close(loss, 0.3 * hard + 0.7 * (divergence + entropy))


def test_dense_predictions_and_single_examples() -> None:
    logits, labels = torch.randn(2, 3, 4, dtype=torch.float64), torch.randint(3, (2, 4))
    teacher = torch.randn(2, 3, 4, dtype=torch.float64)
    loss = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=Teacher(0.5, logits=teacher))
    for i in range(2):
        for j in range(4):
            alone = Teacher(0.5, logits=teacher[i, :, j])
            torch.testing.assert_close(
                loss[i, j], ls.cross_entropy(logits[i, :, j], labels[i, j], label_smoothing=alone)
            )


def test_no_gradient_to_the_teacher() -> None:
    teacher = TEACHER.clone().requires_grad_()
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    ls.cross_entropy(logits, torch.tensor([0, 1]), label_smoothing=Teacher(0.5, logits=teacher)).backward()
    assert teacher.grad is None
    assert logits.grad is not None


def test_a_criterion_takes_a_new_teacher_for_every_batch() -> None:
    criterion = ls.LabelSmoothingCrossEntropy(0.1)
    for _ in range(2):
        criterion.epsilon = Teacher(0.5, logits=TEACHER)
        criterion(torch.zeros(2, 3), torch.tensor([0, 1]))
    criterion.epsilon = 0.2
    assert criterion.epsilon == 0.2
    assert not list(criterion.children())


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({}, TypeError, "either logits=... or probabilities"),
        (dict(logits=TEACHER, probabilities=TEACHER), TypeError, "either logits=... or probabilities"),
        (dict(logits=TEACHER.long()), TypeError, "must be a floating tensor"),
        (dict(logits=TEACHER, temperature=0.0), ValueError, r"temperature=0\.0 must be"),
        (dict(logits=TEACHER[:1]), ValueError, "1 rows of 3 classes, but the batch has 2 rows of 3"),
    ],
)
def test_errors(options, error, sentence) -> None:
    with pytest.raises(error, match=sentence):
        Teacher(0.5, **options)(torch.tensor([0, 1]), 3)


class TestTeacherFree:
    def test_is_the_softmax_of_the_virtual_teacher(self) -> None:
        # K = 3, correct 0.9, T = 0.5: u / T = (1.8, 0.1, 0.1)
        e = [math.exp(1.8), math.exp(0.1), math.exp(0.1)]
        q = TeacherFree(1.0, correct=0.9, temperature=0.5)(torch.tensor([0]), 3).dense()
        assert q[0].tolist() == pytest.approx([x / sum(e) for x in e])

    def test_a_small_temperature_does_not_overflow(self) -> None:
        assert TeacherFree(1.0, temperature=1e-6)(torch.tensor([0]), 3).dense().tolist() == [[1.0, 0.0, 0.0]]

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"correct=0 is outside \(0, 1\]"):
            TeacherFree(0.1, correct=0)
        with pytest.raises(ValueError, match="below the share of another class"):
            TeacherFree(0.1, correct=0.2)(torch.tensor([0]), 3)
        with pytest.raises(ValueError, match=r"temperature=0\.0 must be"):
            TeacherFree(0.1, temperature=0.0)
