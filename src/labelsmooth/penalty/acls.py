"""Adaptive and conditional label smoothing (ACLS)."""

from __future__ import annotations

from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number

__all__ = ["acls"]


def acls(
    input: Tensor,
    target: Tensor,
    *,
    strength: float = 0.1,
    margin: float = 10.0,
    predicted: float = 1.0,
    others: float = 0.1,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Smooth a prediction the more, the further it is beyond a margin, and only then.

        penalty = strength * ( predicted * max(0, z_m - margin)^2
                               + others / (K - 1) * sum_{k != m} max(0, [z_m] - z_k - margin)^2 ),     m = argmax z

    where [z_m] is held constant, so that the second term lifts the low logits and leaves the largest to the first.
    The squared hinges make the smoothing grow with the excess (adaptive) and start at the margin (conditional).  The
    formula and the defaults are those of the authors' code; the first term looks at z_m itself, so unlike a softmax
    the penalty changes when a constant is added to all logits.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels or probabilities, as for :func:`labelsmooth.cross_entropy`; used for ``ignore_index`` alone.
        strength: alpha, at least 0.
        margin: at least 0.
        predicted, others: lambda_1 and lambda_2, at least 0.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a negative setting, or what does not fit together.

    Example:
        >>> import torch
        >>> acls(torch.tensor([[12.0, 0.0, 5.0]]), torch.tensor([0]), strength=1.0)  # 1 * 2^2 + 0.1 / 2 * 2^2
        tensor(4.2000)

    Source: Park et al., "ACLS: Adaptive and Conditional Label Smoothing for Network Calibration", 2023.
    """
    for name, value in (("strength", strength), ("margin", margin), ("predicted", predicted), ("others", others)):
        check_number(value, name, 0.0)
    examples = Examples.of(input, target, ignore_index, reduction)
    z = examples.logits
    largest = z.max(-1)  # by index and not amax, which would share the gradient among equal logits
    above = (largest.values - margin).clamp(min=0.0).square()
    below = (largest.values.detach()[:, None] - z - margin).clamp(min=0.0).square()
    # The largest logit is its own distance 0 away, so it adds nothing to the sum.
    return examples.reduced(strength * (predicted * above + others / max(z.shape[1] - 1, 1) * below.sum(-1)))
