"""TRL: supervised fine-tuning with a fused head, and preference optimisation (DPO) with smoothed preferences."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before transformers, which imports torchvision)

from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from trl import DPOTrainer, SFTTrainer

from labelsmooth.interop.fused_head import is_fused
from labelsmooth.loss import cross_entropy
from labelsmooth.loss.arguments import Reduction
from labelsmooth.smoothing import Uniform

__all__ = ["SmoothedDPOTrainer", "SmoothedSFTTrainer", "preference_loss"]

CONFIDENCE = "confidence"  # the column of a preference data set


class SmoothedSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's ``SFTTrainer`` for a model that :func:`labelsmooth.interop.fused_head.fuse_head` changed.

    ``SFTTrainer`` computes the plain loss by a fused head of its own, and any other one from the logits.  This trainer
    takes the loss from the model instead, so any smoothing is computed without the logits.  TRL's two metrics beside
    the loss, ``entropy`` and ``mean_token_accuracy``, are not logged.

    Args:
        model: a model from ``fuse_head``.
        args, ...: as for ``trl.SFTTrainer``.  ``label_smoothing_factor``, ``loss_type`` and ``compute_loss_func`` stay
            at their defaults.

    Raises:
        TypeError: a model whose head is not fused, or a second loss beside the model's.

    Example:
        >>> # model = fuse_head(AutoModelForCausalLM.from_pretrained(name), 0.1)
        >>> # SmoothedSFTTrainer(model, SFTConfig("out"), train_dataset=texts).train()
    """

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        if not is_fused(model):
            raise TypeError(
                f"model is a {type(model).__name__} without a fused head; call "
                "labelsmooth.interop.fused_head.fuse_head(model, label_smoothing) first."
            )
        super().__init__(model, *args, **kwargs)
        if self.compute_loss_func is not None or self.label_smoother is not None or self.args.loss_type != "nll":
            raise TypeError(
                "the model computes its own loss; leave compute_loss_func, label_smoothing_factor and loss_type at "
                "their defaults, and give fuse_head the smoothing."
            )

    compute_loss = Trainer.compute_loss


