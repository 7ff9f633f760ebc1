"""LabelSmoothingCrossEntropy: the module of cross_entropy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor

from labelsmooth.loss.arguments import Reduction, WeightBy, check_z_loss, is_dtensor
from labelsmooth.loss.by_row import ClassificationLoss, class_dimension
from labelsmooth.loss.cross_entropy import cross_entropy
from labelsmooth.loss.mixture import mixed
from labelsmooth.smoothing.base import WithEpsilon, name_of
from labelsmooth.target import Mixture, Policy, check_epsilon, short_repr

Epsilon = float | Tensor | Policy
Penalty = Callable[..., Tensor]
P = ParamSpec("P")


def _smoothing_given_once(
    init: Callable[Concatenate[LabelSmoothingCrossEntropy, P], None],
) -> Callable[Concatenate[LabelSmoothingCrossEntropy, P], None]:
    """Refuse what the signature cannot: class weights in the place of the smoothing, and the smoothing twice."""

    @wraps(init)
    def checked(self: LabelSmoothingCrossEntropy, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if args and isinstance(args[0], Tensor):
            raise TypeError(
                f"the first argument is a tensor of shape {tuple(args[0].shape)}, but the first argument is the label "
                "smoothing, a number or a policy. Give class weights as weight=..., and a tensor of epsilons as "
                "label_smoothing=..."
            )
        if kwargs.get("epsilon") is not None and (args or "label_smoothing" in kwargs):
            raise TypeError("label_smoothing and epsilon are two names of one argument; give one of them.")
        init(self, *args, **kwargs)

    return checked


class LabelSmoothingCrossEntropy(WithEpsilon, ClassificationLoss):
    """Cross-entropy with label smoothing, the module of :func:`labelsmooth.cross_entropy`.

        loss = (1 - epsilon) * ce(y) + epsilon * sum_j ce(j) / K,        ce(j) = -log softmax(input)_j

    so the target of a label is 1 - epsilon + epsilon / K, and epsilon / K for each other class.  The other convention
    (the label keeps exactly 1 - epsilon) is ``smoothing.Uniform(epsilon, over="others")``; they convert by
    others(epsilon) = all(epsilon * K / (K - 1)).

    It smooths in ``eval()`` too, as PyTorch's ``nn.CrossEntropyLoss`` does, unless ``smooth_in_eval=False``: then
    ``eval()`` gives the plain cross-entropy, the number to compare across runs.

    A policy that learns from the predictions (``smoothing.Online``) observes every training batch; call its
    ``step()`` at the end of each epoch.

    fastai's ``Learner`` takes it as it is.

    Args:
        label_smoothing: epsilon in [0, 1]; or a policy from ``labelsmooth.smoothing``; or, by keyword, a tensor: one
            epsilon for all labels, or one for each label of a batch.  It may be set at any time, as
            ``criterion.epsilon`` or ``criterion.label_smoothing``; a tensor moves with ``.to()``, an ``nn.Parameter``
            is learned.
        reduction: "mean", "sum" or "none".
        epsilon: another name of ``label_smoothing``, as in the papers; give one of the two.
        weight: [K] class weights, or None.
        ignore_index: the label that does not count.
        class_mask, z_loss, weight_by, return_nll, inplace, check: as for :func:`labelsmooth.cross_entropy`.
        penalty: a function from ``labelsmooth.penalty``, or a list of them, added to the loss; with other settings
            than the paper's by ``functools.partial(penalty.margin, strength=0.05)``.
        smooth_in_eval: False for the plain cross-entropy in ``eval()``, without smoothing, z-loss and penalties.

    Shape:
        input (K,), (N, K) or (N, K, d1, ...); target labels (), (N,), (N, d1, ...), probabilities as ``input``, or a
        mixture from ``smoothing.mix``; output a scalar, or the shape of the labels for "none"; with ``return_nll``
        the unsmoothed loss too, without a gradient.

    Raises:
        TypeError: when made, a tensor as the first argument, both names of the smoothing, a weight or mask that
            is not a tensor, or a penalty that cannot be called.
        ValueError: when made, an epsilon outside [0, 1], an unknown reduction, or a penalty together with ``inplace``
            or ``class_mask``.
        IndexError, TypeError, ValueError: when called, as :func:`labelsmooth.cross_entropy`.

    Example:
        >>> import torch
        >>> criterion = LabelSmoothingCrossEntropy(label_smoothing=0.1)
        >>> logits = torch.zeros(2, 4, requires_grad=True)
        >>> criterion(logits, torch.tensor([1, 3])).backward()
        >>> logits.grad[0]
        tensor([ 0.1125, -0.3375,  0.1125,  0.1125])

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.
    """

    epsilon: Epsilon
    weight: Tensor | None
    class_mask: Tensor | None

    @_smoothing_given_once
    def __init__(
        self,
        label_smoothing: Epsilon = 0.1,
        reduction: Reduction = "mean",
        *,
        epsilon: Epsilon | None = None,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        class_mask: Tensor | None = None,
        z_loss: float = 0.0,
        weight_by: WeightBy = "class",
        return_nll: bool = False,
        inplace: bool = False,
        check: bool = False,
        penalty: Penalty | Sequence[Penalty] | None = None,
        smooth_in_eval: bool = True,
    ) -> None:
        super().__init__(ignore_index, reduction)
        check_z_loss(z_loss)
        smoothing, name = (label_smoothing, "label_smoothing") if epsilon is None else (epsilon, "epsilon")
        self._check_epsilon(smoothing, name)
        self.epsilon = smoothing
        for name, tensor in (("weight", weight), ("class_mask", class_mask)):
            if not isinstance(tensor, Tensor | None):
                raise TypeError(
                    f"{name} is a {type(tensor).__name__}; give a torch.Tensor with one entry for each class."
                )
        self.register_buffer("weight", weight)
        self.register_buffer("class_mask", class_mask, persistent=False)  # given, not learned: not in the state
        self.z_loss = z_loss
        self.weight_by: WeightBy = weight_by
        self.return_nll = return_nll
        self.inplace = inplace
        self.check = check
        self.penalties = _penalties(penalty)
        self.smooth_in_eval = smooth_in_eval
        if self.penalties and (inplace or class_mask is not None):
            raise ValueError(
                "a penalty reads all the logits, so it goes neither with inplace, which overwrites them, nor with "
                "class_mask, under which some are not valid. Leave out one of the two."
            )

    @property
    def label_smoothing(self) -> Epsilon:
        """Another name of ``epsilon``."""
        return self.epsilon

    @label_smoothing.setter
    def label_smoothing(self, value: Epsilon) -> None:
        self.epsilon = value

    def __setattr__(self, name: str, value: object) -> None:
        if name == "label_smoothing":  # past nn.Module, which would register a policy under this name
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _check_epsilon(self, value: object, name: str) -> None:
        if isinstance(value, Tensor) or not callable(value):
            check_epsilon(value, name)

    def forward(self, input: Tensor, target: Tensor | Mixture) -> Tensor | tuple[Tensor, Tensor]:
        if not (self.training or self.smooth_in_eval):
            plain = replace(target, policy=None) if isinstance(target, Mixture) else target
            return self._cross_entropy(input, plain, 0.0, 0.0)
        if isinstance(target, Mixture) and target.policy is not None:
            policy, epsilon = target.policy, self.epsilon  # which must be 0
        else:
            policy = epsilon = self._current_epsilon()
        if is_dtensor(input):
            self._refuse_dtensor(policy)
        if self.training:
            self._observe(input, target, policy)
        loss = self._cross_entropy(input, target, epsilon, self.z_loss)
        if not self.penalties:
            return loss
        added = self._penalty(input, target)
        return (loss[0] + added, loss[1]) if isinstance(loss, tuple) else loss + added

    def _cross_entropy(
        self, input: Tensor, target: Tensor | Mixture, epsilon: Epsilon, z_loss: float
    ) -> Tensor | tuple[Tensor, Tensor]:
        # As Any: the overloads of cross_entropy tell the two values of return_nll apart.
        options: dict[str, Any] = {"inplace": self.inplace, "check": self.check, "return_nll": self.return_nll}
        loss: Tensor | tuple[Tensor, Tensor] = cross_entropy(
            input,
            target,
            self.weight,
            self.ignore_index,
            self.reduction,
            epsilon,
            class_mask=self.class_mask,
            z_loss=z_loss,
            weight_by=self.weight_by,
            **options,
        )
        return loss

    def _observe(self, input: Tensor, target: Tensor | Mixture, policy: Epsilon) -> None:
        """Show the batch to a policy that learns from it; before the loss, which may overwrite the logits."""
        if isinstance(policy, float | int | Tensor):  # torch.compile cannot look for attributes of a number
            return
        observe = getattr(policy, "observe", None)
        if not callable(observe):
            return
        if self.class_mask is not None:
            classes = class_dimension(input)
            dims = [1] * classes + [-1] + [1] * (input.dim() - classes - 1)
            mask = self.class_mask if self.class_mask.dim() == input.dim() else self.class_mask.reshape(dims)
            input = torch.where(mask, input, -torch.inf)
        observe(input, target, self.ignore_index)

    def _refuse_dtensor(self, policy: Epsilon) -> None:
        if self.penalties or (self.training and callable(getattr(policy, "observe", None))):
            raise TypeError(
                "input is a DTensor, but a penalty, or a policy that observes the predictions, reads all logits of a "
                "row. Call the loss with input.full_tensor(), or leave the penalty or the policy out."
            )

    def _penalty(self, input: Tensor, target: Tensor | Mixture) -> Tensor:
        options: dict[str, Any] = {"ignore_index": self.ignore_index, "reduction": self.reduction}
        if isinstance(target, Mixture):
            values = [mixed(penalty, input, target, **options) for penalty in self.penalties]
        else:
            values = [penalty(input, target, **options) for penalty in self.penalties]
        return sum(values[1:], values[0])

    def __repr__(self) -> str:
        """On one line: nn.Module writes a policy on a line of its own."""
        weight = "" if self.weight is None else f", weight=[{len(self.weight)}]"
        weight += ', weight_by="label"' if self.weight_by == "label" else ""
        mask = "" if self.class_mask is None else f", class_mask={list(self.class_mask.shape)}"
        z_loss = f", z_loss={self.z_loss}" if self.z_loss else ""
        flags = "".join(f", {name}=True" for name in ("return_nll", "inplace", "check") if getattr(self, name))
        penalty = f", penalty=[{', '.join(map(name_of, self.penalties))}]" if self.penalties else ""
        evaluation = "" if self.smooth_in_eval else ", smooth_in_eval=False"
        smoothing = f"label_smoothing={short_repr(self.epsilon)}{self.extra_repr()}"
        return f"{type(self).__name__}({smoothing}{weight}{mask}{z_loss}{flags}{penalty}{evaluation})"


def _penalties(penalty: Penalty | Sequence[Penalty] | None) -> list[Penalty]:
    if penalty is None:
        return []
    penalties = list(penalty) if isinstance(penalty, Sequence) else [penalty]
    for function in penalties:
        if not callable(function):
            raise TypeError(
                f"penalty={function!r} cannot be called; give a function from labelsmooth.penalty, for example "
                "penalty.margin, or a list of them."
            )
    return penalties
