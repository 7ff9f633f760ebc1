"""One training run through Lightning, from a RunSpec to the logits of every part."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import labelsmooth._torchvision  # noqa: F401  (before Lightning)

# isort: split
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from labelsmooth.loss import LabelSmoothingCrossEntropy, cross_entropy
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing.registry import POLICIES
from labelsmooth.study.config import RunSpec
from labelsmooth.study.data.batches import evaluation_batches, training_batches
from labelsmooth.study.data.dataset import Dataset
from labelsmooth.study.data.split import Split
from labelsmooth.study.errors import StudyError
from labelsmooth.study.training.network import Network, make_network

__all__ = ["Trained", "train"]

# A pretrained body learns at this fraction of the head's rate: its features are good already, and a new head's first
# gradients would wash them out.
BODY_RATE = 0.03

Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class Trained:
    """What a run leaves: the logits [N, K] of each part in float32, the curves by epoch, and the time of the fit."""

    logits: dict[str, np.ndarray]
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int


class Classifier(LightningModule):
    """The network under the baseline recipe: AdamW, a one-cycle schedule, and for a pretrained body the usual care."""

    def __init__(self, network: Network, spec: RunSpec, criterion: LabelSmoothingCrossEntropy) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.criterion = criterion
        self.history: dict[str, list[float | None]] = {
            "train_loss": [],
            "train_nll": [],
            "validation_nll": [],
            "validation_error": [],
        }

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss: Tensor = self.criterion(logits, labels)
        nll = cross_entropy(logits.detach(), labels)
        self.log_dict(
            {"train_loss": loss.detach(), "train_nll": nll}, on_step=False, on_epoch=True, batch_size=len(labels)
        )
        if not torch.isfinite(loss):
            raise StudyError(
                f"The training loss became {float(loss.detach())} in epoch {self.current_epoch + 1}: the learning rate "
                f"{self.spec.learning_rate} is too high for this data. Give a lower one with --lr."
            )
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        logits = self.network(images)
        wrong = (logits.argmax(-1) != labels).float().mean()
        values = {"validation_nll": cross_entropy(logits, labels), "validation_error": wrong}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(labels))

    def predict_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.network(batch[0]).float().cpu()  # type: ignore[no-any-return]

    def on_train_epoch_start(self) -> None:
        if not self.network.pretrained:
            return
        # The first epoch trains the new head alone; batch-norm statistics stay the pretrained ones throughout, since
        # a few small batches would replace them by worse.
        frozen = self.current_epoch == 0 and self.spec.epochs > 1
        for parameter in self.network.parameters():
            parameter.requires_grad_(self.network.is_head(parameter) or not frozen)
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def on_train_epoch_end(self) -> None:
        if callable(step := getattr(self.criterion.epsilon, "step", None)):  # schedules, and Online
            step()
        for name, values in self.history.items():
            values.append(float(self.trainer.callback_metrics[name]))

    def configure_optimizers(self) -> Any:
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            slow = self.network.pretrained and not self.network.is_head(parameter)
            groups.setdefault((slow, parameter.dim() > 1), []).append(parameter)
        decay, rate = self.spec.settings.weight_decay, self.spec.learning_rate
        optimizer = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay if wide else 0.0} for (_, wide), group in groups.items()], lr=rate
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[rate * (BODY_RATE if slow else 1.0) for slow, _ in groups],
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class EpochProgress(Callback):
    """Tells the study's progress bar about each epoch."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        self._progress = progress
        self._epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._progress(trainer.current_epoch + 1, self._epochs)


def train(spec: RunSpec, data: Dataset, split: Split, weights: str, folder: Path, progress: Progress) -> Trained:
    """Train one run and predict the training, validation and test parts.

    Args:
        spec: the run.
        weights: where the backbone's weights come from; ``spec.weights`` is their fingerprint.
        folder: CSV and TensorBoard logs go to ``folder / "logs"``.
        progress: called with (epochs done, epochs) after each epoch.

    Raises:
        StudyError: the loss diverged, or the weights do not fit.
        KeyboardInterrupt: the user stopped it.
    """
    size = spec.size if data.photos else None
    with _quiet_and_deterministic():
        seed_everything(spec.seed, workers=True, verbose=False)
        mean, std = _channel_statistics(data, split.train)
        network = make_network(
            spec.backbone, len(data.classes), data.images[0], mean, std, spec.settings.dropout, weights
        )
        if data.photos:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        labels = torch.from_numpy(data.labels[split.train])
        module = Classifier(network, spec, _criterion(spec, len(data.classes), labels))
        best = ModelCheckpoint(folder / "best", monitor="validation_nll", save_weights_only=True)
        patience = spec.settings.patience
        stopping = [EarlyStopping("validation_nll", patience=patience), best] if patience else []
        trainer = Trainer(
            max_epochs=spec.epochs,
            accelerator="auto",
            devices=1,
            deterministic="warn",
            logger=[CSVLogger(folder, "", "logs"), TensorBoardLogger(folder, "", "logs")],
            callbacks=[EpochProgress(progress, spec.epochs), *stopping],
            enable_checkpointing=bool(patience),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1_000_000,  # curves by epoch; by step they would only slow small runs down
        )
        batch = max(spec.batch_size, 128)
        validation = evaluation_batches(data, split.validation, size, batch)
        start = time.perf_counter()
        with _interruptible():
            trainer.fit(module, training_batches(data, split.train, size, spec.batch_size, spec.seed), validation)
        seconds = time.perf_counter() - start
        if patience:
            state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            module.load_state_dict(state["state_dict"])
            Path(best.best_model_path).unlink()
            (folder / "best").rmdir()
        logits = {}
        with _interruptible():
            for name, members in (("train", split.train), ("validation", split.validation), ("test", split.test)):
                batches: Any = trainer.predict(module, evaluation_batches(data, members, size, batch))
                logits[name] = torch.cat(batches).numpy()
    return Trained(logits, module.history, seconds, len(module.history["train_loss"]))


def _criterion(spec: RunSpec, num_classes: int, labels: Tensor) -> LabelSmoothingCrossEntropy:
    """The training loss: cross-entropy smoothed by a policy, or with a penalty."""
    settings = spec.settings
    if settings.penalty:
        penalty = PENALTIES[settings.penalty].make(settings.strength)
        return LabelSmoothingCrossEntropy(settings.epsilon, penalty=penalty)
    if settings.epsilon == 0:
        return LabelSmoothingCrossEntropy(0.0)
    policy = POLICIES[settings.smoothing].make(settings.epsilon, num_classes, labels, spec.epochs)
    return LabelSmoothingCrossEntropy(policy)


def _channel_statistics(data: Dataset, members: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over (at most 1,000 of) the training images, in [0, 1]."""
    chosen = members[:: max(1, len(members) // 1000)]
    pixels = torch.cat([data.images[int(index)].flatten(1) for index in chosen], 1).float() / 255
    return pixels.mean(1), pixels.std(1)


@contextmanager
def _quiet_and_deterministic() -> Iterator[None]:
    """Lightning's hints and notices off, and torch's global settings put back afterwards."""
    logger = logging.getLogger("lightning.pytorch")
    level, deterministic = logger.level, torch.are_deterministic_algorithms_enabled()
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", module=r"lightning\..*|torch\.optim\.lr_scheduler|torch\.utils\.tensorboard.*"
        )
        try:
            yield
        finally:
            logger.setLevel(level)
            torch.use_deterministic_algorithms(deterministic)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C as KeyboardInterrupt: Lightning turns it into an exit of the process and switches the signal off."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if handler is not None and _in_main_thread():
            signal.signal(signal.SIGINT, handler)


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
