"""One training run with Lightning, from a RunSpec to the logits of every part."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before Lightning)

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn

from labelsmooth.data.dataset import Dataset
from labelsmooth.data.loading import PARTS, Part
from labelsmooth.data.split import Split
from labelsmooth.progress import Progress
from labelsmooth.training.checkpoint import BestEpoch, every_epoch, find_checkpoint
from labelsmooth.training.engine import Engine
from labelsmooth.training.head import Suspect
from labelsmooth.training.network import Network
from labelsmooth.training.setup import (
    batches_of,
    fit_new_head,
    interruptible,
    make_module,
    make_trainer,
    memory_errors,
    quiet_and_deterministic,
)
from labelsmooth.training.sharding import load_whole, whole_state
from labelsmooth.training.spec import RunSpec


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
    parts: Sequence[Part] = PARTS,
    find_suspects: bool = False,
    make: Callable[[int], nn.Module] | None = None,
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
        make: a network of the user's own from the number of classes, in place of ``spec.backbone``.

    Raises:
        UserError: the loss diverged, the weights do not fit, or memory is short.
        KeyboardInterrupt: the user stopped the training.
    """
    engine = engine or Engine()
    with quiet_and_deterministic(), memory_errors(spec):
        module = make_module(spec, data, split, weights, engine, progress, make)
        module.find_suspects = find_suspects
        patience = spec.settings.patience
        best = BestEpoch(folder)
        stopping = EarlyStopping("validation_nll", patience=patience, check_on_train_epoch_end=True)
        early_stopping = [stopping, best] if patience else []
        epochs = spec.epochs - module.head_epochs
        trainer = make_trainer(spec, engine, folder, epochs, [*early_stopping, every_epoch(folder)])
        batches = batches_of(spec, data, split, engine.world)
        unsharded = copy.deepcopy(module.network) if engine.sharded else None
        start = time.perf_counter()
        checkpoint = find_checkpoint(folder) if resume else None
        with interruptible():
            if module.head_epochs and checkpoint is None:
                fit_new_head(module, trainer)
            if epochs:
                trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
        seconds = time.perf_counter() - start
        if patience and epochs:
            state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            load_whole(module, state["state_dict"])
        logits: dict[str, np.ndarray] = {}
        features: dict[str, Tensor] = {}
        with interruptible():
            # In float32, as the saved model predicts.
            module.to(trainer.strategy.root_device)
            for name in parts:
                members = {"train": split.train, "validation": split.validation, "test": split.test}[name]
                if len(members):
                    known = module.validated if name == "validation" else None
                    outputs, head_inputs = known or module.outputs(members)
                    logits[name] = outputs.numpy()
                    features |= {} if head_inputs is None else {name: head_inputs}
        network: Any = module.final
        if unsharded is not None:
            unsharded.load_state_dict(whole_state(network))
            network = unsharded
    epochs = len(module.history["train_loss"])
    network = network.cpu()
    return Trained(logits, features, module.history, seconds, epochs, network, module.crop, module.suspects)
