"""The focal loss, with a gamma that may depend on the example (FLSD)."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number, in_place_of_cross_entropy

__all__ = ["FLSD_53", "focal"]

FLSD_53 = ((0.2, 5.0), (1.0, 3.0))
"""Mukhoti et al.'s choice: gamma 5 where the label's probability is below 0.2, 3 elsewhere."""


@in_place_of_cross_entropy
def focal(
    input: Tensor,
    target: Tensor,
    *,
    gamma: float | Sequence[tuple[float, float]] = FLSD_53,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The focal loss, a loss in place of the cross-entropy.

        loss = -(1 - p_y)^gamma * log p_y,      p = softmax(z)

    It is an upper bound of KL(q || p) - gamma * H(p) up to a constant: a cross-entropy with a reward for entropy.
    With a sample-dependent gamma, gamma is a step function of p_y, held constant in the gradient.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels (), (N,) or (N, d1, ...).
        gamma: a number of at least 0 for all examples (0 is the cross-entropy); or steps (bound, gamma) with rising
            bounds, each gamma for p_y below its bound, the last bound 1: the default is FLSD-53.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        TypeError: class probabilities as the target.
        ValueError: a negative gamma, steps whose bounds do not rise to 1, or what does not fit together.

    Example:
        >>> import torch
        >>> focal(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0)  # 0.5^2 * log 2
        tensor(0.1733)
        >>> focal(torch.zeros(1, 2), torch.tensor([0]))  # 0.5^3 * log 2
        tensor(0.0866)

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017; the gamma of each example: Mukhoti et al.,
    "Calibrating Deep Neural Networks using Focal Loss", 2020.
    """
    steps = [(1.0, float(gamma))] if isinstance(gamma, float | Real) else [(float(b), float(g)) for b, g in gamma]
    for _, value in steps:
        check_number(value, "gamma", 0.0)
    bounds = [bound for bound, _ in steps]
    if not bounds or sorted(set(bounds)) != bounds or bounds[-1] != 1.0 or bounds[0] <= 0.0:
        raise ValueError(f"gamma={gamma} must be a number or steps (bound, gamma) whose bounds rise from above 0 to 1.")
    examples = Examples.of(input, target, ignore_index, reduction)
    log_p = examples.log_p_of_label("focal")
    p = log_p.detach().exp()
    power = torch.full_like(p, steps[-1][1])
    for bound, value in reversed(steps[:-1]):
        power = torch.where(p < bound, torch.full_like(p, value), power)
    # 1 - p as -expm1(log p): no digits are lost where p is close to 1.
    return examples.reduced((-torch.expm1(log_p)) ** power * -log_p)
