"""The cross-entropy with gradients weighted by the Brier score (BSCE-GRA)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labelsmooth.loss.arguments import Reduction
from labelsmooth.loss.by_row import LossWithSetting, check_number, log_odds_against, reduced_rows
from labelsmooth.target import Mixture

LARGEST_GAMMA = 30.0
"""With it the largest weight, sqrt(2)^gamma, is 2^15, so that the gradient of logits in float16 does not overflow."""


def brier_weighted_loss(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The cross-entropy with the gradient of each example weighted by its Brier score (BSCE-GRA).

        loss = -u * log p_y,      u = ||p - onehot(y)||^gamma (Euclidean), held constant in the gradient

    In the focal loss the weight has a gradient too, so that the least certain examples do not have the largest
    gradient; here it is u (p - onehot(y)).  The weight counts all classes: at equal p_y it is largest where one class
    has all the rest.

    Args:
        gamma: in [0, 30]; 2 is the Brier score, 0 the cross-entropy.  Other powers are those of the authors' code.

    The other arguments, what is returned and what is raised are those of :func:`labelsmooth.focal_loss`.

    Example:
        >>> import torch
        >>> brier_weighted_loss(torch.zeros(1, 2), torch.tensor([0]))  # (0.5^2 + 0.5^2) * log 2
        tensor(0.3466)

    Source: Lin et al., "Uncertainty Weighted Gradients for Model Calibration", 2025, with beta = 2.
    """
    check_number(gamma, "gamma", 0.0, LARGEST_GAMMA)

    def formula(logits: Tensor, labels: Tensor) -> Tensor:
        t, others = log_odds_against(logits, labels)
        # ||p - onehot(y)||^2 = (1 - p_y)^2 * (1 + sum over the others of (p_k / (1 - p_y))^2)
        spread = others.softmax(-1).square().sum(-1).log1p()
        return torch.exp(gamma * (F.logsigmoid(t) + 0.5 * spread)).detach() * -F.logsigmoid(-t)

    return reduced_rows(
        formula, input, target, ignore_index=ignore_index, reduction=reduction, labels_only="brier_weighted_loss"
    )


class BrierWeightedLoss(LossWithSetting):
    """The module of :func:`labelsmooth.brier_weighted_loss`, with the same arguments.

    Example:
        >>> import torch
        >>> BrierWeightedLoss()(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3466)
    """

    function = staticmethod(brier_weighted_loss)
    setting = "gamma"
    gamma: float

    def __init__(self, gamma: float = 2.0, *, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        super().__init__(gamma, ignore_index, reduction)
        check_number(gamma, "gamma", 0.0, LARGEST_GAMMA)
