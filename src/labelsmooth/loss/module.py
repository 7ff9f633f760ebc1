"""The losses as modules, for training loops that want an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from labelsmooth.loss.arguments import check_reduction
from labelsmooth.loss.cross_entropy import cross_entropy
from labelsmooth.loss.mixture import mixed, mixed_cross_entropy, policy_of
from labelsmooth.target import Mixture, Policy, check_epsilon

__all__ = ["LabelSmoothingCrossEntropy"]

Penalty = Callable[..., Tensor]


class LabelSmoothingCrossEntropy(nn.Module):
    """Cross-entropy with label smoothing, the module form of :func:`labelsmooth.cross_entropy`.

        loss = (1 - epsilon) * ce(y) + epsilon * sum_j ce(j) / K,        ce(j) = -log softmax(input)_j

    so the target of a label is 1 - epsilon + epsilon / K, and epsilon / K for each other class.  The other convention
    (the label keeps exactly 1 - epsilon) is ``epsilon=smoothing.Uniform(epsilon, over="others")``; the two convert by
    others(epsilon) = all(epsilon * K / (K - 1)).

    It smooths in ``eval()`` too, as PyTorch's ``nn.CrossEntropyLoss`` does, unless ``smooth_in_eval=False``: then
    ``eval()`` gives the plain cross-entropy, the number to compare across runs.

    A policy that learns from the predictions (``smoothing.Online``) is shown every training batch; step it at the
    end of the epoch.

    It is a loss of fastai's as it stands: ``activation`` and ``decodes`` are what a ``Learner`` asks its loss for.

    Args:
        epsilon: in [0, 1]; a tensor in the shape of the labels; or a policy from ``labelsmooth.smoothing``.  It may
            be set at any time.
        reduction: "mean", "sum" or "none".
        weight: [K] class weights, or None.
        ignore_index: the label that does not count.
        penalty: a function from ``labelsmooth.penalty``, or a list of them, added to the loss; with other settings
            than the paper's by ``functools.partial(penalty.margin, strength=0.05)``.  One that is a loss of its own
            (``penalty.focal``) takes the place of the cross-entropy, and needs ``epsilon=0.0``.
        smooth_in_eval: False for the plain cross-entropy in ``eval()``, without smoothing and penalties.

    Shape:
        input (K,), (N, K) or (N, K, d1, ...); target labels (), (N,), (N, d1, ...), probabilities as ``input``, or a
        mixture from ``smoothing.mix``; output a scalar, or the shape of the labels for "none".

    Raises:
        TypeError, ValueError: an epsilon outside [0, 1], an unknown reduction, or a penalty that cannot be called or
            does not go with the epsilon, when made; what :func:`labelsmooth.cross_entropy` raises, when called.

    Example:
        >>> import torch
        >>> criterion = LabelSmoothingCrossEntropy(0.1)
        >>> logits = torch.zeros(2, 4, requires_grad=True)
        >>> criterion(logits, torch.tensor([1, 3])).backward()
        >>> logits.grad[0]
        tensor([ 0.1125, -0.3375,  0.1125,  0.1125])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.
    """

    weight: Tensor | None
    epsilon: float | Tensor | Policy
    y_int = True  # tells fastai's MixUp and CutMix to mix two losses, since labels cannot be mixed

    def __init__(
        self,
        epsilon: float | Tensor | Policy = 0.1,
        reduction: str = "mean",
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        penalty: Penalty | Sequence[Penalty] | None = None,
        smooth_in_eval: bool = True,
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.epsilon = epsilon
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.smooth_in_eval = smooth_in_eval
        self.register_buffer("weight", weight)
        self.penalties = _penalties(penalty)
        self._check_penalties()

    def __setattr__(self, name: str, value: Any) -> None:
        # A policy is a submodule, so that its tables move and its state is saved; nn.Module would then refuse to
        # have a number set in its place.
        if name == "epsilon":
            if isinstance(value, Tensor) or not callable(value):
                check_epsilon(value, "epsilon")
            self._modules.pop(name, None)
        super().__setattr__(name, value)
        if name == "epsilon" and "penalties" in self.__dict__:
            self._check_penalties()

    def _check_penalties(self) -> None:
        self._in_place_of_cross_entropy = _lone_loss(self.penalties, self.epsilon, self.weight)

    def forward(self, input: Tensor, target: Tensor | Mixture) -> Tensor:
        if not (self.training or self.smooth_in_eval):
            return self._apply_to(cross_entropy, input, target, weight=self.weight, label_smoothing=0.0)
        if self._in_place_of_cross_entropy:
            return self._apply_to(self.penalties[0], input, target)
        smoothing = policy_of(target, self.epsilon) if isinstance(target, Mixture) else self.epsilon
        loss = self._apply_to(cross_entropy, input, target, weight=self.weight, label_smoothing=smoothing)
        for penalty in self.penalties:
            loss = loss + self._apply_to(penalty, input, target)
        observe = getattr(smoothing, "observe", None)
        if self.training and callable(observe):
            observe(input, target, self.ignore_index)
        return loss

    def _apply_to(self, loss: Penalty, input: Tensor, target: Tensor | Mixture, **options: Any) -> Tensor:
        options.update(ignore_index=self.ignore_index, reduction=self.reduction)
        if isinstance(target, Mixture):
            if loss is cross_entropy:
                return mixed_cross_entropy(input, target, **options)
            return mixed(loss, input, target, **options)
        return loss(input, target, **options)

    def activation(self, input: Tensor) -> Tensor:
        """The probabilities of logits in any shape that the loss takes."""
        return input.softmax(_class_dimension(input))

    def decodes(self, input: Tensor) -> Tensor:
        """The labels that logits, or probabilities, speak for."""
        return input.argmax(_class_dimension(input))

    def extra_repr(self) -> str:
        weight = "" if self.weight is None else f", weight=[{len(self.weight)}]"
        ignore = "" if self.ignore_index == -100 else f", ignore_index={self.ignore_index}"
        penalty = "" if not self.penalties else f", penalty={[_name(p) for p in self.penalties]}"
        evaluation = "" if self.smooth_in_eval else ", smooth_in_eval=False"
        epsilon = "" if isinstance(self.epsilon, nn.Module) else f"epsilon={self.epsilon}, "
        return f"{epsilon}reduction={self.reduction!r}{weight}{ignore}{penalty}{evaluation}"


def _class_dimension(input: Tensor) -> int:
    return 0 if input.dim() == 1 else 1


def _penalties(penalty: Penalty | Sequence[Penalty] | None) -> list[Penalty]:
    if penalty is None:
        return []
    listed = list(penalty) if isinstance(penalty, Sequence) else [penalty]
    for each in listed:
        if not callable(each):
            raise TypeError(
                f"penalty={each!r} cannot be called; give a function from labelsmooth.penalty, for example "
                "penalty.margin, or a list of them."
            )
    return listed


def _lone_loss(penalties: list[Penalty], epsilon: float | Tensor | Policy, weight: Tensor | None) -> bool:
    """Whether the penalty is a loss of its own, which then must be alone."""
    lone = [p for p in penalties if getattr(getattr(p, "func", p), "in_place_of_cross_entropy", False)]
    if not lone:
        return False
    plain = isinstance(epsilon, int | float) and epsilon == 0
    if len(penalties) > 1 or not plain or weight is not None:
        raise ValueError(
            f"{_name(lone[0])} is a loss in place of the cross-entropy, so there is nothing to smooth, to weight or to "
            f"add to: use LabelSmoothingCrossEntropy(0.0, penalty={_name(lone[0])}) without weight and other penalties."
        )
    return True


def _name(penalty: Penalty) -> str:
    if isinstance(penalty, partial):
        settings = ", ".join(f"{key}={value}" for key, value in penalty.keywords.items())
        return f"{_name(penalty.func)}({settings})"
    return getattr(penalty, "__name__", type(penalty).__name__)
