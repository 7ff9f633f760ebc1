"""What losses of rows share: shapes, mixtures, ignored labels and the reduction of a formula; the base of modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import NoReturn

import torch
from torch import Tensor, nn

from labelsmooth.kernels.reference import accumulation_dtype
from labelsmooth.loss.arguments import Reduction, as_rows, check_reduction, torchscript_refusal, validated_labels
from labelsmooth.loss.mixture import mixed
from labelsmooth.target import Mixture

Formula = Callable[[Tensor, Tensor], Tensor]

LARGEST = 1e6
"""The largest strength, margin, gamma or temperature: no use is near it, and float32 overflows far above it."""


def reduced_rows(
    formula: Formula,
    input: Tensor,
    target: Tensor | Mixture,
    *,
    ignore_index: int,
    reduction: Reduction,
    labels_only: str = "",
) -> Tensor:
    """``formula(logits, labels)`` of each row, reduced over the rows that count; without any, the mean is NaN.

    Args:
        formula: takes logits [N, K] in the accumulation dtype and labels [N] in [0, K), or class probabilities
            [N, K] in their place; returns [N].
        input, target: as :func:`labelsmooth.cross_entropy` takes them.
        labels_only: the name of a loss that takes no class probabilities.

    Raises:
        TypeError: class probabilities for a loss that needs labels.
        IndexError, TypeError, ValueError: as :func:`labelsmooth.cross_entropy`.
    """
    if isinstance(target, Mixture):
        of_labels = partial(reduced_rows, formula, labels_only=labels_only)
        return mixed(of_labels, input, target, ignore_index=ignore_index, reduction=reduction)
    check_reduction(reduction)
    rows = as_rows(input, target)
    logits = rows.logits.to(accumulation_dtype(rows.logits.dtype))
    if rows.has_probabilities:
        if labels_only:
            raise TypeError(
                f"{labels_only} needs labels, and this target holds class probabilities; give integer labels."
            )
        return _reduced(formula(logits, rows.target.to(logits.dtype)), len(logits), rows.shape, reduction)
    labels, count = validated_labels(rows.target, logits.shape[1], ignore_index)
    counted = labels != -1
    # Blanked before the formula: a NaN logit times a zero gradient would still be NaN.
    values = formula(torch.where(counted[:, None], logits, torch.zeros_like(logits)), labels.clamp(min=0))
    values = torch.where(counted, values, torch.zeros_like(values))
    values = values.masked_fill(labels < -1, torch.nan)  # labels out of range, where that could not raise
    return _reduced(values, count, rows.shape, reduction)


def _reduced(values: Tensor, count: int | Tensor, shape: torch.Size, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return values.reshape(shape)
    return values.sum() if reduction == "sum" else values.sum() / count


def log_p_of_label(logits: Tensor, labels: Tensor) -> Tensor:
    """log softmax(z)[y] of each row."""
    return logits.log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)


def log_odds_against(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(t, others) of each row: t = log((1 - p_y) / p_y), and the logits with the label's at the smallest number.

    log p_y = logsigmoid(-t) and log(1 - p_y) = logsigmoid(t); unlike log p_y they keep their digits where p_y is within
    rounding of 1.  softmax(others) is p_k / (1 - p_y).
    """
    index = labels[:, None]
    # The smallest number rather than -inf: a single class has no others, and -inf would make its gradient NaN.
    others = logits.scatter(-1, index, torch.finfo(logits.dtype).min)
    return others.logsumexp(-1) - logits.gather(-1, index).squeeze(-1), others


def check_number(value: float, name: str, low: float, high: float = LARGEST) -> None:
    """Raise ValueError unless value is a number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high:
        raise ValueError(f"{name}={value} must be a number in [{low:g}, {high:g}].")


class ClassificationLoss(nn.Module):
    """A loss of logits and labels with the classes in dimension 1, with what fastai's ``Learner`` asks a loss for."""

    y_int = True  # tells fastai's MixUp and CutMix to mix two losses, since labels cannot be mixed

    def __init__(self, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction

    def __prepare_scriptable__(self) -> NoReturn:
        raise torchscript_refusal(type(self).__name__)

    def activation(self, input: Tensor) -> Tensor:
        """The probabilities of logits in any shape that the loss takes."""
        return input.softmax(class_dimension(input))

    def decodes(self, input: Tensor) -> Tensor:
        """The predicted labels of logits or probabilities."""
        return input.argmax(class_dimension(input))

    def extra_repr(self) -> str:
        ignore = "" if self.ignore_index == -100 else f", ignore_index={self.ignore_index}"
        return ignore + ("" if self.reduction == "mean" else f", reduction={self.reduction!r}")


def class_dimension(input: Tensor) -> int:
    """The dimension of the classes of logits (K,), (N, K) or (N, K, d1, ...)."""
    return 0 if input.dim() == 1 else 1


class LossWithSetting(ClassificationLoss):
    """The module of ``function``, a loss with one setting of its own, whose name is ``setting``."""

    function: Callable[..., Tensor]
    setting: str

    def __init__(self, value: object, ignore_index: int, reduction: Reduction) -> None:
        super().__init__(ignore_index, reduction)
        setattr(self, self.setting, value)

    def forward(self, input: Tensor, target: Tensor | Mixture) -> Tensor:
        own = {self.setting: getattr(self, self.setting)}
        return type(self).function(input, target, **own, ignore_index=self.ignore_index, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"{self.setting}={getattr(self, self.setting)}{super().extra_repr()}"
