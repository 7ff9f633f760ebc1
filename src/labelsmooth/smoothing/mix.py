"""Mixup and CutMix: two labels for each row, smoothed once."""

from __future__ import annotations

from numbers import Real

from torch import Tensor

from labelsmooth.target import Mixture, Policy


def mix(y_a: Tensor, y_b: Tensor, lam: float | Tensor, policy: Policy | None = None) -> Mixture:
    """The target of mixed examples, which a loss takes in place of the labels.

        q = lam * q(y_a) + (1 - lam) * q(y_b),        q(y) the policy's target of a label

    Smoothing is linear in the label, so smoothing the mixture equals mixing the smoothed labels.  It is done once,
    either here by ``policy`` or by the smoothing of the loss; both together raise an error, because smoothing twice is
    smoothing by 1 - (1 - epsilon)^2.  No N x K target is built.

    ``torchvision.transforms.v2.MixUp`` and ``CutMix`` and ``timm.data.Mixup`` give class probabilities instead, which
    ``cross_entropy`` takes as they are.  timm's are already smoothed unless made with ``label_smoothing=0.0``; smooth
    in one of the two places.

    Args:
        y_a, y_b: integer labels of one shape, of the examples that were mixed.
        lam: the share of ``y_a`` in [0, 1]; a float, or a tensor in the shape of the labels.
        policy: a policy, or None.

    Returns:
        A record that :func:`labelsmooth.cross_entropy`, the other losses of labels, the penalties and their modules
        take as their target.  It has ``to(device)`` and ``pin_memory()``, so it may be part of a batch.

    Raises:
        TypeError: labels that are not integer tensors.
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
            kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(
                f"{name} is {kind}; give integer labels. Mixed class probabilities go to the loss as they are."
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
    # int64: in a smaller type an ignore_index that does not fit would compare equal to another label.
    return Mixture(y_a.long(), y_b.long(), lam, policy)
