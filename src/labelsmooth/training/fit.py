"""One training run with Lightning, from a RunSpec to the logits of every part."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import labelsmooth._torchvision  # noqa: F401  (before Lightning)

# isort: split
import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from labelsmooth.data.batches import training_batches
from labelsmooth.data.dataset import Dataset
from labelsmooth.data.split import Split
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.training.checkpoint import BestEpoch, WholeCheckpointIO, every_epoch, find_checkpoint
from labelsmooth.training.engine import Engine, make_loggers, resolve_precision
from labelsmooth.training.head import Suspect
from labelsmooth.training.module import Classifier, Diverged, make_criterion
from labelsmooth.training.network import SMALL_CNN, Network, make_network, synchronise_batch_norm
from labelsmooth.training.sharding import load_whole, whole_state
from labelsmooth.training.spec import RateTest, RunSpec

__all__ = ["Trained", "find_learning_rate", "train"]

Part = Literal["train", "validation", "test"]


# The range test of the learning rate: its ends, its batches, the batches that it is smoothed over, and the multiple of
# the least loss that ends it.
LOWEST_RATE, HIGHEST_RATE, SWEEP, SMOOTHED, EXPLODED = 1e-5, 1.0, 100, 4.0, 4.0


@dataclass(frozen=True)
class Trained:
    """The result of a run.

    Args:
        logits: [N, K] float32 of the parts that were asked for and are not empty.
        features: [N, D] the inputs of the network's last layer, of the same parts; none with several processes or a
            compiled network.
        history: the curves by epoch.
        seconds: of the fit.
        epochs: trained.
        network: the one that predicts.
        crop: side of the square that the network takes of a photo; None for small images.
        suspects: the training examples that may be mislabelled, by their index in the training part.
    """

    logits: dict[str, np.ndarray]
    features: dict[str, Tensor]
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int
    network: Network
    crop: int | None
    suspects: list[Suspect]


def train(
    spec: RunSpec,
    data: Dataset,
    split: Split,
    weights: str,
    folder: Path,
    progress: Progress,
    engine: Engine | None = None,
    resume: bool = True,
    parts: Sequence[Part] = ("train", "validation", "test"),
    find_suspects: bool = False,
) -> Trained:
    """Train one run and compute the logits of parts of the data.

    A checkpoint is saved in ``folder`` at the end of each epoch.  A run that finds one resumes from it and ends with
    the same weights as without the interruption.  The caller deletes it once the results are saved.

    Args:
        spec: the run.
        data, split: the images and their parts.
        weights: the source of the backbone's weights; ``spec.weights`` is their fingerprint.
        folder: for the checkpoint, and the CSV and TensorBoard logs in ``folder / "logs"``.
        progress: ``epoch``, ``batch`` and ``scores`` are called.
        engine: devices and machines, by default one; every process of a distributed run calls this function.
        resume: whether to look for a checkpoint in ``folder``; False in a new folder, which other processes may still
            see as it was before.
        parts: of the data, whose logits are computed.
        find_suspects: look for mislabelled training examples, where a new head is fitted to features.

    Raises:
        UserError: the loss diverged, the weights do not fit, or memory is short.
        KeyboardInterrupt: the user stopped the training.
    """
    engine = engine or Engine()
    with _quiet_and_deterministic(), _memory(spec):
        module = _module(spec, data, split, weights, engine, progress)
        module.find_suspects = find_suspects
        patience = spec.settings.patience
        best = BestEpoch(folder)
        stopping = EarlyStopping("validation_nll", patience=patience, check_on_train_epoch_end=True)
        early_stopping = [stopping, best] if patience else []
        epochs = spec.epochs - module.head_epochs
        trainer = _trainer(spec, engine, folder, epochs, [*early_stopping, every_epoch(folder)])
        batches = _batches(spec, data, split, engine.world)
        unsharded = copy.deepcopy(module.network) if engine.sharded else None
        start = time.perf_counter()
        checkpoint = find_checkpoint(folder) if resume else None
        with _interruptible():
            if module.head_epochs and checkpoint is None:
                _fit_head(module, trainer)
            if epochs:
                trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
        seconds = time.perf_counter() - start
        if patience and epochs:
            state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            load_whole(module, state["state_dict"])
        logits: dict[str, np.ndarray] = {}
        features: dict[str, Tensor] = {}
        with _interruptible():
            # In float32, as the saved model predicts.
            module.to(trainer.strategy.root_device)
            for name in parts:
                members = {"train": split.train, "validation": split.validation, "test": split.test}[name]
                if len(members):
                    outputs, head_inputs = module.outputs(members)
                    logits[name] = outputs.numpy()
                    features |= {} if head_inputs is None else {name: head_inputs}
        network: Any = module.final
        if unsharded is not None:
            unsharded.load_state_dict(whole_state(network))
            network = unsharded
    epochs = len(module.history["train_loss"])
    network = network.cpu()
    return Trained(logits, features, module.history, seconds, epochs, network, module.crop, module.suspects)


class RateSweep(Callback):
    """Raises the learning rate by a constant factor from batch to batch, and ends where the loss explodes."""

    def __init__(self) -> None:
        self.rates = np.geomspace(LOWEST_RATE, HIGHEST_RATE, SWEEP)
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rates[len(self.losses)] * group.get("multiple", 1.0)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))
        if self.losses[-1] > EXPLODED * min(self.losses):
            trainer.should_stop = True


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
    with _quiet_and_deterministic(), _memory(spec), _interruptible():
        module = _module(spec, data, without_validation, weights, Engine(), Progress())
        trainer = _trainer(spec, Engine(), folder, 1_000, [sweep], steps=SWEEP)
        if module.head_epochs:
            _fit_head(module, trainer)
        with contextlib.suppress(Diverged):
            trainer.fit(module, _batches(spec, data, split))
    losses = gaussian_filter1d(np.array(sweep.losses), SMOOTHED, mode="nearest") if sweep.losses else np.zeros(1)
    lowest = int(losses.argmin())
    if lowest < 2:
        raise UserError("The range test found no learning rate: the loss does not fall. Give one with --lr.")
    steepest = int(np.gradient(losses)[: lowest + 1].argmin())
    rates = sweep.rates[: len(losses)]
    return RateTest(float(np.sqrt(rates[steepest] * rates[lowest])), rates.tolist(), losses.tolist())


def _batches(spec: RunSpec, data: Dataset, split: Split, world: int = 1) -> Any:
    size = spec.size if data.photos else None
    balanced = spec.settings.balance == "sampling"
    return training_batches(data, split.train, size, spec.batch_size, spec.seed, world, balanced=balanced)


def _fit_head(module: Classifier, trainer: Trainer) -> None:
    module.to(trainer.strategy.root_device)
    with trainer.precision_plugin.val_step_context():
        module.fit_head()


def _module(spec: RunSpec, data: Dataset, split: Split, weights: str, engine: Engine, progress: Progress) -> Classifier:
    seed_everything(spec.seed, workers=True, verbose=False)
    shape = (3, spec.size, spec.size) if data.photos else tuple(data.images[0].shape)
    own = spec.backbone == SMALL_CNN  # timm's models have statistics of their own
    mean, std = _channel_statistics(data, split.train) if own else (None, None)
    dropout = spec.settings.dropout
    network = make_network(spec.backbone, len(data.classes), shape, mean, std, dropout=dropout, weights=weights)
    if data.photos and not engine.sharded:  # FSDP needs contiguous weights
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if engine.world > 1 and torch.cuda.is_available():  # PyTorch has none for the CPU
        network = synchronise_batch_norm(network)
    if engine.compile:
        network.compile()
    labels = torch.from_numpy(data.labels[split.train])
    criterion = make_criterion(spec, len(data.classes), labels)
    if data.soft is not None:
        _check_soft(criterion, torch.from_numpy(data.soft[:1]))
    return Classifier(network, spec, criterion, data, split, progress)


def _check_soft(criterion: torch.nn.Module, target: Tensor) -> None:
    """Raise a UserError for a loss or policy that needs labels where the data has probabilities."""
    try:
        copy.deepcopy(criterion)(torch.zeros_like(target), target)  # a copy: a policy may learn from the batch
    except (TypeError, ValueError) as error:
        raise UserError(f"The labels of the data are probabilities, which this loss does not take: {error}") from error


def _trainer(
    spec: RunSpec, engine: Engine, folder: Path, epochs: int, callbacks: list[Callback], steps: int = -1
) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        max_steps=steps,
        accelerator="auto",
        devices=engine.devices,
        num_nodes=engine.nodes,
        strategy=_strategy(engine),
        precision=resolve_precision(spec.precision),
        deterministic="warn",
        use_distributed_sampler=False,
        plugins=[WholeCheckpointIO()],
        logger=make_loggers(folder, engine.loggers) if steps == -1 else False,
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1_000_000,  # logging by step would slow small runs down
    )


def _strategy(engine: Engine) -> Any:
    if engine.world == 1:
        return "auto"
    if engine.strategy == "ddp":
        return "ddp"
    return ModelParallelStrategy(engine.world, tensor_parallel_size=1, save_distributed_checkpoint=False)


@contextmanager
def _memory(spec: RunSpec) -> Iterator[None]:
    """Raise a UserError where memory is short."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = ("out of memory", "can't allocate memory", "not enough memory")
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(w in str(error) for w in known):
            raise
        raise UserError(
            f"There is not enough memory for batches of {spec.batch_size} images. Give a smaller --batch-size, --size "
            "or --backbone."
        ) from error


def _channel_statistics(data: Dataset, members: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over (at most 1,000 of) the training images, in [0, 1]."""
    sample = members[:: max(1, len(members) // 1000)]
    pixels = torch.cat([data.images[int(index)].flatten(1) for index in sample], 1).float() / 255
    return pixels.mean(1), pixels.std(1)


@contextmanager
def _quiet_and_deterministic() -> Iterator[None]:
    """Silence Lightning, and restore torch's global settings afterwards."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels, deterministic = [logger.level for logger in loggers], torch.are_deterministic_algorithms_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", module=r"lightning\..*|torch\.optim\.lr_scheduler|torch\.utils\.tensorboard.*"
        )
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            torch.use_deterministic_algorithms(deterministic)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C: Lightning exits the process instead, and disables the signal."""
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
