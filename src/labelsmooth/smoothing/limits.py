"""Where training with a smoothed target leads: the ceiling of the confidence, and whether the loss has a floor."""

from __future__ import annotations

import math
from typing import NamedTuple

from labelsmooth.target import Over, check_epsilon, check_over

__all__ = ["Ceiling", "bounded_below", "ceiling"]


class Ceiling(NamedTuple):
    """What a perfect fit converges to."""

    confidence: float  # the probability of the label
    logit_gap: float  # the label's logit minus each other's; infinite without smoothing


def ceiling(epsilon: float, num_classes: int, over: Over = "all") -> Ceiling:
    """The confidence and the logit gap at which uniform smoothing stops pushing.

    The loss H(q, p) is least where p = q, so a perfect fit has

        over="all":     confidence 1 - epsilon + epsilon / K,      gap log(1 + K * (1 - epsilon) / epsilon)
        over="others":  confidence 1 - epsilon,                    gap log((K - 1) * (1 - epsilon) / epsilon)

    Args:
        epsilon: in [0, 1].
        num_classes: K, at least 1.
        over: "all" or "others".

    Returns:
        ``Ceiling(confidence, logit_gap)``.

    Example:
        >>> ceiling(0.1, 10)
        Ceiling(confidence=0.91, logit_gap=4.51085950651685)

    Source: Müller et al., "When Does Label Smoothing Help?", 2019.
    """
    check_epsilon(epsilon, "epsilon")
    check_over(over)
    if num_classes < 1 or (over == "others" and num_classes < 2):
        raise ValueError(f'num_classes={num_classes} is too few: at least 1, and at least 2 for over="others".')
    other = epsilon / (num_classes if over == "all" else num_classes - 1)
    label = 1.0 - epsilon + (other if over == "all" else 0.0)
    if other == 0.0:
        return Ceiling(label, math.inf)
    return Ceiling(label, math.log(label / other) if label > 0.0 else -math.inf)


def bounded_below(epsilon: float, num_classes: int, over: Over = "all") -> bool:
    """Whether the smoothed cross-entropy has a lower bound over all logits.

    -sum_k q_k log p_k has one exactly where no q_k is negative: a class with negative q_k takes the loss to minus
    infinity as its p_k goes to 0.  So

        over="all":     0 <= epsilon <= K / (K - 1)
        over="others":  0 <= epsilon <= 1

    and any epsilon with a single class, whose loss is 0.  With a negative epsilon the loss falls without end.

    Example:
        >>> bounded_below(0.1, 10), bounded_below(-0.1, 10)
        (True, False)
    """
    check_over(over)
    if num_classes == 1:
        return True
    return 0.0 <= epsilon <= (num_classes / (num_classes - 1) if over == "all" else 1.0)
