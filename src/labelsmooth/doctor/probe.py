"""What one row of a loss is: the form of its cross-entropy and the target q, from its values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[..., Tensor]
Call = Callable[[Loss, Tensor, Tensor], Tensor]
Form = Literal["softmax cross-entropy", "binary cross-entropy", "other"]

TOLERANCE = 1e-5  # of a target's entry: some losses compute in float32
DRAWS = 4  # logits that a target is measured at
MARGINS = (4.0, 8.0, 12.0)  # logits of a label that is predicted with certainty; the others' are 0

FORMS: dict[Form, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {  # and the integral
    "softmax cross-entropy": (lambda z: z.softmax(1), lambda z: z.logsumexp(1)),
    "binary cross-entropy": (torch.sigmoid, lambda z: F.softplus(z).sum(1)),
}


def _one_hot(labels: Tensor, z: Tensor) -> Tensor:
    return F.one_hot(labels, z.shape[1]).to(z.dtype)


# How a loss may take its arguments, and the remark about it.
VARIANTS: dict[str, Call] = {
    "": lambda loss, z, labels: loss(z, labels),
    "It takes targets of the logits' shape: one-hot here.": lambda loss, z, labels: loss(z, _one_hot(labels, z)),
    "It takes log-probabilities, not logits.": lambda loss, z, labels: loss(z.log_softmax(1), labels),
    "It takes log-probabilities and targets of their shape: one-hot here.": lambda loss, z, labels: loss(
        z.log_softmax(1), _one_hot(labels, z)
    ),
    "It takes probabilities, not logits.": lambda loss, z, labels: loss(z.softmax(1), labels),
}


@dataclass(frozen=True)
class Target:
    r"""The target of one row: the loss is :math:`m A(z) - m q \cdot z + \text{offset}`, where A is log-sum-exp, or the
    sum of softplus in the binary form.

    Args:
        label: of the row.
        form: "other" where no m and q fit the gradients at all logits.
        mass: m.
        q: [K]; zeros in the form "other".
        offset: None if it varies with the logits.
        pushes_back: whether the gradient lowers the label's logit where the prediction is right and certain.
    """

    label: int
    form: Form
    mass: float
    q: Tensor
    offset: float | None
    pushes_back: bool

    @property
    def others(self) -> Tensor:
        """q without the label's entry, [K - 1]."""
        return torch.cat([self.q[: self.label], self.q[self.label + 1 :]])


def gradient(call: Call, loss: Loss, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The value of a loss and the gradient [N, K] of its sum at logits [N, K]."""
    leaf = z.clone().requires_grad_()
    value = call(loss, leaf, labels)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def target_of(call: Call, loss: Loss, num_classes: int, label: int, weight: Tensor | None = None) -> Target:
    """The target of a label, from gradients at several logits.

    With g(z) = m p(z) - m q, the differences of the gradients between logits give m, and then q.  Class weights w, by
    PyTorch's definition, multiply q_k by w_k / w_label, which is undone.
    """
    random = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(DRAWS, num_classes, dtype=torch.float64, generator=random)
    labels = torch.tensor([label])
    measured = [gradient(call, loss, row[None], labels) for row in z]
    values = torch.stack([value.double().sum() for value, _ in measured])
    slopes = torch.cat([slope for _, slope in measured])
    pushes_back = False
    for margin in MARGINS:
        certain = torch.zeros(1, num_classes, dtype=torch.float64)
        certain[0, label] = margin
        slope = gradient(call, loss, certain, labels)[1][0, label]
        pushes_back |= bool(slope > 0.001 * (1 - certain.softmax(1)[0, label]))
    for form, (link, integral) in FORMS.items():
        p = link(z)
        spread = p - p.mean(0)
        mass = float((spread * slopes).sum() / spread.square().sum())
        q = mass * p - slopes
        if abs(mass) > 1e-8 and float((q - q.mean(0)).abs().max()) <= TOLERANCE * abs(mass):
            q = q.mean(0)
            rest = values - (mass * integral(z) - z @ q)
            offset = float(rest.mean()) if float(rest.std()) <= 10 * TOLERANCE * abs(mass) else None
            if weight is not None and form == "softmax cross-entropy":
                q = q * float(weight[label]) / weight.double()
                mass = float(q.sum())
            return Target(label, form, mass, q / mass, offset, pushes_back)
    return Target(label, "other", 0.0, torch.zeros(num_classes, dtype=torch.float64), None, pushes_back)
