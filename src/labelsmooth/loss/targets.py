"""From the arguments of a loss to what the kernels take, and from what they compute to what the loss returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labelsmooth.kernels.reference import Divisor, Terms, accumulation_dtype, as_matrix
from labelsmooth.loss.arguments import Options, as_blocks, check_device, validated_labels
from labelsmooth.target import Policy, Target, check_epsilon


@dataclass(frozen=True, slots=True)
class Prepared:
    """Targets for the kernels, and how their losses are reduced."""

    terms: Terms
    divisor: Divisor
    of_label: Tensor | None  # [N] the class weight of each label, if there are weights
    shape: torch.Size

    def finished(self, loss: Tensor) -> Tensor:
        """The loss in the shape that the caller expects."""
        return loss if self.divisor is not None else loss.reshape(self.shape)

    def reduced(self, nll: Tensor) -> Tensor:
        """Unsmoothed losses of the rows, weighted and reduced as the loss is."""
        if self.of_label is not None:
            nll = nll * self.of_label
        return nll.reshape(self.shape) if self.divisor is None else nll.sum() / self.divisor


RowLosses = Callable[[Terms, Divisor], tuple[Tensor, Tensor | None]]
"""From targets to the losses of the rows, or their sum over a divisor, and the unsmoothed loss of each row."""


def reduced_loss(
    row_losses: RowLosses,
    target: Tensor,
    logits_shape: tuple[int, ...],
    shape: torch.Size,
    dtype: torch.dtype,
    options: Options,
    return_nll: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """The loss, and with ``return_nll`` the unsmoothed loss too; the other arguments are those of :func:`prepare`."""
    prepared = prepare(target, logits_shape, shape, dtype, options)
    unsmoothed = None
    if return_nll and prepared.terms.q.index is None:  # the kernel sees smoothed class probabilities only
        o = options
        options = Options(o.weight, o.ignore_index, o.reduction, class_mask=o.class_mask, weight_by=o.weight_by)
        plain = prepare(target, logits_shape, shape, dtype, options)
        with torch.no_grad():  # before the loss, which may overwrite the logits
            unsmoothed = plain.finished(row_losses(plain.terms, plain.divisor)[0])
    loss, nll = row_losses(prepared.terms, prepared.divisor)
    loss = prepared.finished(loss)
    if not return_nll:
        return loss
    if unsmoothed is None:
        assert nll is not None
        unsmoothed = prepared.reduced(nll)
    return loss, unsmoothed


def prepare(
    target: Tensor, logits_shape: tuple[int, ...], shape: torch.Size, dtype: torch.dtype, options: Options
) -> Prepared:
    """The targets of [N] int64 labels or [N, K] probabilities.

    Args:
        logits_shape: (K,), (N, K) or (N, K, d1, ...), of the logits whether they exist or not.
        shape: of the unreduced loss.
        dtype: of the logits.
    """
    num_classes = logits_shape[0 if len(logits_shape) == 1 else 1]
    weight = options.class_weight(num_classes, dtype, target.device)
    count: int | Tensor = target.shape[0]
    if target.dim() == 2:
        if options.ignore_index >= 0:
            raise ValueError(
                f"ignore_index={options.ignore_index} does not apply to a target of class probabilities; leave it "
                "out, and give probability 0 everywhere to rows that should be ignored."
            )
        labels = target.to(accumulation_dtype(target.dtype))
    else:
        labels, count = validated_labels(target, num_classes, options.ignore_index, options.check)
    q = _smoothed(labels, num_classes, shape, options.label_smoothing)
    valid, of_label = None, None
    if options.class_mask is not None:
        valid = _valid_classes(options.class_mask, logits_shape, labels)
        q = _restricted(q, valid, accumulation_dtype(dtype))
    if weight is not None:
        by_label = options.weight_by == "label"
        if target.dim() == 1:  # PyTorch's mean divides by the weights of the labels that count
            of_label = torch.where(labels >= 0, weight[labels.clamp(min=0)], 0.0)
        elif by_label:
            of_label = labels @ weight.to(labels.dtype)
        if of_label is not None:
            count = of_label.sum()
        if by_label:
            assert of_label is not None
            q = Target(q.num_classes, q.index, q.keep * of_label, q.scale * of_label, q.base, q.rows)
        else:
            q = q.weighted(weight)
    divisor = None if options.reduction == "none" else 1.0 if options.reduction == "sum" else count
    return Prepared(Terms(q, valid, float(options.z_loss)), divisor, of_label, shape)


def _smoothed(labels: Tensor, num_classes: int, shape: torch.Size, label_smoothing: float | Tensor | Policy) -> Target:
    """The targets of the labels for a number, a tensor or a policy."""
    if callable(label_smoothing) and not isinstance(label_smoothing, Tensor):
        name = type(label_smoothing).__name__
        if not torch.compiler.is_compiling():  # a graph that has read the number would be one for this number
            epsilon = getattr(label_smoothing, "epsilon", None)
            check_device(f"the epsilon of the policy {name}", epsilon, labels.device)
        q = label_smoothing(labels, num_classes)
        for value in (q.index, q.keep, q.scale, q.base):
            check_device(f"the target of the policy {name}", value, labels.device)
        return q
    check_epsilon(label_smoothing, "label_smoothing")
    check_device("label_smoothing", label_smoothing, labels.device)
    if isinstance(label_smoothing, Tensor) and label_smoothing.dim() and label_smoothing.shape != shape:
        raise ValueError(
            f"label_smoothing has shape {tuple(label_smoothing.shape)}; give a single number or one epsilon for each "
            f"label, shape {tuple(shape)}."
        )
    return Target.uniform(labels, num_classes, label_smoothing)


def _valid_classes(class_mask: Tensor, logits_shape: tuple[int, ...], labels: Tensor) -> Tensor:
    """The mask as [K] or [N, K] bool.

    Raises:
        TypeError: not a bool tensor.
        ValueError: a wrong shape; on the CPU also a label, or probability, on a class that is not valid.
    """
    if not isinstance(class_mask, Tensor) or class_mask.dtype != torch.bool:
        kind = class_mask.dtype if isinstance(class_mask, Tensor) else type(class_mask).__name__
        raise TypeError(f"class_mask is {kind}; give a torch.bool tensor, True for the classes that are valid.")
    check_device("class_mask", class_mask, labels.device)
    num_classes = logits_shape[0 if len(logits_shape) == 1 else 1]
    # Lengths first: a comparison of two dimensions becomes a guard of an exported graph.
    if class_mask.dim() == len(logits_shape) and class_mask.shape == logits_shape:
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
            value = "probability" if labels.is_floating_point() else f"the label {int(labels[row])}"
            raise ValueError(
                f"target holds {value} in entry {row} (when flattened) on a class that class_mask marks as not valid. "
                "Make the class valid, or leave the entry out with ignore_index."
            )
    return valid


def _restricted(q: Target, valid: Tensor, dtype: torch.dtype) -> Target:
    """The target with the base renormalized to the valid classes.

    The kernels read the base as 0 where a class is not valid, so only its scale grows here.  Uniform smoothing over V
    valid classes then equals that of V classes alone.  If the base is 0 on all valid classes, the label gets its share.
    """
    if q.base is None:
        part = valid.sum(-1, dtype=dtype) / q.num_classes
        total = torch.ones_like(part)
    else:
        base = q.base
        if base.dim() == 2 and not q.rows:
            assert q.index is not None
            base = base[q.index.clamp(min=0)]
        total = base.sum(-1, dtype=dtype)
        part = torch.where(valid, base, 0.0).sum(-1, dtype=dtype)
    empty = part == 0
    scale = q.scale * torch.where(empty, 0.0, total / torch.where(empty, 1.0, part))
    keep = q.keep + q.scale * torch.where(empty, total, 0.0)
    # Not dataclasses.replace, which torch.compile of PyTorch 2.6 cannot trace.
    return Target(q.num_classes, q.index, keep, scale, q.base, q.rows)


def _at_label(valid: Tensor, labels: Tensor) -> Tensor:
    labels = labels.clamp(min=0)
    return valid[labels] if valid.dim() == 1 else valid.gather(-1, labels[:, None]).squeeze(-1)
