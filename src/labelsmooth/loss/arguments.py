"""The public edge of the losses: shapes, labels, weights and reductions are checked here, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from labelsmooth.kernels.reference import accumulation_dtype, as_matrix

__all__ = [
    "Labels",
    "Reduction",
    "Rows",
    "as_blocks",
    "as_rows",
    "check_reduction",
    "check_weight",
    "check_z_loss",
    "counted_labels",
    "looked_at",
]

Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs of any of PyTorch's shapes, as N rows of K classes."""

    blocks: Tensor  # [N, K], or [B, K, D] for N = B * D rows whose classes do not lie side by side
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
        ValueError: shapes that do not belong together, or no classes.
    """
    for name, value in (("input", input), ("target", target)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}; give a torch.Tensor.")
    if not input.is_floating_point():
        raise TypeError(f"input has dtype {input.dtype}; it must be floating: the logits, before any softmax.")
    if input.dim() == 0:
        raise ValueError("input has no dimension; give logits of shape (K,), (N, K) or (N, K, d1, ...).")
    usual = input.dim() == 2 and target.dim() == 1 and target.dtype == torch.int64
    if usual and target.shape[0] == input.shape[0] and input.shape[1]:  # nothing is left to find wrong
        return Rows(input, target, target.shape)
    class_dim = 0 if input.dim() == 1 else 1
    num_classes = input.shape[class_dim]
    if num_classes == 0:
        raise ValueError(
            f"input of shape {tuple(input.shape)} has no classes in dimension {class_dim}; give at least 1."
        )
    unreduced = torch.Size([*input.shape[:class_dim], *input.shape[class_dim + 1 :]])
    blocks = as_blocks(input)
    if target.shape == input.shape:
        if not target.is_floating_point():
            raise TypeError(
                f"target has the shape of input, {tuple(input.shape)}, so it is read as class probabilities, but its "
                f"dtype is {target.dtype}. Give floating probabilities, or labels of shape {tuple(unreduced)}."
            )
        return Rows(blocks, target.movedim(class_dim, -1).reshape(-1, num_classes), unreduced)
    if target.shape != unreduced:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, which does not fit input of shape {tuple(input.shape)}. Give "
            f"labels of shape {tuple(unreduced)} or class probabilities of shape {tuple(input.shape)}."
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(
            f"target of shape {tuple(target.shape)} holds labels, but its dtype is {target.dtype}. Give integers in "
            f"[0, {num_classes}), for example target.long(), or class probabilities in the shape of input."
        )
    return Rows(blocks, target.reshape(-1).long(), unreduced)


def as_blocks(input: Tensor) -> Tensor:
    """[N, K] or [B, K, D], without a copy wherever a view can be had."""
    if input.dim() == 2:
        return input
    if input.dim() == 1:
        return input[None, :]
    batch, num_classes = input.shape[:2]
    if input.stride(1) == 1 and input.numel():  # channels_last: the classes do lie side by side
        return input.movedim(1, -1).reshape(-1, num_classes)
    return input.reshape(batch, num_classes, input.shape[2:].numel())


@dataclass(frozen=True, slots=True)
class Labels:
    """[N] labels that have been looked at."""

    index: Tensor  # [N] int64 in [0, K), -1 for the rows that do not count
    outside: Tensor | None  # [N] bool: labels out of range, where that must not raise
    count: int | Tensor  # of the rows that count


def looked_at(labels: Tensor, num_classes: int, ignore_index: int, check: bool = False) -> Labels:
    """Labels with -1 for the ignored rows, the rows whose label is out of range, and how many count.

    On the CPU a label out of range raises, and with ``check`` on every device.  Otherwise, and in a compiled graph,
    looking would stall the device, so the row is marked instead, and its loss becomes NaN.

    Raises:
        IndexError: a label outside [0, K) that is not ``ignore_index``.
    """
    plain = type(labels) is Tensor and not torch.compiler.is_compiling() and torch._C._get_tracing_state() is None
    if plain and labels.device.type == "cpu" and not torch._C._are_functorch_transforms_active():
        from labelsmooth.kernels.launch_cpu import survey

        row, count = survey(labels, num_classes, ignore_index)
        if row >= 0:
            raise _out_of_range(labels, row, num_classes, ignore_index)
        return Labels(labels if count == len(labels) else labels.masked_fill(labels == ignore_index, -1), None, count)
    ignored = labels == ignore_index
    outside = ((labels < 0) | (labels >= num_classes)) & ~ignored
    if check and not torch.compiler.is_compiling() and bool(outside.any()):
        raise _out_of_range(labels, int(outside.nonzero()[0]), num_classes, ignore_index)
    return Labels(labels.masked_fill(outside, 0).masked_fill(ignored, -1), outside, (~ignored).sum())


def counted_labels(labels: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """The first two of :func:`looked_at`."""
    seen = looked_at(labels, num_classes, ignore_index)
    return seen.index, seen.outside


def _out_of_range(labels: Tensor, row: int, num_classes: int, ignore_index: int) -> IndexError:
    label = int(labels[row])
    return IndexError(
        f"target holds the label {label} (entry {row} when flattened), but input has {num_classes} classes: labels "
        f"lie in [0, {num_classes}). Check num_classes of the model, or pass ignore_index={label} if such entries are "
        f"to be left out (it is {ignore_index} now)."
    )


def check_weight(weight: Tensor | None, logits: Tensor) -> Tensor | None:
    """Class weights as [K] in the accumulation dtype.

    Raises:
        TypeError: not a tensor.
        ValueError: not one weight for each class, or on another device.
    """
    if weight is None:
        return None
    num_classes = logits.shape[1]
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight is a {type(weight).__name__}; give a torch.Tensor with one weight for each class.")
    if weight.shape != (num_classes,):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; give one weight for each class, shape ({num_classes},)."
        )
    if weight.device != logits.device:
        raise ValueError(f"weight is on {weight.device} and input on {logits.device}; move weight to {logits.device}.")
    return weight.to(accumulation_dtype(logits.dtype))


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless the reduction is one of PyTorch's three."""
    if reduction not in get_args(Reduction):
        raise ValueError(f'reduction={reduction!r} is unknown; use "mean", "sum" or "none".')


def check_z_loss(z_loss: float) -> None:
    """Raise ValueError unless the coefficient is a finite number of at least 0."""
    if not 0.0 <= z_loss < float("inf"):
        raise ValueError(
            f"z_loss={z_loss} is not a coefficient; give 0 (none) or a small positive number such as 1e-4."
        )
