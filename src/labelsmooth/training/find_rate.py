"""The range test of the learning rate: a short training whose rate rises from batch to batch."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before Lightning)

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer

from labelsmooth.data.dataset import Dataset
from labelsmooth.data.split import Split
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.training.engine import Engine
from labelsmooth.training.module import Diverged
from labelsmooth.training.setup import (
    batches_of,
    fit_new_head,
    interruptible,
    make_module,
    make_trainer,
    memory_errors,
    quiet_and_deterministic,
)
from labelsmooth.training.spec import RateTest, RunSpec

# Its ends, its batches, and the standard deviation in batches of what smooths the losses.
LOWEST_RATE, HIGHEST_RATE, SWEEP, SMOOTHED = 1e-5, 1.0, 100, 4.0
# It ends where the mean loss of so many batches is this multiple of the least.
LAST, EXPLODED = 5, 4.0


class RateSweep(Callback):
    """Raises the learning rate by a constant factor from batch to batch, and ends where the loss explodes."""

    def __init__(self) -> None:
        self.rates = np.geomspace(LOWEST_RATE, HIGHEST_RATE, SWEEP)
        self.losses: list[float] = []
        self._least = np.inf

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rates[len(self.losses)] * group.get("multiple", 1.0)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        loss = float(outputs["loss"])
        if not np.isfinite(loss):  # on a GPU not every batch is checked
            trainer.should_stop = True
            return
        self.losses.append(loss)
        if len(self.losses) >= LAST:  # single batches are too noisy
            mean = float(np.mean(self.losses[-LAST:]))
            self._least = min(self._least, mean)
            trainer.should_stop = mean > EXPLODED * self._least


def find_learning_rate(spec: RunSpec, data: Dataset, split: Split, weights: str, folder: Path) -> RateTest:
    """A learning rate from a range test from 1e-5 to 1 over 100 batches.

    It is the geometric mean of the rate at which the loss falls fastest and that of the lowest loss: the first alone is
    slow, the second is at the edge of what trains.  The losses are smoothed by a Gaussian over log(rate), which does
    not shift the curve as a running mean does.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.
    """
    from scipy.ndimage import gaussian_filter1d

    sweep = RateSweep()
    without_validation = dataclasses.replace(split, validation=split.validation[:0])
    with quiet_and_deterministic(), memory_errors(spec), interruptible():
        module = make_module(spec, data, without_validation, weights, Engine(), Progress())
        trainer = make_trainer(spec, Engine(), folder, 1_000, [sweep], steps=SWEEP)
        if module.head_epochs:
            fit_new_head(module, trainer)
        with contextlib.suppress(Diverged):
            trainer.fit(module, batches_of(spec, data, split))
    losses = gaussian_filter1d(np.array(sweep.losses), SMOOTHED, mode="nearest") if sweep.losses else np.zeros(1)
    lowest = int(losses.argmin())
    if lowest < 2:
        raise UserError("The range test found no learning rate: the loss does not fall. Give one with --lr.")
    steepest = int(np.gradient(losses)[: lowest + 1].argmin())
    rates = sweep.rates[: len(losses)]
    return RateTest(float(np.sqrt(rates[steepest] * rates[lowest])), rates.tolist(), losses.tolist())
