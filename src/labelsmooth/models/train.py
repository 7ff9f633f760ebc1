"""From labelled images to a model's folder: train, calibrate, measure, save."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from typing_extensions import Unpack

from labelsmooth.calibrate import Calibrator, best
from labelsmooth.data import Dataset, Split, load_dataset, split_dataset
from labelsmooth.data.split import stopping_half
from labelsmooth.errors import UserError
from labelsmooth.extras import require
from labelsmooth.files import disk_errors, read_json, write_json
from labelsmooth.models.config import CONFIG
from labelsmooth.models.folder import check_backbone, save_model
from labelsmooth.models.held_out import HeldOut
from labelsmooth.models.measure import measure
from labelsmooth.models.preprocess import Input
from labelsmooth.models.records import TrainConfig, TrainingData, TrainingRecord, TrainKeywords
from labelsmooth.progress import Progress
from labelsmooth.training.engine import is_main_process, versions
from labelsmooth.training.network import weights_fingerprint
from labelsmooth.training.options import settle
from labelsmooth.training.spec import RateTest, RunSpec

if TYPE_CHECKING:
    from labelsmooth.training.fit import Trained

LOCK = ".lock"
BALANCED = "The classes were balanced in training, which makes rare classes more probable than they are."
REPAIRED = (
    "The calibrator was fitted on images in their true shares: it repairs this as far as it has a parameter for each "
    "class, and the confidence in any case."
)
UNFINISHED = ".training"  # the working folder of a training, in the model's folder


def train(
    config: TrainConfig | None = None,
    progress: Progress | None = None,
    *,
    command: str = "",
    **options: Unpack[TrainKeywords],
) -> TrainingRecord:
    """Train a classifier, fit a calibrator on the validation part, and measure both on the test part.

    The folder ``config.folder`` then holds ``model.safetensors``, ``config.json``, ``calibrator.json``,
    ``held_out.safetensors``, ``metrics.json`` and ``logs/``.  The calibrator is what :func:`labelsmooth.calibrate.best`
    chooses on the validation part: none where none lowers the NLL of held-out rows, or with too few errors.

    Args:
        config: the options; or give the fields of :class:`TrainConfig` as keyword arguments.
        progress: ``photos``, ``data``, ``run`` and ``epoch`` are called.
        command: the command to repeat the training with, for the record.

    Raises:
        UserError: an option, the data or the disk that the user can correct.
        KeyboardInterrupt: the user stopped the training; the message says what is kept.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "model"
        >>> record = train(data="digits", epochs=2, out=out)
        >>> sorted(path.name for path in out.iterdir())
        ['calibrator.json', 'config.json', 'held_out.safetensors', 'logs', 'metrics.json', 'model.safetensors']
    """
    require("study", "Training")
    config = config or TrainConfig(**options)
    progress = progress or Progress()
    settled = settle(config, ema=config.ema, precision=config.precision)
    check_backbone(settled["backbone"])
    fingerprint = weights_fingerprint(settled["weights"])
    before = _written(config.folder)
    with _locked(config.folder), _stop_sentence(config, before):
        if (config.folder / CONFIG).exists() and not config.overwrite:
            raise UserError(f"{config.folder} holds a model; choose another --out, or give --overwrite to replace it.")
        data = load_dataset(
            config.data,
            settled["size"] or None,
            columns=config.columns,
            nested=config.nested,
            data_dir=config.data_dir,
            skip_corrupt=config.skip_corrupt,
            progress=progress,
        )
        progress.data(data.remarks)
        data, split = _split(data, config)
        spec = RunSpec(
            data.fingerprint,
            config.split_seed,
            None,
            **{**settled, "weights": fingerprint},
            settings=config.settings,
            seed=config.seed,
            freeze_epochs=config.freeze_epochs,
        )
        return _train(config, spec, settled["weights"], data, split, progress, command)


@contextlib.contextmanager
def _stop_sentence(config: TrainConfig, before: float | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_what_is_kept(config, before)) from None


def _what_is_kept(config: TrainConfig, before: float | None) -> str:
    """The message about what a stopped training leaves in its folder; without a finished epoch it leaves nothing.

    ``before`` is when the model in the folder had been written as the training started; None where there was none.
    """
    from labelsmooth.training.checkpoint import finished_epochs

    folder = config.folder
    if _written(folder) not in (None, before):
        return f"The training is finished: the model in {folder} is whole."
    if epochs := finished_epochs(folder / UNFINISHED):
        done = "1 finished epoch is" if epochs == 1 else f"{epochs} finished epochs are"
        return f"{done} kept in {folder}; the same command with --resume continues."
    if is_main_process():
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    model = f" The model in {folder} is as it was." if before is not None else ""
    return f"No epoch was finished, so nothing is kept.{model} The same command starts again."


def _written(folder: Path) -> float | None:
    try:
        return (folder / CONFIG).stat().st_mtime_ns
    except OSError:
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one training at a time.  The system releases it when a process is killed."""
    if not is_main_process():
        yield
        return
    path = folder / LOCK
    with disk_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"out {folder} is a file; give a folder.")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(f"Another process is training in {folder}; wait for it, or give another --out.") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held, so that no other process holds a deleted lock
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing was written


