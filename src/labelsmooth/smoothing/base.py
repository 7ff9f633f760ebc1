"""What the policies share: an epsilon that is checked whenever it is set, and q made from a base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from labelsmooth.target import Target, check_epsilon

__all__ = ["Smoothing", "distribution", "smoothed"]


class Smoothing(nn.Module):
    """A policy with an ``epsilon``; a module, so that its tables move with ``.to()`` and its state is saved.

    ``epsilon`` may be set at any time (a schedule does) and is read at every call, so nothing is compiled for a
    value of it.
    """

    def __init__(self, epsilon: float | Tensor, *, allow_negative: bool = False) -> None:
        super().__init__()
        self.allow_negative = allow_negative
        self.epsilon = epsilon

    @property
    def epsilon(self) -> float | Tensor:
        return self._epsilon

    @epsilon.setter
    def epsilon(self, value: float | Tensor) -> None:
        check_epsilon(value, "epsilon", allow_negative=self.allow_negative)
        self._epsilon = value

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        raise NotImplementedError(f"{type(self).__name__} is no policy yet: define forward(labels, num_classes).")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # An epsilon is set and replaced like a number, so it is no buffer; as a tensor it moves like one.
        if isinstance(self._epsilon, Tensor):
            self._epsilon = fn(self._epsilon)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        shown = self.epsilon
        return f"epsilon={list(shown.shape) if isinstance(shown, Tensor) and shown.dim() else shown}"


def smoothed(labels: Tensor, num_classes: int, epsilon: float | Tensor, base: Tensor, *, rows: bool = False) -> Target:
    """q = (1 - epsilon) * label + epsilon * base, for labels or for probabilities.

    A [K, K] base is linear in the label too: probabilities y meet the mixture y @ base of its rows.
    """
    epsilon = epsilon_of_rows(epsilon, labels.shape[0])
    base = base.to(labels.device, torch.promote_types(base.dtype, torch.float32))
    if not labels.is_floating_point():
        return Target(num_classes, labels, 1.0 - epsilon, epsilon, base, rows)
    share = epsilon[:, None] if isinstance(epsilon, Tensor) and epsilon.dim() else epsilon
    base = base.to(labels.dtype)
    if base.dim() == 2 and not rows:
        base = labels @ base
    return Target.probabilities((1.0 - share) * labels + share * base)


def epsilon_of_rows(epsilon: float | Tensor, count: int) -> float | Tensor:
    """Epsilon as a float or an [N] tensor in at least float32.

    Raises:
        ValueError: a tensor that does not hold one epsilon for each label.
    """
    if not isinstance(epsilon, Tensor):
        return float(epsilon)
    if epsilon.dim() and epsilon.numel() != count:
        raise ValueError(
            f"epsilon has shape {tuple(epsilon.shape)}, but there are {count} labels; give one epsilon for each "
            "label, or a single number for all."
        )
    epsilon = epsilon.to(torch.promote_types(epsilon.dtype, torch.float32))
    return epsilon.reshape(-1) if epsilon.dim() else epsilon


def distribution(values: object, name: str, remedy: str) -> Tensor:
    """Non-negative values, scaled so that each row (the last dimension) sums to 1.

    Raises:
        TypeError: not numbers.
        ValueError: a value that is negative, NaN or infinite, or a row that sums to 0.
    """
    try:
        table = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} is a {type(values).__name__} that is no table of numbers. {remedy}") from None
    if table.is_complex() or table.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {table.dtype}; give real numbers. {remedy}")
    # float64 only where a float64 tensor asks for it: a list or an array is float64 by habit, not on purpose.
    dtype = torch.get_default_dtype() if not isinstance(values, Tensor) else table.dtype
    dtype = torch.promote_types(dtype, torch.get_default_dtype())
    table = table.detach().to(dtype, copy=True)
    for bad, what in ((~table.isfinite(), "neither NaN nor infinity"), (table < 0, "no negative number")):
        if bool(bad.any()):
            where = tuple(int(i) for i in bad.nonzero()[0])
            place = where[0] if len(where) == 1 else where
            raise ValueError(f"{name} holds {float(table[where])} at {place}; it may hold {what}. {remedy}")
    # In float64 for the division alone: counts of a large corpus would lose digits in float32.
    total = table.double().sum(-1, keepdim=True)
    if bool((total == 0).any()):
        row = f"row {int((total[..., 0] == 0).nonzero()[0])} of {name}" if table.dim() > 1 else name
        raise ValueError(f"{row} sums to 0, so it cannot be scaled to a distribution. {remedy}")
    return (table.double() / total).to(table.dtype)
