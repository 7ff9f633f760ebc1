"""The arguments that the losses share: options, shapes and labels, checked here once."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal, NoReturn, ParamSpec, TypeGuard, TypeVar, get_args

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from labelsmooth._torch_private import is_intercepted
from labelsmooth.kernels.choose import cpu_launcher, cuda_launcher
from labelsmooth.kernels.reference import accumulation_dtype, as_matrix
from labelsmooth.target import Policy

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

P = ParamSpec("P")
R = TypeVar("R")
Reduction = Literal["mean", "sum", "none"]
WeightBy = Literal["class", "label"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)
WEIGHTINGS: tuple[str, ...] = get_args(WeightBy)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a loss, as the caller gave them.  For their meaning see :func:`labelsmooth.cross_entropy`."""

    weight: Tensor | None = None
    ignore_index: int = -100
    reduction: Reduction = "mean"
    label_smoothing: float | Tensor | Policy = 0.0
    class_mask: Tensor | None = None
    z_loss: float = 0.0
    check: bool = False
    weight_by: WeightBy = "class"

    def class_weight(self, num_classes: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """The weights as [K] in the accumulation dtype, after a check of all options but smoothing and mask.

        Raises:
            TypeError: ``weight`` is not a tensor, ``ignore_index`` not an integer, or ``z_loss`` not a number.
            ValueError: an unknown reduction, a z-loss below 0, weights of another shape or on another device.
        """
        check_reduction(self.reduction)
        if isinstance(self.ignore_index, bool) or not isinstance(self.ignore_index, Integral):
            kind = type(self.ignore_index).__name__
            raise TypeError(f"ignore_index={self.ignore_index!r} is a {kind}; give an int, for example -100.")
        check_z_loss(self.z_loss)
        if self.weight_by not in WEIGHTINGS:
            raise ValueError(f'weight_by={self.weight_by!r} is unknown; use "class" or "label".')
        weight = self.weight
        if weight is None:
            return None
        if not isinstance(weight, Tensor):
            raise TypeError(f"weight is a {type(weight).__name__}; give a torch.Tensor with one weight for each class.")
        if weight.shape != (num_classes,):
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}; give one weight for each class, shape ({num_classes},)."
            )
        check_device("weight", weight, device)
        return weight.to(accumulation_dtype(dtype))


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs of any of PyTorch's shapes, as N rows of K classes."""

    blocks: Tensor  # [N, K], or [B, K, D] for N = B * D rows whose classes are not adjacent in memory
    target: Tensor  # [N] indices, or [N, K] probabilities
    shape: torch.Size  # of the unreduced loss

    @property
    def logits(self) -> Tensor:
        """[N, K]; a copy where ``blocks`` is [B, K, D]."""
        return as_matrix(self.blocks)

    @property
    def num_classes(self) -> int:
        return self.blocks.shape[1]

    @property
    def has_probabilities(self) -> bool:
        return self.target.dim() == 2


def as_rows(input: Tensor, target: Tensor) -> Rows:
    """(K,), (N, K) or (N, K, d1, ...) logits with index or probability targets, as rows.

    Raises:
        TypeError: logits that are not floating, labels that are neither integers nor class probabilities.
        ValueError: shapes that do not belong together, no classes, or two devices.
    """
    check_input(input, "the logits, before any softmax", target=target)
    if input.dim() == 0:
        raise ValueError("input has no dimension; give logits of shape (K,), (N, K) or (N, K, d1, ...).")
    usual = input.dim() == 2 and target.dim() == 1 and target.dtype == torch.int64
    if usual and target.shape[0] == input.shape[0] and input.shape[1]:
        return Rows(input, target, target.shape)
    class_dim = 0 if input.dim() == 1 else 1
    num_classes = input.shape[class_dim]
    if num_classes == 0:
        raise ValueError(
            f"input of shape {tuple(input.shape)} has no classes in dimension {class_dim}; give at least 1."
        )
    unreduced = torch.Size([*input.shape[:class_dim], *input.shape[class_dim + 1 :]])
    blocks = as_blocks(input)
    if has_probabilities(target, unreduced, input.shape, num_classes):
        return Rows(blocks, target.movedim(class_dim, -1).reshape(-1, num_classes), unreduced)
    return Rows(blocks, target.reshape(-1).long(), unreduced)


def has_probabilities(target: Tensor, label_shape: torch.Size, logits_shape: torch.Size, num_classes: int) -> bool:
    """Whether a target, by its shape, holds class probabilities; if not it holds labels.

    Raises:
        TypeError: a dtype that does not fit the shape.
        ValueError: neither of the two shapes.
    """
    # Lengths first: a comparison of two dimensions becomes a guard of an exported graph.
    if target.dim() == len(logits_shape) and target.shape == logits_shape:
        if not target.is_floating_point():
            raise TypeError(
                f"target has the shape of the logits, {tuple(logits_shape)}, so it is read as class probabilities, but "
                f"its dtype is {target.dtype}. Give floating probabilities, or labels of shape {tuple(label_shape)}."
            )
        return True
    if target.dim() != len(label_shape) or target.shape != label_shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, which does not fit logits of shape {tuple(logits_shape)}. Give "
            f"labels of shape {tuple(label_shape)} or class probabilities in the shape of the logits."
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(
            f"target of shape {tuple(target.shape)} holds labels, but its dtype is {target.dtype}. Give integers in "
            f"[0, {num_classes}), for example target.long(), or class probabilities in the shape of the logits."
        )
    return False


