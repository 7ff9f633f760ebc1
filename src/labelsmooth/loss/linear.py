"""Smoothed cross-entropy of a linear head, without the full logits in memory."""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal, TypedDict, overload

import torch
from torch import Tensor

from labelsmooth.kernels.chunks import Head, Plan
from labelsmooth.kernels.linear import linear_row_loss
from labelsmooth.loss.arguments import (
    Options,
    Reduction,
    check_device,
    check_input,
    has_probabilities,
    product_dtype,
    traceable,
)
from labelsmooth.loss.targets import reduced_loss
from labelsmooth.target import Policy

if TYPE_CHECKING:
    from typing_extensions import Unpack


class HeadOptions(TypedDict, total=False):
    """What the losses of a linear head take by keyword, beside ``return_nll``."""

    linear_bias: Tensor | None
    weight: Tensor | None
    reduction: Reduction
    label_smoothing: float | Tensor | Policy
    class_mask: Tensor | None
    z_loss: float
    logit_softcap: float | None
    chunk_size: int | None


class LinearOptions(HeadOptions, total=False):
    ignore_index: int | None
    accumulate_in_float32: bool


@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    return_nll: Literal[False] = ...,
    **options: Unpack[LinearOptions],
) -> Tensor: ...


@overload
def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, return_nll: Literal[True], **options: Unpack[LinearOptions]
) -> tuple[Tensor, Tensor]: ...


@traceable
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
    label_smoothing: float | Tensor | Policy = 0.0,
    class_mask: Tensor | None = None,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    return_nll: bool = False,
    chunk_size: int | None = None,
    accumulate_in_float32: bool = True,
) -> Tensor | tuple[Tensor, Tensor]:
    """Smoothed cross-entropy of a linear head, in the memory of a few rows of logits.

    The unfused equal is

        logits = linear(input, linear_weight, linear_bias)
        loss = labelsmooth.cross_entropy(logits, target, ...)

    with the same numbers.  For a large vocabulary most of the memory holds the logits, their softmax and their
    gradient, N x K each.  Here they exist for ``chunk_size`` rows at a time, and the gradients of ``input``,
    ``linear_weight`` and ``linear_bias`` are computed from them, as far as they are needed.

    Args:
        input: features of shape (D,), (N, D) or (B, T, D).
        linear_weight: (K, D); or (K, d1, ..., D) for d1 * ... heads of K classes over (N, D) features.
        target: labels in [0, K) of shape (), (N,), (B, T) or (N, d1, ...); or class probabilities with K after the
            batch dimensions: (K,), (N, K), (B, T, K), (N, K, d1, ...).
        linear_bias: in the shape of ``linear_weight`` without D, or None.
        weight, reduction, label_smoothing, z_loss, return_nll: as :func:`labelsmooth.cross_entropy` takes them.
        ignore_index: labels with this value do not count; None for -100.  Not for class probabilities.
        class_mask: [K] bool, True for the classes that are valid.
        logit_softcap: c > 0 for logits c * tanh(z / c); None for z.
        chunk_size: rows of logits at a time; None for an eighth of them, at least 64 MB on the CPU, and at least 1024
            rows but at most 512 MB on a GPU.
        accumulate_in_float32: sum the gradient of a 16-bit ``linear_weight`` over the chunks in float32.  False sums
            in its own dtype, which takes less memory and time and rounds once for each chunk.

    Returns:
        A scalar, or the shape of the labels for "none"; float32, or float64 for float64 features.  With
        ``return_nll``, that and the unsmoothed loss.

    Note:
        With ``reduction="none"``, and for float16, the logits are computed again in the backward pass, when the
        upstream gradient is known.  Under ``torch.func`` and for second derivatives the full logits are in memory.

    Raises:
        IndexError, TypeError, ValueError: as :func:`labelsmooth.cross_entropy`, and for wrong shapes.

    Example:
        >>> import torch
        >>> features, head = torch.ones(2, 3), torch.eye(4, 3)
        >>> linear_cross_entropy(features, head, torch.tensor([0, 3]), label_smoothing=0.1)
        tensor(1.6893)

    Source: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2025, for the memory argument.
    """
    check_input(input, "the features of the linear head", linear_weight=linear_weight, target=target)
    features, shape, logits_shape = _shapes(input, linear_weight, linear_bias)
    num_classes, *heads = logits_shape[1:]
    _check_positive(logit_softcap, "logit_softcap", Real, "a number, or None for no cap")
    _check_positive(chunk_size, "chunk_size", Integral, "a number of rows, or None for the default")
    dtype = product_dtype(input)
    if has_probabilities(target, shape, torch.Size([*input.shape[:-1], num_classes, *heads]), num_classes):
        labels = target.movedim(input.dim() - 1, -1).reshape(-1, num_classes)
    else:
        labels = target.reshape(-1).long()
    if class_mask is not None and isinstance(class_mask, Tensor) and class_mask.shape != (num_classes,):
        raise ValueError(
            f"class_mask has shape {tuple(class_mask.shape)}; give one entry for each class, shape ({num_classes},)."
        )
    ignored = -100 if ignore_index is None else ignore_index
    options = Options(weight, ignored, reduction, label_smoothing, class_mask, z_loss)
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    head = Head(linear_weight.reshape(-1, linear_weight.shape[-1]), bias, num_classes, logit_softcap)
    plan = Plan(chunk_size, dtype, return_nll, accumulate_in_float32)
    losses = partial(linear_row_loss, features, head, plan=plan)
    return reduced_loss(losses, labels, logits_shape, shape, dtype, options, return_nll)


def _check_positive(value: float | None, name: str, kind: type[Real] | type[Integral], remedy: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; give {remedy}.")
    if not 0 < float(value) < float("inf"):
        raise ValueError(f"{name}={value} must be above 0 and finite; give {remedy}.")


def _shapes(
    input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None
) -> tuple[Tensor, torch.Size, tuple[int, ...]]:
    """[N, D] features, the shape of the unreduced loss, and that of the logits as rows.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    check_device("linear_bias", linear_bias, input.device)
    if not 1 <= input.dim() <= 3:
        raise ValueError(f"input has shape {tuple(input.shape)}; give features of shape (D,), (N, D) or (B, T, D).")
    if linear_weight.dim() < 2 or linear_weight.shape[-1] != input.shape[-1] or 0 in linear_weight.shape:
        raise ValueError(
            f"linear_weight has shape {tuple(linear_weight.shape)}, which does not fit input of shape "
            f"{tuple(input.shape)}; give (K, {input.shape[-1]}), or (K, d1, ..., {input.shape[-1]})."
        )
    heads = linear_weight.shape[1:-1]
    if heads and input.dim() != 2:
        raise ValueError(
            f"linear_weight of shape {tuple(linear_weight.shape)} has several heads, which need features of shape "
            f"(N, D), and input has shape {tuple(input.shape)}."
        )
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:-1]:
        raise ValueError(
            f"linear_bias has shape {tuple(linear_bias.shape)}; give {tuple(linear_weight.shape[:-1])}, that of "
            "linear_weight without its last dimension."
        )
    features = input.reshape(-1, input.shape[-1])
    return features, torch.Size([*input.shape[:-1], *heads]), (features.shape[0], linear_weight.shape[0], *heads)
