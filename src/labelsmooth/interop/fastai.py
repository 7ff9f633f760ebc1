"""fastai: a callback that tells the loss which part of an epoch it is in."""

from __future__ import annotations

from typing import Any

import labelsmooth._torchvision  # noqa: F401  (before fastai, which imports torchvision)

# isort: split
from fastai.callback.core import Callback  # type: ignore[import-untyped]

__all__ = ["SmoothingCallback"]


class SmoothingCallback(Callback):  # type: ignore[misc]
    """Puts the learner's loss into ``train()`` and ``eval()`` with the model, and steps its policy after each epoch.

    A plain ``LabelSmoothingCrossEntropy`` needs no callback.  One with ``smooth_in_eval=False`` does, because fastai
    leaves the loss in training mode when it validates; so does a policy that learns from the training batches
    (``smoothing.Online``), which would learn from the validation ones too, or that changes with the epochs
    (``smoothing.schedule``).

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
