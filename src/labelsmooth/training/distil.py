"""The loss of a student: on its labels, and on the probabilities of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from labelsmooth.loss import cross_entropy


class DistillationLoss(nn.Module):
    r"""Cross-entropy with the labels, and with a teacher's probabilities where both are softened by a temperature.

    .. math:: (1 - w) \, H(y, \operatorname{softmax}(z))
              + w \, T^2 \, H(\operatorname{softmax}(t / T), \operatorname{softmax}(z / T))

    for the logits z of the student and t of the teacher.  The factor :math:`T^2` keeps the gradients of the second part
    of about the same size at every temperature.  The student predicts at temperature 1.

    Args:
        temperature: T, above 0.
        weight: w, in [0, 1].

    Example:
        >>> import torch
        >>> logits, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> DistillationLoss(temperature=2.0, weight=0.5)(logits, (torch.tensor([0]), teacher))
        tensor(1.4451)

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """

    def __init__(self, temperature: float, weight: float) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight

    def forward(self, logits: Tensor, target: Sequence[Tensor]) -> Tensor:
        """The loss of logits [N, K], given the labels [N] (or probabilities [N, K]) and the teacher's logits [N, K]."""
        labels, teacher = target
        softened = (teacher / self.temperature).softmax(-1)
        of_teacher = cross_entropy(logits / self.temperature, softened)
        return (1 - self.weight) * cross_entropy(logits, labels) + self.weight * self.temperature**2 * of_teacher
