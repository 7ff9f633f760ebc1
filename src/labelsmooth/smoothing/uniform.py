"""Uniform label smoothing in both published conventions, and the confidence and the bounds that it leads to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from labelsmooth.smoothing.base import Smoothing, smoothed, table_dtype
from labelsmooth.target import Over, Target, check_epsilon, check_over, epsilon_of_rows


class Uniform(Smoothing):
    """Move epsilon of the label's probability to the uniform distribution.

        over="all":     q = (1 - epsilon) * onehot(y) + epsilon / K
        over="others":  q_y = 1 - epsilon,  q_k = epsilon / (K - 1) for the classes k other than y

    The first is the formula of Szegedy et al. and of PyTorch's ``label_smoothing``: the label itself keeps
    1 - epsilon + epsilon / K.  The second is how the method is often described in words.  They convert by
    others(epsilon) = all(epsilon * K / (K - 1)).

    Classes in ``exclude`` get no share of epsilon, as padding gets none in a translation loss; K then counts the
    other classes only.  A label that is itself excluded keeps its 1 - epsilon.

    A negative epsilon pushes the other classes below 0 (Wei et al. 2022, for noisy labels).  The loss is then no
    longer bounded below: it falls by |epsilon| * (K - 1) / K (over="all"; |epsilon| for "others") for every unit
    by which the label's logit grows over the others.  It is bounded below exactly where no entry of q is negative
    (:func:`labelsmooth.smoothing.bounded_below`), so limit the logits by other means: weight decay, a penalty, or
    few epochs.

    Args:
        epsilon: in [0, 1]; or a tensor in the shape of the labels, one value for each, as in the instance-specific
            smoothing of Zhang & Sabuncu: made anew for every batch, ``Uniform(epsilons[ids])``.
        over: "all" or "others".
        exclude: class indices without a share in the base.
        allow_negative: accept any finite epsilon up to 1.

    Raises:
        TypeError: epsilon is not a number or a tensor, or a class in ``exclude`` is not an integer.
        ValueError: epsilon is outside its range or NaN, ``over`` is neither word; when called, "others" with a single
            class, an ``exclude`` that leaves no class, or a tensor that does not hold one epsilon for each label.

    Example:
        >>> import torch
        >>> Uniform(0.1)(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0250, 0.0250, 0.9250, 0.0250]])
        >>> Uniform(0.1, over="others")(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0333, 0.0333, 0.9000, 0.0333]])
        >>> Uniform(0.3, exclude=[0])(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0000, 0.1000, 0.8000, 0.1000]])
        >>> Uniform(torch.tensor([0.0, 0.4]))(torch.tensor([0, 1]), num_classes=2).dense()
        tensor([[1.0000, 0.0000],
                [0.2000, 0.8000]])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016; without padding:
    Vaswani et al., "Attention Is All You Need", 2017; one epsilon for each label: Zhang & Sabuncu, "Self-Distillation
    as Instance-Specific Label Smoothing", 2020; negative: Wei et al., "To Smooth or Not? When Label Smoothing Meets
    Noisy Labels", 2022.
    """

    def __init__(
        self,
        epsilon: float | Tensor = 0.1,
        over: Over = "all",
        *,
        exclude: Sequence[int] = (),
        allow_negative: bool = False,
    ) -> None:
        super().__init__(epsilon, allow_negative=allow_negative)
        check_over(over)
        for index in exclude:
            if isinstance(index, bool) or not isinstance(index, int | Integral):
                raise TypeError(f"exclude holds {index!r}; give class indices as integers, for example exclude=[0].")
        self.over: Over = over
        self.exclude = tuple(sorted({int(index) for index in exclude}))

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        if not self.exclude:
            return Target.uniform(labels, num_classes, self._current_epsilon(), over=self.over)
        kept = num_classes - len(self.exclude)
        if self.exclude[0] < 0 or self.exclude[-1] >= num_classes or kept == 0:
            raise ValueError(
                f"exclude={list(self.exclude)} does not fit {num_classes} classes; give indices in "
                f"[0, {num_classes}), and leave at least one class in the base."
            )
        # Ones, and epsilon / kept for the scale: exact in every dtype, where 1 / kept would be rounded.
        base = torch.ones(num_classes, dtype=table_dtype(), device=labels.device)
        for index in self.exclude:  # one by one: a list of indices would be copied to the device, and waited for
            base[index] = 0.0
        epsilon = epsilon_of_rows(self._current_epsilon(), labels.shape[0])
        if labels.is_floating_point():
            if self.over == "others":
                raise TypeError(
                    'over="others" with exclude needs labels: which classes are the others depends on it. Use '
                    'over="all" for class probabilities.'
                )
            return smoothed(labels, num_classes, epsilon, base.to(labels.dtype) / kept)
        if self.over == "others":
            epsilon = self._of_others(labels, epsilon, base, kept)
        return Target(num_classes, labels, 1.0 - epsilon, epsilon / kept, base)

    def _of_others(self, labels: Tensor, epsilon: float | Tensor, base: Tensor, kept: int) -> Tensor:
        """The epsilon over all kept classes that puts ``epsilon`` on the kept classes other than the label."""
        if kept < 2:
            raise ValueError(
                f'over="others" with exclude={list(self.exclude)} leaves {kept} class in the base, so a label of that '
                'class has no other class to put epsilon on. Use over="all", or exclude fewer classes.'
            )
        in_base = base[labels.clamp(min=0)] > 0  # an excluded label has all the kept classes as its others
        dtype = epsilon.dtype if isinstance(epsilon, Tensor) else table_dtype()
        share = torch.as_tensor(epsilon, dtype=dtype, device=labels.device)
        return torch.where(in_base, share * (kept / (kept - 1)), share)

    def extra_repr(self) -> str:
        exclude = f", exclude={list(self.exclude)}" if self.exclude else ""
        return f"{super().extra_repr()}, over={self.over!r}{exclude}"


class Ceiling(NamedTuple):
    """The limit of training with a smoothed target."""

    confidence: float  # the probability of the label
    logit_gap: float  # the label's logit minus each other's; infinite without smoothing


def ceiling(epsilon: float, num_classes: int, over: Over = "all") -> Ceiling:
    """The confidence and the logit gap of a perfect fit under uniform smoothing.

    The loss H(q, p) is smallest where p = q, so a perfect fit has

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

    and for every epsilon with a single class, whose loss is 0.

    Example:
        >>> bounded_below(0.1, 10), bounded_below(-0.1, 10)
        (True, False)
    """
    check_over(over)
    if num_classes == 1:
        return True
    return 0.0 <= epsilon <= (num_classes / (num_classes - 1) if over == "all" else 1.0)
