"""Penalties on gaps between logits (margin, ACLS, max suppression) and on probabilities (confidence, PolyLoss)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from labelsmooth.loss.arguments import Reduction
from labelsmooth.loss.by_row import check_number, log_p_of_label, reduced_rows
from labelsmooth.target import Mixture


def margin(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    strength: float = 0.1,
    margin: float = 10.0,
    over_classes: Literal["mean", "sum"] = "mean",
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Penalise logits that fall more than a margin below the largest.

        penalty = strength * sum_k max(0, max_j z_j - z_k - margin)         [/ K]

    Label smoothing pushes all the gaps to one value; this penalty leaves them alone within the margin.  The paper has
    the sum over the classes; the authors' code, whose defaults these are, takes the mean, so ``over_classes="mean"``
    divides by K.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: as :func:`labelsmooth.cross_entropy` takes it; used for ``ignore_index`` alone.
        strength: lambda, in [0, 1e6].
        margin: m, in [0, 1e6]; the paper uses 6 and 10.
        over_classes: "mean" or "sum".
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a strength or margin outside its range, an unknown ``over_classes``, or shapes that do not fit.

    Example:
        >>> import torch
        >>> margin(torch.tensor([[12.0, 0.0, 1.0, 11.0]]), torch.tensor([0]), strength=1.0, over_classes="sum")
        tensor(3.)

    Source: Liu et al., "The Devil is in the Margin: Margin-based Label Smoothing for Network Calibration", 2022.
    """
    check_number(strength, "strength", 0.0)
    check_number(margin, "margin", 0.0)
    if over_classes not in ("mean", "sum"):
        raise ValueError(f'over_classes={over_classes!r} is unknown; use "mean" or "sum".')

    def formula(z: Tensor, _: Tensor) -> Tensor:
        excess = (z.amax(-1, keepdim=True) - z - margin).clamp(min=0.0)
        return strength * (excess.mean(-1) if over_classes == "mean" else excess.sum(-1))

    return reduced_rows(formula, input, target, ignore_index=ignore_index, reduction=reduction)


