"""PolyLoss-1: the first term of the cross-entropy's expansion, reweighted."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number

__all__ = ["poly1"]


def poly1(
    input: Tensor,
    target: Tensor,
    *,
    strength: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The term that Poly-1 adds to the cross-entropy.

        penalty = strength * (1 - p_y),      p = softmax(z)

    -log p_y = sum_j (1 - p_y)^j / j, and Poly-1 gives the first of these terms the weight 1 + strength.  For class
    probabilities y, p_y is <y, p>.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels (), (N,) or (N, d1, ...), or class probabilities in the shape of ``input``.
        strength: epsilon_1, at least -1; the paper uses 2 for ImageNet and -1 for detection.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        ValueError: a strength below -1, or what does not fit together.

    Example:
        >>> import torch
        >>> poly1(torch.zeros(1, 4), torch.tensor([2]))  # 2 * (1 - 1/4)
        tensor(1.5000)

    Source: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", 2022.
    """
    check_number(strength, "strength", -1.0)
    examples = Examples.of(input, target, ignore_index, reduction)
    if examples.labels is not None:
        # 1 - p as -expm1(log p): no digits are lost where p is close to 1.
        return examples.reduced(strength * -torch.expm1(examples.log_p_of_label("poly1")))
    q = target.movedim(0 if target.dim() == 1 else 1, -1).reshape(examples.logits.shape)
    return examples.reduced(strength * (1.0 - (q * examples.logits.softmax(-1)).sum(-1)))
