"""fastai: a callback that tells the loss which part of an epoch it is in, and the loss of its language models."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before fastai, which imports torchvision)

from typing import Any

from fastai.callback.core import Callback  # type: ignore[import-untyped]
from fastai.callback.mixup import MixHandler  # type: ignore[import-untyped]
from torch import Tensor

from labelsmooth.loss import LabelSmoothingCrossEntropy
from labelsmooth.target import Mixture

__all__ = ["SequenceCrossEntropy", "SmoothingCallback"]


class SequenceCrossEntropy(LabelSmoothingCrossEntropy):
    """:class:`labelsmooth.LabelSmoothingCrossEntropy` of logits with their classes on the last axis, or another one.

    fastai's language models, and the transformers of most others, give logits (B, T, V) for labels (B, T); PyTorch's
    losses, and those of labelsmooth, take (B, V, T).

    Args:
        axis: of the classes.
        label_smoothing, reduction, ...: as for ``LabelSmoothingCrossEntropy``.

    Example:
        >>> import torch
        >>> criterion = SequenceCrossEntropy(0.1)
        >>> criterion(torch.zeros(2, 5, 8), torch.randint(8, (2, 5)))
        tensor(2.0794)
        >>> # language_model_learner(dls, AWD_LSTM, loss_func=criterion)
    """

    def __init__(self, *args: Any, axis: int = -1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.axis = axis

    def forward(self, input: Tensor, target: Tensor | Mixture) -> Tensor | tuple[Tensor, Tensor]:
        if not isinstance(target, Mixture) and target.shape == input.shape:  # class probabilities
            target = target.movedim(self.axis, 1)
        return super().forward(input.movedim(self.axis, 1), target)

    def activation(self, x: Tensor) -> Tensor:
        """Probabilities, which fastai asks its loss for."""
        return x.softmax(self.axis)

    def decodes(self, x: Tensor) -> Tensor:
        """The most probable classes."""
        return x.argmax(self.axis)


class SmoothingCallback(Callback):  # type: ignore[misc]
    """Puts the learner's loss into ``train()`` and ``eval()`` with the model, and steps its policy after each epoch.

    A plain ``LabelSmoothingCrossEntropy`` needs no callback.  One with ``smooth_in_eval=False`` does, because fastai
    leaves the loss in training mode when it validates; so does a policy that learns from the training batches
    (``smoothing.Online``), which would learn from the validation ones too, or that changes with the epochs
    (``smoothing.schedule``).

    Raises:
        ValueError: when the fit starts, ``smoothing.Online`` beside ``MixUp`` or ``CutMix``: it learns the predictions
            for one label, and their images have two.

    Example:
        >>> from labelsmooth import LabelSmoothingCrossEntropy, smoothing
        >>> loss = LabelSmoothingCrossEntropy(smoothing.Online(num_classes=37))
        >>> # vision_learner(dls, resnet34, loss_func=loss, metrics=error_rate, cbs=SmoothingCallback())
    """

    run_valid = True
    _criterion: Any = None

    def before_fit(self) -> None:
        # MixUp puts a function of its own in the loss's place during the fit; what is kept here is the loss itself.
        self._criterion = getattr(self.learn, "loss_func", None)
        policy = getattr(self._criterion, "epsilon", None)
        learns = callable(getattr(getattr(policy, "policy", policy), "observe", None))
        if learns and (mixing := [callback for callback in self.learn.cbs if isinstance(callback, MixHandler)]):
            raise ValueError(
                f"{type(mixing[0]).__name__} gives each image two labels, and smoothing.Online learns the predictions "
                "for one. Leave one of the two out, or use another policy."
            )

    def before_train(self) -> None:
        _switch(self._criterion, training=True)

    def after_train(self) -> None:
        policy = getattr(self._criterion, "epsilon", None)
        if callable(step := getattr(policy, "step", None)):
            step()

    def after_fit(self) -> None:
        self._criterion = None

    def before_validate(self) -> None:
        # get_preds validates without a fit.
        _switch(self._criterion or self.learn.loss_func, training=False)


def _switch(criterion: Any, training: bool) -> None:
    if callable(train := getattr(criterion, "train", None)):
        train(training)