def acls(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    strength: float = 0.1,
    margin: float = 10.0,
    predicted: float = 1.0,
    others: float = 0.1,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Penalise the largest logit, and the others' distance from it, by the squared excess over a margin.

        penalty = strength * ( predicted * max(0, z_m - margin)^2
                               + others / (K - 1) * sum_{k != m} max(0, [z_m] - z_k - margin)^2 ),     m = argmax z

    where [z_m] is held constant, so that the second term raises the low logits and leaves the largest to the first.
    The squares make the smoothing grow with the excess (adaptive), and it starts at the margin (conditional).  The
    formula and the defaults are those of the authors' code; the first term takes z_m itself, so unlike a softmax the
    penalty changes when a constant is added to all logits.

    Args:
        strength: alpha, in [0, 1e6].
        margin: in [0, 1e6].
        predicted, others: lambda_1 and lambda_2, in [0, 1e6].

    The other arguments, what is returned and what is raised are those of :func:`margin`.

    Example:
        >>> import torch
        >>> acls(torch.tensor([[12.0, 0.0, 5.0]]), torch.tensor([0]), strength=1.0)  # 1 * 2^2 + 0.1 / 2 * 2^2
        tensor(4.2000)

    Source: Park et al., "ACLS: Adaptive and Conditional Label Smoothing for Network Calibration", 2023.
    """
    for name, value in (("strength", strength), ("margin", margin), ("predicted", predicted), ("others", others)):
        check_number(value, name, 0.0)

    def formula(z: Tensor, _: Tensor) -> Tensor:
        largest = z.max(-1)  # by index and not amax, which would share the gradient among equal logits
        above = (largest.values - margin).clamp(min=0.0).square()
        below = (largest.values.detach()[:, None] - z - margin).clamp(min=0.0).square()
        # The largest logit is its own distance 0 away, so it adds nothing to the sum.
        return strength * (predicted * above + others / max(z.shape[1] - 1, 1) * below.sum(-1))

    return reduced_rows(formula, input, target, ignore_index=ignore_index, reduction=reduction)


def max_suppression(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    strength: float = 0.1,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Penalise the gap between the largest logit and the mean.

        penalty = strength * (max_k z_k - sum_k z_k / K)

    Label smoothing adds ``epsilon * (z_y - mean z)`` to the cross-entropy, which lowers the label's logit even where
    another class has the largest; this penalty lowers the largest.  On a correct prediction the two are the same.

    Args:
        strength: alpha, in [0, 1e6]; the paper also raises it from 0.1 to 0.2 over the training.

    The other arguments, what is returned and what is raised are those of :func:`margin`.

    Example:
        >>> import torch
        >>> max_suppression(torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([1]), strength=1.0)
        tensor(2.)

    Source: Zhou et al., "MaxSup: Overcoming Representation Collapse in Label Smoothing", 2025.
    """
    check_number(strength, "strength", 0.0)

    def formula(z: Tensor, _: Tensor) -> Tensor:
        return strength * (z.max(-1).values - z.mean(-1))

    return reduced_rows(formula, input, target, ignore_index=ignore_index, reduction=reduction)


def confidence(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    strength: float = 0.1,
    threshold: float | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Penalise predictions of low entropy.

        penalty = -strength * H(p),      H(p) = -sum_k p_k log p_k,      p = softmax(z)
        penalty = strength * max(0, threshold - H(p))                    with a threshold

    Args:
        strength: beta, in [0, 1e6]; the paper uses 0.1 for images and translation, 2.0 for language models.
        threshold: an entropy in nats above which the penalty is 0, in [0, 1e6]; or None, for a penalty that is
            never above 0.

    The other arguments, what is returned and what is raised are those of :func:`margin`.

    Example:
        >>> import torch
        >>> confidence(torch.zeros(1, 4), torch.tensor([1]), strength=1.0)  # -log 4
        tensor(-1.3863)

    Source: Pereyra et al., "Regularizing Neural Networks by Penalizing Confident Output Distributions", 2017.
    """
    check_number(strength, "strength", 0.0)
    if threshold is not None:
        check_number(threshold, "threshold", 0.0)

    def formula(z: Tensor, _: Tensor) -> Tensor:
        log_p = z.log_softmax(-1)
        p = log_p.exp()
        negative_entropy = (p * torch.where(p > 0, log_p, torch.zeros_like(log_p))).sum(-1)  # 0 * log 0 = 0
        if threshold is not None:
            negative_entropy = (threshold + negative_entropy).clamp(min=0.0)
        return strength * negative_entropy

    return reduced_rows(formula, input, target, ignore_index=ignore_index, reduction=reduction)


def poly1(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    strength: float = 2.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The term that Poly-1 adds to the cross-entropy.

        penalty = strength * (1 - p_y),      p = softmax(z)

    -log p_y = sum_j (1 - p_y)^j / j, and Poly-1 gives the first of these terms the weight 1 + strength.  For class
    probabilities y, p_y is <y, p>.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels (), (N,) or (N, d1, ...), a mixture of them, or class probabilities in the shape of ``input``.
        strength: epsilon_1, in [-1, 1e6]; the paper uses 2 for ImageNet and -1 for detection.

    The other arguments, what is returned and what is raised are those of :func:`margin`.

    Example:
        >>> import torch
        >>> poly1(torch.zeros(1, 4), torch.tensor([2]))  # 2 * (1 - 1/4)
        tensor(1.5000)

    Source: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", 2022.
    """
    check_number(strength, "strength", -1.0)

    def formula(z: Tensor, labels: Tensor) -> Tensor:
        if labels.is_floating_point():
            return strength * (1.0 - (labels * z.softmax(-1)).sum(-1))
        # 1 - p as -expm1(log p): no digits are lost where p is close to 1.
        return strength * -torch.expm1(log_p_of_label(z, labels))

    return reduced_rows(formula, input, target, ignore_index=ignore_index, reduction=reduction)