def as_blocks(input: Tensor) -> Tensor:
    """[N, K] or [B, K, D], as a view wherever possible."""
    if input.dim() == 2:
        return input
    if input.dim() == 1:
        return input[None, :]
    batch, num_classes = input.shape[:2]
    if input.stride(1) == 1 and input.numel():  # channels_last: the classes of a row are adjacent
        return input.movedim(1, -1).reshape(-1, num_classes)
    return input.reshape(batch, num_classes, math.prod(input.shape[2:]))


def validated_labels(
    labels: Tensor, num_classes: int, ignore_index: int, check: bool = False
) -> tuple[Tensor, int | Tensor]:
    """[N] int64 labels as the index of a Target, and the number of those that are not ignored.

    A label out of range raises on the CPU, and with ``check`` on every device.  Otherwise, and in a compiled graph,
    the check would synchronize, so the row is marked by -2 instead, and its loss becomes NaN.

    Raises:
        IndexError: a label outside [0, K) that is not ``ignore_index``.
    """
    is_plain = not torch.compiler.is_compiling() and type(labels) is Tensor and not is_intercepted()
    if is_plain and labels.is_cpu:
        launcher = cpu_launcher()
        if launcher is not None:
            row, count = launcher.survey(labels, num_classes, ignore_index)
            if row >= 0:
                raise _out_of_range(labels, row, num_classes, ignore_index)
            return labels if count == labels.shape[0] else labels.masked_fill(labels == ignore_index, -1), count
        check = True
    if is_plain and labels.is_cuda:
        launcher = cuda_launcher()
        if launcher is not None:
            marked, counted = launcher.survey(labels, num_classes, ignore_index)
            if check and bool((marked < -1).any()):
                raise _out_of_range(labels, int((marked < -1).nonzero()[0]), num_classes, ignore_index)
            return marked, counted
    ignored = labels == ignore_index
    outside = ((labels < 0) | (labels >= num_classes)) & ~ignored
    if check and not torch.compiler.is_compiling() and bool(outside.any()):
        raise _out_of_range(labels, int(outside.nonzero()[0]), num_classes, ignore_index)
    return labels.masked_fill(outside, -2).masked_fill(ignored, -1), (~ignored).sum()


def _out_of_range(labels: Tensor, row: int, num_classes: int, ignore_index: int) -> IndexError:
    label = int(labels[row])
    return IndexError(
        f"target holds the label {label} (entry {row} when flattened), but input has {num_classes} classes: labels "
        f"must be in [0, {num_classes}). Check the model's number of classes, or pass ignore_index={label} to ignore "
        f"such entries (it is {ignore_index} now)."
    )


def traceable(function: Callable[P, R]) -> Callable[P, R]:
    """Let torch.fx record calls on its proxies, and torch.jit.script raise an error that names what to use instead."""

    @wraps(function)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (args and isinstance(args[0], Tensor)) and has_torch_function(given := (*args, *kwargs.values())):
            result: R = handle_torch_function(recorded, given, *args, **kwargs)
            return result
        return function(*args, **kwargs)

    def refuse() -> NoReturn:
        raise torchscript_refusal(function.__name__)

    recorded.__prepare_scriptable__ = refuse  # type: ignore[attr-defined]
    return recorded


def torchscript_refusal(name: str) -> NotImplementedError:
    return NotImplementedError(
        f"torch.jit.script cannot compile {name}; use torch.compile, torch.export or torch.jit.trace."
    )


def is_dtensor(tensor: object) -> TypeGuard[DTensor]:
    """Whether the tensor is a DTensor; where none can exist, nothing is imported to find out."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def product_dtype(input: Tensor) -> torch.dtype:
    """The dtype of matrix products of ``input``: that of autocast where it is enabled, but float64 for float64."""
    kind = input.device.type
    if kind == "meta" or input.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return input.dtype
    return torch.get_autocast_dtype(kind)


def check_input(input: object, meaning: str, **others: object) -> None:
    """Raise unless ``input`` is a floating tensor, and the others are tensors on its device.

    Raises:
        TypeError: not a tensor, or an input that is not floating; ``meaning`` says what it should be.
        ValueError: two devices.
    """
    for name, value in {"input": input, **others}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}; give a torch.Tensor.")
    assert isinstance(input, Tensor)
    for name, value in others.items():
        check_device(name, value, input.device)
    if not input.is_floating_point():
        raise TypeError(f"input has dtype {input.dtype}; it must be floating: {meaning}.")


def check_device(name: str, value: object, device: torch.device) -> None:
    """Raise ValueError unless a tensor is on the device of ``input``, or holds a single number on the CPU."""
    if isinstance(value, Tensor) and value.device != device and (value.dim() or value.device.type != "cpu"):
        raise ValueError(f"{name} is on {value.device} and input on {device}; move {name} to {device}.")


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless the reduction is one of PyTorch's three."""
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction={reduction!r} is unknown; use "mean", "sum" or "none".')


def check_z_loss(z_loss: float) -> None:
    """Raise TypeError or ValueError unless the coefficient is a finite number of at least 0."""
    if isinstance(z_loss, bool) or not isinstance(z_loss, Real):
        raise TypeError(f"z_loss={z_loss!r} is a {type(z_loss).__name__}; give a number, 0.0 for none.")
    # A comparison, since torch.compile cannot trace math.isfinite of a number that changes.
    if not 0.0 <= z_loss < math.inf:
        raise ValueError(f"z_loss={z_loss} is outside [0, inf); give 0 for none, or a small number such as 1e-4.")
