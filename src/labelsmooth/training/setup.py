"""What a training and a range test share: the module, the trainer, the batches, and errors as sentences."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before Lightning)

import copy
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from labelsmooth.data.batches import training_batches
from labelsmooth.data.dataset import Dataset
from labelsmooth.data.split import Split
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.training.checkpoint import WholeCheckpointIO
from labelsmooth.training.engine import Engine, make_loggers, resolve_precision
from labelsmooth.training.module import Classifier, make_criterion
from labelsmooth.training.network import SMALL_CNN, CustomNetwork, Network, make_network, synchronise_batch_norm
from labelsmooth.training.spec import RunSpec


def batches_of(spec: RunSpec, data: Dataset, split: Split, world: int = 1) -> Any:
    """The training batches of a run."""
    size = spec.size if data.photos else None
    balanced = spec.settings.balance == "sampling"
    return training_batches(data, split.train, size, spec.batch_size, spec.seed, world, balanced=balanced)


def fit_new_head(module: Classifier, trainer: Trainer) -> None:
    """Fit a pretrained network's new head, on the trainer's device and in its precision."""
    module.to(trainer.strategy.root_device)
    with trainer.precision_plugin.val_step_context():
        module.fit_head()


def make_module(
    spec: RunSpec,
    data: Dataset,
    split: Split,
    weights: str,
    engine: Engine,
    progress: Progress,
    make: Callable[[int], nn.Module] | None = None,
) -> Classifier:
    """The seeded network with its loss, ready to train; ``make`` builds a network of the user's own."""
    seed_everything(spec.seed, workers=True, verbose=False)
    dropout = spec.settings.dropout
    if make is not None:
        network: Network = CustomNetwork(make(len(data.classes)), dropout)
    else:
        shape = (3, spec.size, spec.size) if data.photos else tuple(data.images[0].shape)
        own = spec.backbone == SMALL_CNN  # timm's models have statistics of their own
        mean, std = _channel_statistics(data, split.train) if own else (None, None)
        network = make_network(spec.backbone, len(data.classes), shape, mean, std, dropout=dropout, weights=weights)
    if data.photos and not engine.sharded:  # FSDP needs contiguous weights
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if engine.world > 1 and torch.cuda.is_available():  # PyTorch has none for the CPU
        network = synchronise_batch_norm(network)
    if engine.compile:
        network.compile()
    labels = torch.from_numpy(data.labels[split.train])
    criterion = make_criterion(spec, len(data.classes), labels)
    if data.soft is not None and spec.distillation is None:
        _check_soft(criterion, torch.from_numpy(data.soft[:1]))
    return Classifier(network, spec, criterion, data, split, progress)


def _check_soft(criterion: torch.nn.Module, target: Tensor) -> None:
    """Raise a UserError for a loss or policy that needs labels where the data has probabilities."""
    try:
        copy.deepcopy(criterion)(torch.zeros_like(target), target)  # a copy: a policy may learn from the batch
    except (TypeError, ValueError) as error:
        raise UserError(f"The labels of the data are probabilities, which this loss does not take: {error}") from error


def make_trainer(
    spec: RunSpec, engine: Engine, folder: Path, epochs: int, callbacks: list[Callback], steps: int = -1
) -> Trainer:
    """Lightning's trainer; with a number of steps it ends after them and writes no logs."""
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
def memory_errors(spec: RunSpec) -> Iterator[None]:
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
def quiet_and_deterministic() -> Iterator[None]:
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
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C: Lightning exits the process instead, and disables the signal."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
