"""Valid classes: a mask for all rows or one for each, and the target restricted to it."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.kernels.reference import as_matrix
from labelsmooth.loss.arguments import as_blocks
from labelsmooth.target import Target

__all__ = ["check_class_mask", "restricted"]


def check_class_mask(class_mask: Tensor, logits_shape: tuple[int, ...], labels: Tensor) -> Tensor:
    """The mask as [K] or [N, K] bool.

    Raises:
        TypeError: not a bool tensor.
        ValueError: a shape that does not fit; on the CPU also a label whose class is not valid, or probability on
            such a class.
    """
    if not isinstance(class_mask, Tensor) or class_mask.dtype != torch.bool:
        found = class_mask.dtype if isinstance(class_mask, Tensor) else type(class_mask).__name__
        raise TypeError(f"class_mask is {found}; give a torch.bool tensor, True for the classes that are valid.")
    num_classes = logits_shape[0 if len(logits_shape) == 1 else 1]
    if class_mask.shape == logits_shape:
        valid = as_matrix(as_blocks(class_mask))
    elif class_mask.shape == (num_classes,):
        valid = class_mask
    else:
        raise ValueError(
            f"class_mask has shape {tuple(class_mask.shape)}; give one entry for each class, shape ({num_classes},), "
            f"or one for each logit, shape {tuple(logits_shape)}."
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        if labels.is_floating_point():
            wrong = ((labels != 0) & ~valid).any(-1)
        else:
            wrong = (labels >= 0) & ~_at_label(valid, labels)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            what = "probability" if labels.is_floating_point() else f"the label {int(labels[row])}"
            raise ValueError(
                f"target holds {what} in entry {row} (when flattened) on a class that class_mask marks as not valid. "
                "Make the class valid, or leave the entry out with ignore_index."
            )
    return valid


def restricted(q: Target, valid: Tensor) -> Target:
    """The target with the base's share spread over the valid classes only, in the proportions it had.

    The kernels take the base to be 0 where a class is not valid; here its scale grows to make up for it.  Uniform
    smoothing over V valid classes is then what it is on V classes alone.  Where no valid class has a share, the label
    takes it.
    """
    total: float | Tensor
    if q.base is None:
        total, part = 1.0, valid.sum(-1) / q.num_classes
    else:
        base = q.base
        if base.dim() == 2 and not q.rows:
            assert q.index is not None
            base = base[q.index.clamp(min=0)]
        total, part = base.sum(-1), torch.where(valid, base, 0.0).sum(-1)
    empty = part == 0
    scale = torch.where(empty, 0.0, q.scale * total / torch.where(empty, 1.0, part))
    keep = torch.where(empty, q.keep + q.scale * total, q.keep)
    # Written out since dataclasses.replace cannot be traced into a graph by PyTorch 2.6.
    return Target(q.num_classes, q.index, keep, scale, q.base, q.rows)


def _at_label(valid: Tensor, labels: Tensor) -> Tensor:
    labels = labels.clamp(min=0)
    return valid[labels] if valid.dim() == 1 else valid.gather(-1, labels[:, None]).squeeze(-1)
