"""Mixup and CutMix as two labels for each row, smoothed once."""

from __future__ import annotations

from numbers import Real

from torch import Tensor

from labelsmooth.target import Mixture, Policy

__all__ = ["mix"]


def mix(y_a: Tensor, y_b: Tensor, lam: float | Tensor, policy: Policy | None = None) -> Mixture:
    """The target of mixed examples, to be given to a loss in place of the labels.

        q = lam * q(y_a) + (1 - lam) * q(y_b),        q(y) the policy's target of a label

    Smoothing is linear in the label, so smoothing the mixture and mixing the smoothed labels are one thing, and it
    happens once: either here, by ``policy``, or by the smoothing of the loss.  Both at once is an error,
    because smoothing twice is smoothing by 1 - (1 - epsilon)^2.  No N x K target is built.

    Where the mixing gives class probabilities instead (``torchvision.transforms.v2.MixUp`` and ``CutMix``,
    ``timm.data.Mixup``), give those to the loss as they are: every loss here takes them.  timm's are smoothed already
    unless made with ``label_smoothing=0.0``; smooth there or here, not in both.

    Args:
        y_a, y_b: integer labels of one shape, of the examples that were mixed.
        lam: the share of ``y_a`` in [0, 1]; a float, or a tensor in the shape of the labels.
        policy: a policy, or None.

    Returns:
        A record that :func:`labelsmooth.cross_entropy` and :class:`labelsmooth.LabelSmoothingCrossEntropy` take as
        their target.

    Raises:
        TypeError: labels that are no integer tensors.
        ValueError: labels of two shapes, or a lam outside [0, 1] or of another shape.

    Example:
        >>> import torch
        >>> import labelsmooth as ls
        >>> logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 2])
        >>> mixture = mix(labels, labels.flip(0), lam=0.7)
        >>> ls.LabelSmoothingCrossEntropy(0.1)(logits, mixture)
        tensor(1.0701)

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018; Yun et al., "CutMix", 2019.
    """
    for name, labels in (("y_a", y_a), ("y_b", y_b)):
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
            what = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(
                f"{name} is {what}; give integer labels. Class probabilities that are mixed already go to the loss as "
                "they are."
            )
    if y_a.shape != y_b.shape:
        raise ValueError(f"y_a has shape {tuple(y_a.shape)} and y_b {tuple(y_b.shape)}; give labels of one shape.")
    if isinstance(lam, Tensor):
        if lam.dim() and lam.shape != y_a.shape:
            raise ValueError(
                f"lam has shape {tuple(lam.shape)}; give a single number or one for each label, {tuple(y_a.shape)}."
            )
        if lam.device.type == "cpu" and not bool(((lam >= 0) & (lam <= 1)).all()):
            raise ValueError(f"lam holds a number outside [0, 1], between {float(lam.min())} and {float(lam.max())}.")
    elif not isinstance(lam, (float, Real)):
        raise TypeError(f"lam is a {type(lam).__name__}; give a number in [0, 1] or a tensor of them.")
    elif not 0.0 <= lam <= 1.0:
        raise ValueError(f"lam={lam} is outside [0, 1]; it is the share of y_a.")
    return Mixture(y_a, y_b, lam, policy)
