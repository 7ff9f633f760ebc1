"""Label relaxation: no loss for a distribution that gives the label enough probability."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labelsmooth.loss.arguments import Reduction
from labelsmooth.loss.by_row import LossWithSetting, check_number, log_p_of_label, reduced_rows
from labelsmooth.target import Mixture


def label_relaxation_loss(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    alpha: float = 0.1,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The divergence from the nearest distribution that gives the label 1 - alpha, in place of the cross-entropy.

        loss = 0                                                                            if p_y >= 1 - alpha
        loss = KL(r || p),      r_y = 1 - alpha,      r_k = alpha * p_k / (1 - p_y)         otherwise
             = (1 - alpha) * log((1 - alpha) / p_y) + alpha * log(alpha / (1 - p_y))

    Label smoothing has one target distribution; this loss accepts a set of them, and leaves the other classes in the
    proportions that the model gives them.  alpha = 0 is the cross-entropy.

    Args:
        alpha: in [0, 1].

    The other arguments, what is returned and what is raised are those of :func:`labelsmooth.focal_loss`.

    Example:
        >>> import torch
        >>> label_relaxation_loss(torch.zeros(1, 2), torch.tensor([0]))  # 0.9 log(0.9 / 0.5) + 0.1 log(0.1 / 0.5)
        tensor(0.3681)
        >>> label_relaxation_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))  # p_y = 0.95
        tensor(0.)

    Source: Lienen & Hüllermeier, "From Label Smoothing to Label Relaxation", 2021.
    """
    check_number(alpha, "alpha", 0.0, 1.0)

    def formula(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = log_p_of_label(logits, labels)
        if alpha == 1.0:  # every distribution is in the set
            return 0.0 * log_p
        inside = log_p >= math.log1p(-alpha)
        # Replaced within the set, where the loss is 0: log(1 - p) is infinite at p = 1, and its gradient NaN.
        log_p = torch.where(inside, torch.full_like(log_p, -1.0), log_p)
        divergence = (1.0 - alpha) * (math.log1p(-alpha) - log_p)
        if alpha > 0.0:
            divergence = divergence + alpha * (math.log(alpha) - torch.log(-torch.expm1(log_p)))
        return torch.where(inside, torch.zeros_like(divergence), divergence)

    return reduced_rows(
        formula, input, target, ignore_index=ignore_index, reduction=reduction, labels_only="label_relaxation_loss"
    )


class LabelRelaxationLoss(LossWithSetting):
    """The module of :func:`labelsmooth.label_relaxation_loss`, with the same arguments.

    Example:
        >>> import torch
        >>> LabelRelaxationLoss(alpha=0.1)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3681)
    """

    function = staticmethod(label_relaxation_loss)
    setting = "alpha"
    alpha: float

    def __init__(self, alpha: float = 0.1, *, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        super().__init__(alpha, ignore_index, reduction)
        check_number(alpha, "alpha", 0.0, 1.0)
