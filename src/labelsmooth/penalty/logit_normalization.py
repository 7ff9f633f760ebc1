"""Logit normalisation (LogitNorm): the cross-entropy of logits of a fixed length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labelsmooth.penalty.examples import Examples, check_number, in_place_of_cross_entropy

__all__ = ["logit_normalization", "normalized"]


def normalized(input: Tensor, *, temperature: float = 0.04) -> Tensor:
    """Logits over their length and a temperature, to be given to any loss: ``cross_entropy(normalized(z), y, ...)``.

        z / (temperature * (||z||_2 + 1e-7))

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...); the length is taken over the classes.
        temperature: tau, above 0.

    Example:
        >>> import torch
        >>> normalized(torch.tensor([[3.0, 4.0]]), temperature=1.0)
        tensor([[0.6000, 0.8000]])

    Source: Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization", 2022.
    """
    check_number(temperature, "temperature", 0.0, above=True)
    class_dim = 0 if input.dim() == 1 else 1
    dtype = torch.promote_types(input.dtype, torch.float32)  # squares overflow in half types
    length: Tensor = torch.linalg.vector_norm(input, dim=class_dim, keepdim=True, dtype=dtype)
    return input.to(dtype) / (temperature * (length + 1e-7))


@in_place_of_cross_entropy
def logit_normalization(
    input: Tensor,
    target: Tensor,
    *,
    temperature: float = 0.04,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The cross-entropy of the normalised logits, a loss in place of the cross-entropy.

        loss = -log softmax(z / (temperature * (||z||_2 + 1e-7)))_y

    Training can turn the logits but not lengthen them, so confidence no longer grows with time.  The loss has a floor
    above 0, lower for a lower temperature.  To smooth the labels as well, use :func:`normalized` and a loss.

    Args:
        input: logits (K,), (N, K) or (N, K, d1, ...).
        target: labels (), (N,) or (N, d1, ...).
        temperature: tau, above 0; the paper's for CIFAR-10.
        ignore_index: labels with this value do not count.
        reduction: "mean", "sum" or "none" for one value for each label.

    Returns:
        A scalar, or the shape of the labels.

    Raises:
        TypeError: class probabilities as the target.
        ValueError: a temperature that is not positive, or what does not fit together.

    Example:
        >>> import torch
        >>> logit_normalization(torch.tensor([[3.0, 4.0]]), torch.tensor([0]), temperature=1.0)  # log(1 + e^0.2)
        tensor(0.7981)

    Source: Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization", 2022.
    """
    check_number(temperature, "temperature", 0.0, above=True)
    examples = Examples.of(input, target, ignore_index, reduction)
    labels = examples.index("logit_normalization")
    return examples.reduced(
        F.cross_entropy(normalized(examples.logits, temperature=temperature), labels, reduction="none")
    )
