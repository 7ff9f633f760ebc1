"""The confidence penalty: a reward for the entropy of the prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number

__all__ = ["confidence"]


def confidence(
    input: Tensor,
    target: Tensor,
    *,
    strength: float = 0.1,
    threshold: float | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Penalise predictions of low entropy.

        penalty = -strength * H(p),      H(p) = -sum_k p_k log p_k,      p = softmax(z)
        penalty = strength * max(0, threshold - H(p))                    with a threshold

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels or probabilities, as for :func:`labelsmooth.cross_entropy`; used for ``ignore_index`` alone.
        strength: beta, at least 0; the paper uses 0.1 for images and translation, 2.0 for language models.
        threshold: an entropy in nats beyond which nothing is gained, or None.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels; never above 0 without a threshold.

    Raises:
        ValueError: a negative strength or threshold, or what does not fit together.

    Example:
        >>> import torch
        >>> confidence(torch.zeros(1, 4), torch.tensor([1]), strength=1.0)  # -log 4
        tensor(-1.3863)

    Source: Pereyra et al., "Regularizing Neural Networks by Penalizing Confident Output Distributions", 2017.
    """
    check_number(strength, "strength", 0.0)
    if threshold is not None:
        check_number(threshold, "threshold", 0.0)
    examples = Examples.of(input, target, ignore_index, reduction)
    log_p = examples.logits.log_softmax(-1)
    p = log_p.exp()
    negative_entropy = (p * torch.where(p > 0, log_p, torch.zeros_like(log_p))).sum(-1)  # 0 * log 0 = 0
    if threshold is not None:
        negative_entropy = (threshold + negative_entropy).clamp(min=0.0)
    return examples.reduced(strength * negative_entropy)
