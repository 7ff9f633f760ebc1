"""Margin-based label smoothing (MbLS): logits may differ by a margin for free."""

from __future__ import annotations

from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number

__all__ = ["margin"]


def margin(
    input: Tensor,
    target: Tensor,
    *,
    strength: float = 0.1,
    margin: float = 10.0,
    over_classes: str = "mean",
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Penalise logits that fall more than a margin below the largest.

        penalty = strength * sum_k max(0, max_j z_j - z_k - margin)         [/ K]

    Label smoothing pushes all the gaps to one value; this leaves them alone within the margin.  The paper writes the
    sum over the classes; the authors' code, whose defaults these are, takes the mean, so ``over_classes="mean"``
    divides by K.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels or probabilities, as for :func:`labelsmooth.cross_entropy`; used for ``ignore_index`` alone.
        strength: lambda, at least 0.
        margin: m, at least 0; the paper uses 6 and 10.
        over_classes: "mean" or "sum".
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a strength or margin below 0, an unknown word, or what does not fit together.

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
    examples = Examples.of(input, target, ignore_index, reduction)
    z = examples.logits
    excess = (z.amax(-1, keepdim=True) - z - margin).clamp(min=0.0)
    return examples.reduced(strength * (excess.mean(-1) if over_classes == "mean" else excess.sum(-1)))