def preference_loss(
    input: Tensor, label_smoothing: float | Tensor = 0.0, *, robust: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """The loss of DPO with preferences that are wrong with probability epsilon.

        conservative:   -(1 - epsilon) log s(d) - epsilon log s(-d)
        robust:         (-(1 - epsilon) log s(d) + epsilon log s(-d)) / (1 - 2 epsilon)

    with s the sigmoid.  Both are label smoothing of the two classes "chosen is better" and "rejected is better", whose
    logits are (d, 0): the conservative loss is ``Uniform(2 * epsilon)``, and the robust one is the conservative one of
    the negative epsilon' = -epsilon / (1 - 2 epsilon).  The first has its minimum at s(d) = 1 - epsilon.  The second is
    unbiased: its mean over wrong and right preferences is the plain loss of the right ones.  It is not bounded below.

    Args:
        input: d, (N,): beta times the log-ratio of the chosen answer less that of the rejected one.
        label_smoothing: epsilon in [0, 1], in [0, 0.5) for the robust loss; or (N,), one for each pair: 1 - the
            confidence that the preference is right.
        robust: which of the two.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or (N,) for "none".

    Raises:
        ValueError: an epsilon outside its range, or a tensor without one for each pair.

    Example:
        >>> import torch
        >>> preference_loss(torch.tensor([2.0, -1.0]), 0.1)
        tensor(0.7701)
        >>> preference_loss(torch.tensor([2.0, -1.0]), torch.tensor([0.0, 0.4]), reduction="none")
        tensor([0.1269, 0.9133])

    Source: Mitchell, "A note on DPO with noisy preferences", 2023 (conservative); Chowdhury et al., "Provably Robust
    DPO: Aligning Language Models with Noisy Feedback", 2024 (robust); negative smoothing as a correction of noise: Wei
    et al., "To Smooth or Not? When Label Smoothing Meets Noisy Labels", 2022.
    """
    flipped = _checked(label_smoothing, below=0.5 if robust else None)
    logits = torch.stack([torch.zeros_like(input), input], dim=-1)
    labels = torch.ones(input.shape, dtype=torch.long, device=input.device)
    policy = Uniform(2.0 * (_other(flipped) if robust else flipped), allow_negative=True)
    return cross_entropy(logits, labels, label_smoothing=policy, reduction=reduction)


class SmoothedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's ``DPOTrainer`` with :func:`preference_loss`: conservative DPO, and a confidence for each pair.

    ``DPOConfig(loss_type="sigmoid", label_smoothing=epsilon)`` is the conservative loss, ``loss_type="robust"`` the
    robust one.  Where the data set has a column ``confidence``, the probability in (0.5, 1] that the preference of the
    pair is right, epsilon of that pair is 1 - confidence, in place of ``label_smoothing``.  The arguments are those of
    ``trl.DPOTrainer``.

    Raises:
        ValueError: another ``loss_type``, or an epsilon outside [0, 0.5); a confidence outside (0.5, 1], when trained.

    Example:
        >>> # SmoothedDPOTrainer(model, args=DPOConfig("out", label_smoothing=0.1), train_dataset=pairs, ...).train()
    """

    data_collator: Any
    loss_types: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data_collator = _WithConfidence(self.data_collator)
        if self.loss_types not in (["sigmoid"], ["robust"]):
            raise ValueError(
                f"loss_type={self.args.loss_type!r}; SmoothedDPOTrainer takes 'sigmoid' (conservative) and 'robust'. "
                "Use trl.DPOTrainer for the others."
            )
        # TRL's "sigmoid" takes no epsilon; its "robust" is the conservative loss of the other epsilon.
        self._is_conservative = self.loss_types == ["sigmoid"]
        self.loss_types = ["robust"]
        self._flipped = _checked(self.args.label_smoothing, below=0.5)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if CONFIDENCE not in self._signature_columns:
            self._signature_columns.append(CONFIDENCE)

    def compute_ref_log_probs(self, *args: Any) -> Any:
        """Of the pairs without their confidence, which is no input of a model."""
        *model, inputs = args  # older versions give the inputs alone
        return super().compute_ref_log_probs(*model, {k: v for k, v in inputs.items() if k != CONFIDENCE})

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of a batch of pairs."""
        inputs, flipped = dict(inputs), self._flipped
        if (confidence := inputs.pop(CONFIDENCE, None)) is not None:
            flipped = 1.0 - confidence
        self.label_smoothing = _other(flipped) if self._is_conservative else flipped
        return super().compute_loss(model, inputs, *args, **kwargs)


class _WithConfidence:
    """A collator that keeps the column of confidences beside what another one makes."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.collator(examples)
        if CONFIDENCE in examples[0]:
            confidence = torch.tensor([example[CONFIDENCE] for example in examples], dtype=torch.float32)
            wrong = ~((confidence > 0.5) & (confidence <= 1.0))
            if wrong.any():
                raise ValueError(
                    f"the confidence of a pair is {float(confidence[wrong][0])}, which is outside (0.5, 1]. Swap the "
                    "answers of a pair below 0.5, and leave out one of 0.5, which says nothing."
                )
            batch[CONFIDENCE] = confidence
        return batch


def _other(flipped: Any) -> Any:
    """The epsilon of the conservative loss that is the robust loss of this one, and the other way round."""
    return -flipped / (1.0 - 2.0 * flipped)


def _checked(flipped: Any, below: float | None) -> Any:
    """Epsilon, in [0, 1] or below the given bound.

    Raises:
        ValueError: a value outside.
    """
    values = torch.as_tensor(flipped)
    wrong = ~((values >= 0) & ((values <= 1) if below is None else (values < below)))
    if wrong.any():
        allowed = "[0, 1]" if below is None else f"[0, {below})"
        raise ValueError(
            f"label_smoothing holds {float(values[wrong].flatten()[0])}, which is outside {allowed}: the probability "
            "that a preference is wrong."
        )
    return flipped
