"""Logit normalisation (LogitNorm): the cross-entropy of logits of a fixed length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labelsmooth.loss.arguments import Reduction
from labelsmooth.loss.by_row import LossWithSetting, check_number, class_dimension, reduced_rows
from labelsmooth.target import Mixture


def normalize_logits(input: Tensor, *, temperature: float = 0.04) -> Tensor:
    """Logits divided by their length and a temperature, for any loss: ``cross_entropy(normalize_logits(z), y)``.

        z / (temperature * (||z||_2 + 1e-7))

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...); the length is taken over the classes.
        temperature: tau, in [1e-6, 1e6].

    Returns:
        The shape of ``input``; float32 for the 16-bit dtypes.

    Example:
        >>> import torch
        >>> normalize_logits(torch.tensor([[3.0, 4.0]]), temperature=1.0)
        tensor([[0.6000, 0.8000]])

    Source: Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization", 2022.
    """
    check_number(temperature, "temperature", 1e-6)
    dtype = torch.promote_types(input.dtype, torch.float32)  # squares overflow in half types
    length: Tensor = torch.linalg.vector_norm(input, dim=class_dimension(input), keepdim=True, dtype=dtype)
    return input.to(dtype) / (temperature * (length + 1e-7))


def logit_norm_loss(
    input: Tensor,
    target: Tensor | Mixture,
    *,
    temperature: float = 0.04,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The cross-entropy of the normalised logits, in place of the cross-entropy.

        loss = -log softmax(z / (temperature * (||z||_2 + 1e-7)))_y

    Training can turn the vector of logits but not lengthen it, so confidence does not grow with time.  The loss has a
    minimum above 0, lower for a lower temperature.  To smooth the labels as well, use :func:`normalize_logits` and
    :func:`labelsmooth.cross_entropy`.

    Args:
        temperature: tau, in [1e-6, 1e6]; the default is the paper's for CIFAR-10.

    The other arguments, what is returned and what is raised are those of :func:`labelsmooth.focal_loss`.

    Example:
        >>> import torch
        >>> logit_norm_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([0]), temperature=1.0)  # log(1 + e^0.2)
        tensor(0.7981)

    Source: Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization", 2022.
    """
    check_number(temperature, "temperature", 1e-6)

    def formula(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(normalize_logits(logits, temperature=temperature), labels, reduction="none")

    return reduced_rows(
        formula, input, target, ignore_index=ignore_index, reduction=reduction, labels_only="logit_norm_loss"
    )


class LogitNormLoss(LossWithSetting):
    """The module of :func:`labelsmooth.logit_norm_loss`, with the same arguments.

    Example:
        >>> import torch
        >>> LogitNormLoss(temperature=1.0)(torch.tensor([[3.0, 4.0]]), torch.tensor([0]))
        tensor(0.7981)
    """

    function = staticmethod(logit_norm_loss)
    setting = "temperature"
    temperature: float

    def __init__(self, temperature: float = 0.04, *, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        super().__init__(temperature, ignore_index, reduction)
        check_number(temperature, "temperature", 1e-6)
