"""Hugging Face's Trainer: any smoothing, for language models and for classifiers, through its own argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from labelsmooth.loss import LabelSmoothingCrossEntropy
from labelsmooth.smoothing import Scheduled
from labelsmooth.smoothing.base import Smoothing

__all__ = ["make_loss"]

LossFunction = Callable[..., Tensor]


def make_loss(
    epsilon: float | Smoothing | Scheduled = 0.1, *, causal: bool = False, ignore_index: int = -100
) -> LossFunction:
    """What ``transformers.Trainer(compute_loss_func=...)`` takes.

        loss = sum_i H(q_i, p_i) / num_items_in_batch

    with the smoothed targets q of the labels that count.  The Trainer gives the number of labels in all the batches
    that make one step, so that accumulating gradients over batches of different lengths weighs every token alike;
    without it the loss is the mean.  Leave ``TrainingArguments.label_smoothing_factor`` at 0.

    Args:
        epsilon: in [0, 1], or a policy from ``labelsmooth.smoothing``.
        causal: True for a decoder-only language model, whose logits at position t speak for the label at t + 1;
            False where labels and logits stand side by side (classifiers, encoder-decoders, masked models).
        ignore_index: the label that does not count, such as padding and prompts.

    Returns:
        A function (outputs, labels, num_items_in_batch=None) -> scalar.  ``outputs`` is a model's output with
        ``logits`` of shape (N, K) or (B, T, K), a dict with them, or a tuple that begins with them (as where the
        model saw no labels); ``labels`` (N,) or (B, T).

    Raises:
        TypeError, ValueError: an epsilon outside [0, 1], when made; labels that do not fit the logits, when called.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> loss = make_loss(0.1, causal=True)
        >>> outputs = SimpleNamespace(logits=torch.zeros(2, 5, 8))
        >>> loss(outputs, torch.randint(8, (2, 5)))
        tensor(2.0794)
        >>> # Trainer(model, arguments, train_dataset=data, compute_loss_func=loss)

    Source: the Trainer's documentation, on ``compute_loss_func`` and ``num_items_in_batch``.
    """
    criterion = LabelSmoothingCrossEntropy(epsilon=epsilon, reduction="sum", ignore_index=ignore_index)

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        logits = _logits(outputs)
        if logits.shape[:-1] != labels.shape:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)} and logits {tuple(logits.shape)}; expected "
                f"{tuple(logits.shape[:-1])}, one label for each row of logits."
            )
        if causal:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        labels = labels.long()  # in a smaller type an ignore_index that does not fit would equal another label
        if num_items_in_batch is None:
            num_items_in_batch = (labels != ignore_index).sum()
        total: Tensor = criterion(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        return total / num_items_in_batch

    return loss


def _logits(outputs: Any) -> Tensor:
    if isinstance(outputs, dict):
        found = outputs["logits"]
    elif isinstance(outputs, tuple | list):
        found = outputs[0]
    else:
        found = outputs.logits
    return found  # type: ignore[no-any-return]
