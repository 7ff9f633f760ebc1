"""Max suppression (MaxSup): label smoothing of the prediction in place of the label."""

from __future__ import annotations

from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number

__all__ = ["max_suppression"]


def max_suppression(
    input: Tensor,
    target: Tensor,
    *,
    strength: float = 0.1,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Penalise the gap between the largest logit and the mean.

        penalty = strength * (max_k z_k - sum_k z_k / K)

    Label smoothing adds ``epsilon * (z_y - mean z)`` to the cross-entropy, which pushes the label's logit down even
    where another class wins; this pushes down the winner.  On a correct prediction the two are the same.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels or probabilities, as for :func:`labelsmooth.cross_entropy`; used for ``ignore_index`` alone.
        strength: alpha, at least 0; the paper also raises it from 0.1 to 0.2 over the training.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a negative strength, or what does not fit together.

    Example:
        >>> import torch
        >>> max_suppression(torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([1]), strength=1.0)
        tensor(2.)

    Source: Zhou et al., "MaxSup: Overcoming Representation Collapse in Label Smoothing", 2025.
    """
    check_number(strength, "strength", 0.0)
    examples = Examples.of(input, target, ignore_index, reduction)
    z = examples.logits
    return examples.reduced(strength * (z.max(-1).values - z.mean(-1)))
