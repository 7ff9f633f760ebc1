"""Label relaxation: any distribution that gives the label enough is as good as another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number, in_place_of_cross_entropy

__all__ = ["label_relaxation"]


@in_place_of_cross_entropy
def label_relaxation(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.1,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The distance to the nearest distribution that gives the label 1 - alpha, a loss in place of the cross-entropy.

        loss = 0                                                                            if p_y >= 1 - alpha
        loss = KL(r || p),      r_y = 1 - alpha,      r_k = alpha * p_k / (1 - p_y)         otherwise
             = (1 - alpha) * log((1 - alpha) / p_y) + alpha * log(alpha / (1 - p_y))

    Where label smoothing asks for one distribution, this accepts a set of them, and leaves the other classes in the
    proportions that the model gives them.  alpha = 0 is the cross-entropy.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels (), (N,) or (N, d1, ...).
        alpha: in [0, 1].
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        TypeError: class probabilities as the target.
        ValueError: an alpha outside [0, 1], or what does not fit together.

    Example:
        >>> import torch
        >>> label_relaxation(torch.zeros(1, 2), torch.tensor([0]))  # 0.9 log(0.9 / 0.5) + 0.1 log(0.1 / 0.5)
        tensor(0.3681)
        >>> label_relaxation(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))  # p_y = 0.95
        tensor(0.)

    Source: Lienen & Hüllermeier, "From Label Smoothing to Label Relaxation", 2021.
    """
    check_number(alpha, "alpha", 0.0, 1.0)
    examples = Examples.of(input, target, ignore_index, reduction)
    log_p = examples.log_p_of_label("label_relaxation")
    if alpha == 1.0:  # every distribution is in the set
        return examples.reduced(0.0 * log_p)
    inside = log_p >= math.log1p(-alpha)
    # Replaced within the set, where the loss is 0: log(1 - p) is infinite at p = 1, and its gradient NaN.
    log_p = torch.where(inside, torch.full_like(log_p, -1.0), log_p)
    divergence = (1.0 - alpha) * (math.log1p(-alpha) - log_p)
    if alpha > 0.0:
        divergence = divergence + alpha * (math.log(alpha) - torch.log(-torch.expm1(log_p)))
    return examples.reduced(torch.where(inside, torch.zeros_like(divergence), divergence))
