"""The focal loss, with a gamma that may depend on the example (FLSD), and the dual focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from labelsmooth.loss.arguments import Reduction
from labelsmooth.loss.by_row import LossWithSetting, check_number, log_odds_against, reduced_rows
from labelsmooth.target import Mixture

FLSD_53 = ((0.2, 5.0), (1.0, 3.0))
"""The choice of Mukhoti et al.: gamma 5 where the label's probability is below 0.2, 3 elsewhere."""

Gamma = float | Sequence[tuple[float, float]]


def focal_loss(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    gamma: Gamma = FLSD_53,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The focal loss, which takes the place of the cross-entropy.

        loss = -(1 - p_y)^gamma * log p_y,      p = softmax(z)

    Up to a constant it is an upper bound of KL(q || p) - gamma * H(p): a cross-entropy with a reward for entropy.
    A gamma that depends on the example is a step function of p_y, held constant in the gradient.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels (), (N,) or (N, d1, ...), or a mixture of them from ``smoothing.mix``.
        gamma: a number in [0, 1e6] for all examples (0 is the cross-entropy); or steps (bound, gamma) with rising
            bounds, each gamma for p_y below its bound, the last bound 1.  The default is FLSD-53: 5 for p_y below
            0.2, 3 elsewhere.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        TypeError: class probabilities as the target.
        ValueError: a gamma outside its range, steps whose bounds do not rise to 1, or shapes that do not fit.

    Example:
        >>> import torch
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0)  # 0.5^2 * log 2
        tensor(0.1733)
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]))  # 0.5^3 * log 2
        tensor(0.0866)

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017; the gamma of each example: Mukhoti et al.,
    "Calibrating Deep Neural Networks using Focal Loss", 2020.
    """
    steps = _steps(gamma)

    def formula(logits: Tensor, labels: Tensor) -> Tensor:
        # In the log-odds t: with (1 - p) ** gamma itself, the gradient of a certain prediction is 0 ** (gamma - 1),
        # infinite for gamma < 1.
        t, _ = log_odds_against(logits, labels)
        p = torch.sigmoid(-t.detach())
        power = torch.full_like(p, steps[-1][1])
        for bound, value in reversed(steps[:-1]):
            power = torch.where(p < bound, torch.full_like(p, value), power)
        return torch.exp(power * F.logsigmoid(t)) * -F.logsigmoid(-t)

    return reduced_rows(
        formula, input, target, ignore_index=ignore_index, reduction=reduction, labels_only="focal_loss"
    )


def dual_focal_loss(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    gamma: float = 5.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The focal loss with a weight that also falls as the label's lead over the next class grows.

        loss = -(1 - p_y + p_j)^gamma * log p_y,      p_j = max {p_k : p_k < p_y}, or 0 if no class is below the label

    At equal p_y, an example with a close runner-up weighs more than one with a clear lead.  The loss jumps where the
    logit of another class rises above the label's.

    Args:
        gamma: in [0, 1e6]; 0 is the cross-entropy.  With 5 the authors' code trains a ResNet-50 on CIFAR-10.

    The other arguments, what is returned and what is raised are those of :func:`labelsmooth.focal_loss`.

    Example:
        >>> import torch
        >>> dual_focal_loss(torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([0]), gamma=2.0)  # 0.8^2 * log 2
        tensor(0.4436)

    Source: Tao et al., "Dual Focal Loss for Calibration", 2023.
    """
    check_number(gamma, "gamma", 0.0)

    def formula(logits: Tensor, labels: Tensor) -> Tensor:
        t, others = log_odds_against(logits, labels)
        below = others < logits.gather(-1, labels[:, None])
        share = others.softmax(-1)
        # 1 - p_y + p_j = (1 - p_y) * (1 + p_j / (1 - p_y)), whose factors keep their digits near p_y = 1.
        runner_up = torch.where(below, share, torch.zeros_like(share)).amax(-1)
        return torch.exp(gamma * (F.logsigmoid(t) + runner_up.log1p())) * -F.logsigmoid(-t)

    return reduced_rows(
        formula, input, target, ignore_index=ignore_index, reduction=reduction, labels_only="dual_focal_loss"
    )


class FocalLoss(LossWithSetting):
    """The module of :func:`labelsmooth.focal_loss`, with the same arguments.

    Example:
        >>> import torch
        >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.1733)
    """

    function = staticmethod(focal_loss)
    setting = "gamma"
    gamma: Gamma

    def __init__(self, gamma: Gamma = FLSD_53, *, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        super().__init__(gamma, ignore_index, reduction)
        _steps(gamma)


class DualFocalLoss(LossWithSetting):
    """The module of :func:`labelsmooth.dual_focal_loss`, with the same arguments.

    Example:
        >>> import torch
        >>> DualFocalLoss(gamma=2.0)(torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([0]))
        tensor(0.4436)
    """

    function = staticmethod(dual_focal_loss)
    setting = "gamma"
    gamma: float

    def __init__(self, gamma: float = 5.0, *, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        super().__init__(gamma, ignore_index, reduction)
        check_number(gamma, "gamma", 0.0)


def _steps(gamma: Gamma) -> list[tuple[float, float]]:
    """Gamma as steps (bound, gamma).

    Raises:
        ValueError: a gamma outside [0, 1e6], or bounds that do not rise to 1.
    """
    try:
        steps = [(1.0, float(gamma))] if isinstance(gamma, float | Real) else [(float(b), float(g)) for b, g in gamma]
    except (TypeError, ValueError):
        steps = []
    for _, value in steps:
        check_number(value, "gamma", 0.0)
    bounds = [bound for bound, _ in steps]
    if not bounds or sorted(set(bounds)) != bounds or bounds[-1] != 1.0 or bounds[0] <= 0.0:
        raise ValueError(f"gamma={gamma} must be a number or steps (bound, gamma) whose bounds rise from above 0 to 1.")
    return steps