def _train(
    config: TrainConfig, spec: RunSpec, weights: str, data: Dataset, split: Split, progress: Progress, command: str
) -> TrainingRecord:
    from labelsmooth.training.fit import train as fit

    working = _prepare(config, spec)
    rate_test = None
    if config.find_lr:
        progress.run("Looking for a learning rate", config.seed)
        rate_test = _rate_test(working, spec, data, split, weights)
        spec = dataclasses.replace(spec, learning_rate=rate_test.chosen)
        progress.data([f"The range test chose the learning rate {spec.learning_rate:.2g}."])
    progress.run("Training", config.seed, epochs=spec.epochs)
    with disk_errors(config.folder):
        result = fit(
            spec,
            data,
            split,
            weights,
            working,
            progress,
            config.engine,
            config.resume,
            parts=("validation", "test"),
            find_suspects=True,
        )
    calibrator, held_out, reason = _calibrator(result, data.labels[split.validation], spec)
    recipe = {**dataclasses.asdict(spec), "settings": spec.settings.changes()}
    balanced = [BALANCED, REPAIRED if calibrator else "No calibrator repairs it."]
    about = TrainingData(
        name=data.name,
        fingerprint=data.fingerprint,
        split_seed=spec.split_seed,
        fractions=list(data.fractions),
        skipped=list(data.skipped),
        notes=[*data.notes, *(balanced if spec.settings.balance != "none" else [])],
        nested=config.nested,
        columns=config.columns,
        train=len(split.train),
        validation=len(split.validation),
        test=len(split.test),
    )
    record = measure(
        result,
        data,
        split,
        calibrator,
        held_out,
        calibrator_reason=reason,
        rate_test=rate_test,
        about=about,
        recipe=recipe,
        versions=versions(),
        command=command,
    )
    if is_main_process():
        input = _input(spec, data, result.crop)
        _save(config.folder, working, record, result.network, calibrator, held_out, input, spec.backbone)
    return record


def _save(
    folder: Path,
    working: Path,
    record: TrainingRecord,
    network: Any,
    calibrator: Calibrator | None,
    held_out: HeldOut | None,
    input: Input,
    backbone: str,
) -> None:
    """Write the folder; ``config.json`` comes last: a folder without it holds no finished model."""
    with disk_errors(folder):
        (folder / CONFIG).unlink(missing_ok=True)
        shutil.rmtree(folder / "logs", ignore_errors=True)
        if (working / "logs").exists():  # fitting the head alone writes none
            os.replace(working / "logs", folder / "logs")
    write_json(folder / "metrics.json", dataclasses.asdict(record))
    save_model(
        folder,
        network,
        backbone=backbone,
        classes=record.classes,
        input=input,
        calibrator=calibrator,
        calibrate=record.calibrator.applied,
        held_out=held_out,
        recipe=record.recipe,
        data=dataclasses.asdict(record.data),
        command=record.command,
    )
    shutil.rmtree(working, ignore_errors=True)


def _prepare(config: TrainConfig, spec: RunSpec) -> Path:
    """The working folder: empty, or with --resume that of a stopped training."""
    working = config.folder / UNFINISHED
    note = working / "spec.json"
    if not is_main_process():
        return working
    with disk_errors(working):
        if note.exists() and not config.overwrite:
            if not config.resume:
                raise UserError(
                    f"{config.folder} holds a training that was stopped. Give --resume to continue it, or --overwrite "
                    "to start over."
                )
            if read_json(note) != {"id": spec.id}:
                raise UserError(
                    f"The training that was stopped in {config.folder} had other options, other data or another "
                    "version. Give the same options to continue it, or --overwrite to start over."
                )
        elif not (config.resume and note.exists()):
            shutil.rmtree(working, ignore_errors=True)
        working.mkdir(parents=True, exist_ok=True)
        write_json(note, {"id": spec.id})
    return working


def _rate_test(working: Path, spec: RunSpec, data: Dataset, split: Split, weights: str) -> RateTest:
    """The range test; saved, so that a resumed training has the same rate."""
    from labelsmooth.training.find_rate import find_learning_rate

    note = working / "learning_rate.json"
    if not note.exists():
        write_json(note, dataclasses.asdict(find_learning_rate(spec, data, split, weights, working)))
    return RateTest(**read_json(note))


def _split(data: Dataset, config: TrainConfig) -> tuple[Dataset, Split]:
    if config.validation is not None and data.validation is not None:
        raise UserError(
            f"validation={config.validation} is a share to draw, but {data.name} has a validation part of its own; "
            "leave it out."
        )
    if config.validation is not None:
        rest = data.fractions[0] + data.fractions[1]
        shares = (rest * (1 - config.validation), rest * config.validation, data.fractions[2])
        data = dataclasses.replace(data, fractions=shares)
    return data, split_dataset(data, config.split_seed)


def _calibrator(
    result: Trained, labels: NDArray[np.int64], spec: RunSpec
) -> tuple[Calibrator | None, HeldOut | None, str]:
    """A calibrator that lowers the NLL of held-out validation examples, or None; its predictions for them; the reason.

    Under early stopping it is fitted on the half of the validation part that did not choose the epoch.
    """
    logits, features = result.logits.get("validation"), result.features.get("validation")
    if logits is None:
        return None, None, "There is no validation part to fit a calibrator on."
    if spec.settings.patience:
        rows = ~stopping_half(labels)
        logits, labels = logits[rows], labels[rows]
        features = None if features is None else features[torch.from_numpy(rows)]
    choice = best(logits.astype(np.float64), labels)
    calibrator = None if choice.name == "identity" else choice.calibrator
    return calibrator, HeldOut.of(logits, labels, features, calibrator), choice.reason


def _input(spec: RunSpec, data: Dataset, crop: int | None) -> Input:
    channels, height, width = data.images[0].shape
    return Input.photo(spec.size, crop) if data.photos else Input(channels, height, width)
