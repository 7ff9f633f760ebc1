"""From the arguments of a loss to what the kernels take: targets, divisor, and the reduction of the unsmoothed loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelsmooth.kernels.fused import RowTargets
from labelsmooth.kernels.reference import accumulation_dtype
from labelsmooth.loss.arguments import looked_at
from labelsmooth.loss.class_mask import check_class_mask, restricted
from labelsmooth.target import Policy, Target, check_epsilon

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Targets for the kernels, and how their losses are reduced."""

    targets: RowTargets
    divisor: float | Tensor | None  # None for one loss for each row
    of_label: Tensor | None  # [N] class weights of the labels, where there are weights
    shape: torch.Size

    def finished(self, loss: Tensor) -> Tensor:
        """The loss in the shape that the caller expects."""
        return loss if self.divisor is not None else loss.reshape(self.shape)

    def reduced(self, nll: Tensor) -> Tensor:
        """Unsmoothed losses of the rows, weighted and reduced as the loss is."""
        if self.of_label is not None:
            nll = nll * self.of_label
        return nll.reshape(self.shape) if self.divisor is None else nll.sum() / self.divisor


def prepare(
    target: Tensor,
    logits_shape: tuple[int, ...],
    shape: torch.Size,
    dtype: torch.dtype,
    *,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float | Tensor | Policy,
    class_mask: Tensor | None,
    z_loss: float,
    check: bool = False,
) -> Prepared:
    """The targets of [N] labels or [N, K] probabilities.

    Args:
        logits_shape: (K,), (N, K) or (N, K, d1, ...), of the logits whether they exist or not.
        shape: of the unreduced loss.
        dtype: of the logits.
        weight: [K] in the accumulation dtype.
    """
    num_classes = logits_shape[0 if len(logits_shape) == 1 else 1]
    outside: Tensor | None = None
    count: int | Tensor = len(target)
    if target.dim() == 2:
        if ignore_index >= 0:
            raise ValueError(
                f"ignore_index={ignore_index} does not apply to a target of class probabilities; leave it out, and "
                "give rows that are not to count zero probability everywhere."
            )
        labels = target.to(accumulation_dtype(target.dtype))
    else:
        seen = looked_at(target, num_classes, ignore_index, check)
        labels, outside, count = seen.index, seen.outside, seen.count
    q = _smoothed(labels, num_classes, shape, label_smoothing)
    valid, of_label = None, None
    if class_mask is not None:
        valid = check_class_mask(class_mask, logits_shape, labels)
        q = restricted(q, valid)
    if weight is not None:
        q = q.weighted(weight)
        if target.dim() == 1:  # PyTorch's mean divides by the weights of the labels that count
            of_label = torch.where(labels >= 0, weight[labels.clamp(min=0)], 0.0)
            count = of_label.sum()
    keep = q.keep
    if outside is not None:
        keep = torch.as_tensor(keep, dtype=accumulation_dtype(dtype), device=target.device)
        keep = torch.where(outside, torch.nan, keep)
    divisor = None if reduction == "none" else 1.0 if reduction == "sum" else count
    return Prepared(RowTargets(q.index, keep, q.scale, q.base, q.rows, valid, z_loss), divisor, of_label, shape)


def _smoothed(labels: Tensor, num_classes: int, shape: torch.Size, label_smoothing: float | Tensor | Policy) -> Target:
    """The targets that a number, a tensor or a policy makes of the labels."""
    if callable(label_smoothing) and not isinstance(label_smoothing, Tensor):
        return label_smoothing(labels, num_classes)
    check_epsilon(label_smoothing, "label_smoothing")
    if isinstance(label_smoothing, Tensor) and label_smoothing.dim() and label_smoothing.shape != shape:
        raise ValueError(
            f"label_smoothing has shape {tuple(label_smoothing.shape)}; give a single number or one epsilon for each "
            f"label, shape {tuple(shape)}."
        )
    return Target.uniform(labels, num_classes, label_smoothing)
