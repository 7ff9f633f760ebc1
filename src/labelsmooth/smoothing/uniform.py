"""Uniform label smoothing, in both published conventions, with classes left out of the base if need be."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from labelsmooth.smoothing.base import Smoothing, epsilon_of_rows, smoothed
from labelsmooth.target import Over, Target, check_over

__all__ = ["Uniform"]


class Uniform(Smoothing):
    """Move epsilon of the label's probability to the uniform distribution.

        over="all":     q = (1 - epsilon) * onehot(y) + epsilon / K
        over="others":  q_y = 1 - epsilon,  q_k = epsilon / (K - 1) for the classes k other than y

    The first is the formula of Szegedy et al. and of PyTorch's ``label_smoothing``: the label itself keeps
    1 - epsilon + epsilon / K.  The second is how the method is often told in words.  They convert by
    others(epsilon) = all(epsilon * K / (K - 1)).

    Classes in ``exclude`` get no share of epsilon, as padding gets none in a translation loss; K then counts the
    other classes only.  A label that is itself excluded keeps its 1 - epsilon.

    A negative epsilon pushes the other classes below 0 (Wei et al. 2022, for noisy labels).  The loss is then no
    longer bounded below: it falls by |epsilon| * (K - 1) / K (over="all"; |epsilon| for "others") for every unit
    that the label's logit gains on the rest.  It is bounded below exactly where no entry of q is negative,
    0 <= epsilon <= K / (K - 1), or 1 for "others" (:func:`labelsmooth.smoothing.bounded_below`), so train with
    something else that holds the logits: weight decay, a penalty, few epochs.

    Args:
        epsilon: the smoothed mass, a float in [0, 1]; or a tensor in the shape of the labels, one value for each.
        over: "all" or "others".
        exclude: class indices without a share in the base.
        allow_negative: accept any finite epsilon up to 1.

    Raises:
        TypeError: epsilon is not a number or a tensor, or a class in ``exclude`` is not an integer.
        ValueError: epsilon is outside its range or NaN, ``over`` is neither word, or, when called, "others" meets a
            single class or ``exclude`` leaves no class.

    Example:
        >>> import torch
        >>> Uniform(0.1)(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0250, 0.0250, 0.9250, 0.0250]])
        >>> Uniform(0.1, over="others")(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0333, 0.0333, 0.9000, 0.0333]])
        >>> Uniform(0.3, exclude=[0])(torch.tensor([2]), num_classes=4).dense()
        tensor([[0.0000, 0.1000, 0.8000, 0.1000]])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016; without padding:
    Vaswani et al., "Attention Is All You Need", 2017; negative: Wei et al., "To Smooth or Not? When Label Smoothing
    Meets Noisy Labels", 2022.
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
            return Target.uniform(labels, num_classes, self.epsilon, over=self.over)
        kept = num_classes - len(self.exclude)
        if self.exclude[0] < 0 or self.exclude[-1] >= num_classes or kept == 0:
            raise ValueError(
                f"exclude={list(self.exclude)} does not fit {num_classes} classes; give indices in "
                f"[0, {num_classes}), and leave at least one class in the base."
            )
        # Ones, and epsilon / kept for the scale: exact in every dtype, where 1 / kept would be rounded.
        base = torch.ones(num_classes, device=labels.device)
        for index in self.exclude:  # one by one: a list of indices would be copied to the device, and waited for
            base[index] = 0.0
        epsilon = epsilon_of_rows(self.epsilon, labels.shape[0])
        if labels.is_floating_point():
            if self.over == "others":
                raise TypeError(
                    'over="others" with exclude needs labels: each label has its own classes to leave out. Use '
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
                'class has no other to put epsilon on. Use over="all", or exclude fewer classes.'
            )
        in_base = base[labels.clamp(min=0)] > 0  # an excluded label has all the kept classes as its others
        return torch.where(in_base, epsilon * (kept / (kept - 1)), torch.as_tensor(epsilon, device=labels.device))

    def extra_repr(self) -> str:
        exclude = f", exclude={list(self.exclude)}" if self.exclude else ""
        return f"{super().extra_repr()}, over={self.over!r}{exclude}"
