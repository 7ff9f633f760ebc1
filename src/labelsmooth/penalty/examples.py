"""What every penalty does around its formula: shapes, ignored labels and the reduction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TypeVar

import torch
from torch import Tensor

from labelsmooth.kernels.reference import accumulation_dtype
from labelsmooth.loss.arguments import as_rows, check_reduction, counted_labels

__all__ = ["Examples", "check_number", "in_place_of_cross_entropy"]

Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True, slots=True)
class Examples:
    """Logits and labels of any of PyTorch's shapes as rows, and the way back."""

    logits: Tensor  # [N, K], in the accumulation dtype; rows that do not count are zeros
    labels: Tensor | None  # [N] in [0, K), None for class probabilities
    counted: Tensor | None  # [N] bool, None where every row counts
    outside: Tensor | None  # [N] bool: labels out of range where that could not raise
    shape: torch.Size
    reduction: str

    @classmethod
    def of(cls, input: Tensor, target: Tensor, ignore_index: int, reduction: str) -> Examples:
        """What :func:`labelsmooth.cross_entropy` takes, with its errors."""
        check_reduction(reduction)
        rows = as_rows(input, target)
        logits = rows.logits.to(accumulation_dtype(rows.logits.dtype))
        if rows.has_probabilities:
            return cls(logits, None, None, None, rows.shape, reduction)
        labels, outside = counted_labels(rows.target, logits.shape[1], ignore_index)
        counted = labels >= 0
        # Blanked before the formula: a NaN logit times a zero gradient would still be NaN.
        logits = torch.where(counted[:, None], logits, torch.zeros_like(logits))
        return cls(logits, labels.clamp(min=0), counted, outside, rows.shape, reduction)

    def index(self, name: str) -> Tensor:
        """The labels, for a penalty that needs them.

        Raises:
            TypeError: the target holds class probabilities.
        """
        if self.labels is None:
            raise TypeError(f"{name} needs labels, and this target holds class probabilities; give integer labels.")
        return self.labels

    def log_p_of_label(self, name: str) -> Tensor:
        """log softmax(z)[y] of each row."""
        labels = self.index(name)
        return self.logits.log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)

    def reduced(self, values: Tensor) -> Tensor:
        """One value for each row, reduced over the rows that count; without any, the mean is NaN."""
        if self.counted is not None:
            values = torch.where(self.counted, values, torch.zeros_like(values))
        if self.outside is not None:
            values = values.masked_fill(self.outside, torch.nan)
        if self.reduction == "none":
            return values.reshape(self.shape)
        if self.reduction == "sum":
            return values.sum()
        return values.sum() / (values.numel() if self.counted is None else self.counted.sum())


def in_place_of_cross_entropy(function: Function) -> Function:
    """Mark a function that is a loss of its own, not a term to add to one."""
    function.in_place_of_cross_entropy = True  # type: ignore[attr-defined]
    return function


def check_number(value: float, name: str, low: float, high: float = torch.inf, *, above: bool = False) -> None:
    """Raise ValueError unless low <= value <= high (low < value where ``above``) and value is finite."""
    fits = (
        isinstance(value, float | Real)
        and not isinstance(value, bool)
        and low <= value <= high
        and abs(value) != torch.inf
    )
    if not fits or (above and value == low):
        left = "(" if above else "["
        right = ")" if high == torch.inf else "]"
        raise ValueError(f"{name}={value} must be a number in {left}{low}, {high}{right}.")
