"""Penalties on the gaps between logits: margin (MbLS), ACLS and max suppression (MaxSup)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from labelsmooth.loss.arguments import Reduction
from labelsmooth.loss.by_row import check_number, reduced_rows
from labelsmooth.target import Mixture

__all__ = ["acls", "margin", "max_suppression"]


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
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: as :func:`labelsmooth.cross_entropy` takes it; used for ``ignore_index`` alone.
        strength: alpha, in [0, 1e6].
        margin: in [0, 1e6].
        predicted, others: lambda_1 and lambda_2, in [0, 1e6].
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a setting outside its range, or shapes that do not fit.

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
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: as :func:`labelsmooth.cross_entropy` takes it; used for ``ignore_index`` alone.
        strength: alpha, in [0, 1e6]; the paper also raises it from 0.1 to 0.2 over the training.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a strength outside its range, or shapes that do not fit.

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
