"""Distillation as smoothing: towards a teacher's probabilities for each row, or those of a virtual teacher."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labelsmooth.smoothing.base import Smoothing, check_positive, smoothed
from labelsmooth.target import Target, epsilon_of_rows


class Teacher(Smoothing):
    """Move epsilon of the label's probability to a teacher's prediction for the row.

        q_i = (1 - epsilon) * onehot(y_i) + epsilon * softmax(t_i / T),        t_i the teacher's logits

    Made anew for every batch, from the teacher's outputs for it; no gradient flows to the teacher.  This is
    distillation with the student at temperature 1 (Hinton's form also divides the student's logits by T, and scales
    that part by T^2).  With a teacher of the student's own architecture it is the self-training of Yuan et al.

    Args:
        epsilon: in [0, 1], or a tensor in the shape of the labels; the weight of the teacher.
        logits: the teacher's, in the shape of the student's: (K,), (N, K) or (N, K, d1, ...).
        probabilities: the teacher's, instead of its logits; temperature T then means p ** (1/T), scaled to sum 1.
        temperature: T, above 0.

    Raises:
        TypeError: both or neither of logits and probabilities, or a tensor that is not floating.
        ValueError: epsilon outside [0, 1], a temperature that is not positive; when called, a shape that does not fit
            the labels.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> Teacher(0.5, logits=teacher, temperature=2.0)(torch.tensor([0]), num_classes=3).dense()
        tensor([[0.7532, 0.1536, 0.0932]])

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Yuan et al., "Revisiting Knowledge
    Distillation via Label Smoothing Regularization", 2020.
    """

    rows: Tensor

    def __init__(
        self,
        epsilon: float | Tensor = 0.5,
        *,
        logits: Tensor | None = None,
        probabilities: Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(epsilon)
        check_positive(temperature, "temperature")
        if (logits is None) == (probabilities is None):
            raise TypeError(
                "Teacher takes either logits=... or probabilities=..., the teacher's outputs for the batch."
            )
        given = logits if logits is not None else probabilities
        if not isinstance(given, Tensor) or not given.is_floating_point() or not given.dim():
            raise TypeError("the teacher's outputs must be a floating tensor in the shape of the student's logits.")
        given = given.detach()
        class_dim = 0 if given.dim() == 1 else 1
        rows = given.movedim(class_dim, -1).reshape(-1, given.shape[class_dim])
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        self.temperature = temperature
        # log 0 = -inf stays a zero probability through the softmax.  At T = 1 probabilities are taken as they are.
        if logits is not None or temperature != 1.0:
            rows = ((rows if logits is not None else rows.log()) / temperature).softmax(-1)
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        if tuple(self.rows.shape) != (labels.shape[0], num_classes):
            raise ValueError(
                f"the teacher's outputs are {self.rows.shape[0]} rows of {self.rows.shape[1]} classes, but the batch "
                f"has {labels.shape[0]} rows of {num_classes}; give the teacher's outputs for this batch."
            )
        return smoothed(labels, num_classes, self._current_epsilon(), self.rows, rows=True)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, temperature={self.temperature}"


class TeacherFree(Smoothing):
    """Distillation from a virtual teacher that is right with probability ``correct`` (Tf-KD_reg).

        q = (1 - epsilon) * onehot(y) + epsilon * softmax(u / T)
        u_y = correct,        u_k = (1 - correct) / (K - 1) for the classes k other than y

    The softmax of u has two values, so this is uniform smoothing with an epsilon of its own, and costs no more.  The
    student has temperature 1, as in the authors' code.

    Args:
        epsilon: in [0, 1], or a tensor in the shape of the labels; the paper's alpha.
        correct: the teacher's probability for the label, in (0, 1]; at least 0.9 in the paper.
        temperature: T, above 0.

    Raises:
        TypeError, ValueError: an epsilon that is not a number in [0, 1], or a correct or temperature outside its range.

    Example:
        >>> import torch
        >>> TeacherFree(0.1)(torch.tensor([0]), num_classes=4).dense()
        tensor([[0.9259, 0.0247, 0.0247, 0.0247]])

    Source: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", 2020.
    """

    def __init__(self, epsilon: float | Tensor = 0.1, *, correct: float = 0.99, temperature: float = 20.0) -> None:
        super().__init__(epsilon)
        check_positive(temperature, "temperature")
        if not 0.0 < correct <= 1.0:
            raise ValueError(f"correct={correct} is outside (0, 1]; the paper uses 0.99.")
        self.correct = correct
        self.temperature = temperature

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        others = (1.0 - self.correct) / max(num_classes - 1, 1)
        # softmax(u / T) = label * onehot + other: exp of a difference, so that a small T cannot overflow.
        gap = math.exp(min((others - self.correct) / self.temperature, 0.0))
        if others > self.correct:
            raise ValueError(
                f"correct={self.correct} is below the share of another class, {others}; the virtual teacher would be "
                "wrong. Use 0.9 or more."
            )
        other = gap / (1.0 + (num_classes - 1) * gap)  # softmax(u / T)_k for k other than y
        epsilon = epsilon_of_rows(self._current_epsilon(), labels.shape[0])
        return Target.uniform(labels, num_classes, epsilon * (num_classes * other))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, correct={self.correct}, temperature={self.temperature}"
