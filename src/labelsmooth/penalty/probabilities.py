"""Penalties on the predicted probabilities: the confidence penalty and the term of PolyLoss."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.loss.arguments import Reduction
from labelsmooth.loss.by_row import check_number, log_p_of_label, reduced_rows
from labelsmooth.target import Mixture

__all__ = ["confidence", "poly1"]


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
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: as :func:`labelsmooth.cross_entropy` takes it; used for ``ignore_index`` alone.
        strength: beta, in [0, 1e6]; the paper uses 0.1 for images and translation, 2.0 for language models.
        threshold: an entropy in nats above which the penalty is 0, in [0, 1e6]; or None.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels; never above 0 without a threshold.

    Raises:
        ValueError: a strength or threshold outside its range, or shapes that do not fit.

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
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a strength outside its range, or shapes that do not fit.

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
