"""Shared by the policies: an epsilon that is checked whenever it is set, and q made from a base."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from labelsmooth._torch_private import is_intercepted
from labelsmooth.target import Target, check_epsilon, column, epsilon_of_rows, short_repr


class WithEpsilon(nn.Module):
    """A module with an ``epsilon`` that may be set at any time: a number, a tensor, a Parameter, or a policy.

    It is read at every call, and in a compiled graph it is an input: nothing is compiled again for a new value.  A
    tensor moves with ``.to()``, a Parameter is learned, a policy is a submodule.
    """

    _number: Tensor | None  # the epsilon as a tensor where it is a number

    def __setattr__(self, name: str, value: object) -> None:
        if name == "epsilon":
            self._check_epsilon(value, name)
            # nn.Module refuses a number in the place of a Parameter or of a submodule, and either where a number is.
            for attributes in (self.__dict__, self._parameters, self._modules):
                attributes.pop(name, None)
            number = torch.tensor(float(value), dtype=torch.float64, device="cpu") if isinstance(value, Real) else None
            self.__dict__["_number"] = number
        super().__setattr__(name, value)  # type: ignore[arg-type]

    def _check_epsilon(self, value: object, name: str) -> None:
        check_epsilon(value, name)

    def _current_epsilon(self) -> Any:
        """The epsilon of a call; while compiling a number as a tensor, since a float would be a constant."""
        if self._number is not None and torch.compiler.is_compiling():
            return self._number
        return self.epsilon

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # A tensor is no buffer: DistributedDataParallel would copy the epsilons of rank 0 over those of other batches.
        epsilon = self.__dict__.get("epsilon")
        if isinstance(epsilon, Tensor):
            self.__dict__["epsilon"] = fn(epsilon)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class Smoothing(WithEpsilon):
    """A policy with an ``epsilon``; a module, so that its tables move with ``.to()`` and its state is saved."""

    epsilon: float | Tensor

    def __init__(self, epsilon: float | Tensor, *, allow_negative: bool = False) -> None:
        super().__init__()
        self.allow_negative = allow_negative
        self.epsilon = epsilon

    def _check_epsilon(self, value: object, name: str) -> None:
        check_epsilon(value, name, allow_negative=self.allow_negative)

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(labels, num_classes) yet.")

    def extra_repr(self) -> str:
        return f"epsilon={short_repr(self.epsilon)}"


def name_of(function: Callable[..., object]) -> str:
    """A function for a repr, with the settings that functools.partial holds."""
    if isinstance(function, partial):
        settings = ", ".join(f"{key}={value}" for key, value in function.keywords.items())
        return f"{name_of(function.func)}({settings})"
    return getattr(function, "__name__", type(function).__name__).lstrip("_")


def smoothed(labels: Tensor, num_classes: int, epsilon: float | Tensor, base: Tensor, *, rows: bool = False) -> Target:
    """q = (1 - epsilon) * label + epsilon * base, for labels or for probabilities.

    A [K, K] base is linear in the label too: probabilities y take the mixture y @ base of its rows.
    """
    epsilon = epsilon_of_rows(epsilon, labels.shape[0])
    base = on_device(base, labels.device, torch.promote_types(base.dtype, torch.float32))
    if not labels.is_floating_point():
        return Target(num_classes, labels, 1.0 - epsilon, epsilon, base, rows)
    share, base = column(epsilon), base.to(labels.dtype)
    if base.dim() == 2 and not rows:
        base = labels @ base
    return Target.probabilities((1.0 - share) * labels + share * base)


# Tables that are used on another device than their own: where, in which state, and the copy.
_copies: Any = WeakTensorKeyDictionary()


def on_device(table: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``table.to(device, dtype)``, copied once for as long as the table stays what it is."""
    if table.device == device:
        return table.to(dtype)
    if table.requires_grad or torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or is_intercepted():
        return table.to(device, dtype)
    state = (device, dtype, table._version)
    if table not in _copies or _copies[table][0] != state:
        _copies[table] = (state, table.to(device, dtype))
    kept: Tensor = _copies[table][1]
    return kept


def table_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """The dtype of a table of probabilities: at least float32, whatever PyTorch's default dtype is."""
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    for other in dtypes:
        dtype = torch.promote_types(dtype, other)
    return dtype


def as_tensor(values: object) -> Tensor:
    """A tensor as it is; a list or an array on the CPU and in its own precision, whatever PyTorch's defaults are."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values), device="cpu")


def distribution(values: object, name: str, remedy: str, *, square: bool = False) -> Tensor:
    """Non-negative values, scaled so that each row (the last dimension) sums to 1.

    Raises:
        TypeError: not numbers.
        ValueError: a table that is not [K, K] where ``square``; a value that is negative, NaN or infinite; a row that
            sums to 0.
    """
    try:
        table = as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} is a {type(values).__name__} that is not a table of numbers. {remedy}") from None
    if table.is_complex() or table.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {table.dtype}; give real numbers. {remedy}")
    if square and (table.dim() != 2 or table.shape[0] != table.shape[1] or not table.numel()):
        raise ValueError(f"{name} has shape {tuple(table.shape)}; it must be square, [K, K]. {remedy}")
    # float64 only where a float64 tensor asks for it: a list or an array is float64 by habit, not on purpose.
    dtype = table_dtype(table.dtype) if isinstance(values, Tensor) else table_dtype()
    table = table.detach().to(dtype, copy=True)
    for bad, allowed in ((~table.isfinite(), "neither NaN nor infinity"), (table < 0, "no negative number")):
        if bool(bad.any()):
            index = tuple(int(i) for i in bad.nonzero()[0])
            place = index[0] if len(index) == 1 else index
            raise ValueError(f"{name} holds {float(table[index])} at {place}; it may hold {allowed}. {remedy}")
    # In float64 for the division alone: counts of a large corpus would lose digits in float32.
    total = table.double().sum(-1, keepdim=True)
    if bool((total == 0).any()):
        row = f"row {int((total[..., 0] == 0).nonzero()[0])} of {name}" if table.dim() > 1 else name
        raise ValueError(f"{row} sums to 0, so it cannot be scaled to a distribution. {remedy}")
    return (table.double() / total).to(dtype)


def check_positive(value: float, name: str) -> None:
    """Raise ValueError unless value is a finite number above 0."""
    if not (isinstance(value, float | Real) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value} must be a finite number above 0.")
