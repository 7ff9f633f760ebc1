"""Runs a study from its config to its record; finished runs are kept, so that it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import math
import shutil
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelsmooth.smoothing import ceiling
from labelsmooth.study import environment
from labelsmooth.study.compare import compare, estimate, planned_comparisons
from labelsmooth.study.config import RunSpec, StudyConfig
from labelsmooth.study.errors import StudyError
from labelsmooth.study.evaluate import evaluate, largest_logits, reliability
from labelsmooth.study.files import read_json, whole_folder, write_arrays, write_json
from labelsmooth.study.methods import CALIBRATORS, METHODS, Settings, settings_of
from labelsmooth.study.records import METRICS, Curves, RunRecord, StudyRecord, Summary, save_study
from labelsmooth.study.verdict import verdict

__all__ = ["Progress", "run_study"]

QUICK_LIMITS = (6000, 2000, 2000)
TUNING_SEED = 1_000_003  # of no run of the study itself, so that tuning does not favour the seeds it is judged on
DEFAULT_EPOCHS = {"digits": 30, "fashion-mnist": 15}


class Progress:
    """Hears how a study goes; this one says nothing."""

    def photos(self, done: int, total: int) -> None:
        """Photos decoded so far."""

    def plan(self, total: int, finished: int) -> None:
        """How many runs there are, and how many of them were finished before."""

    def run(self, title: str, seed: int) -> None:
        """A run begins."""

    def epoch(self, done: int, total: int) -> None:
        """Epochs done in the current run."""

    def run_done(self) -> None:
        """The current run is finished and kept."""


@dataclass(frozen=True)
class _Finished:
    """A run as its folder holds it."""

    id: str
    logits: dict[str, np.ndarray]
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int


def run_study(
    config: StudyConfig | None = None, progress: Progress | None = None, *, command: str = "", **options: Any
) -> StudyRecord:
    """Train with every method and seed, calibrate, measure, compare, and say what helped.

    The record is also written to ``study.json`` in the study's folder.  Runs that the folder holds already are not
    repeated.  The test part is read once, after all training.

    Args:
        config: what to do; or give its fields as keyword arguments.
        progress: told about each run and epoch.
        command: the command to repeat the study with, for the record.

    Raises:
        StudyError: anything the user can put right, in one sentence.

    Example:
        >>> from labelsmooth.study import run_study
        >>> study = run_study(data="digits", methods=("label-smoothing",), seeds=3)  # doctest: +SKIP
        >>> print(study.verdict[0])  # doctest: +SKIP
    """
    from labelsmooth.study.data.sources import load_dataset
    from labelsmooth.study.data.split import split_dataset

    config = config or StudyConfig(**options)
    progress = progress or Progress()
    settled = _settle(config)
    data = load_dataset(config.data, config.data_dir, settled["size"] or None, progress.photos)
    limits = QUICK_LIMITS if config.quick else None
    split = split_dataset(data, config.split_seed, limits)
    base = _base_spec(config, settled, data.fingerprint, limits)
    trainer = _Trainer(config, data, split, config.folder, progress)

    strengths = trainer.tune(base) if config.tune else dict.fromkeys(config.method_names, 1)
    specs = [
        (name, dataclasses.replace(base, settings=settings_of(name, strengths[name]), seed=seed))
        for seed in range(config.seed_count)
        for name in config.method_names
    ]
    progress.plan(len(specs), sum(trainer.finished(spec) for _, spec in specs))
    runs = [(name, spec, trainer.run(name, spec)) for name, spec in specs]

    labels = {part: data.labels[getattr(split, part)] for part in ("train", "validation", "test")}
    methods = [
        {
            "name": name,
            "title": METHODS[name].title,
            "settings": settings_of(name, strengths[name]).changes(),
            "ceiling": _ceiling(settings_of(name, strengths[name]), len(data.classes)),
        }
        for name in config.method_names
    ]
    study = _summarise(runs, labels, methods)
    study = dataclasses.replace(
        study,
        config={
            **{
                key: str(value) if isinstance(value, Path) else value
                for key, value in dataclasses.asdict(config).items()
            },
            **settled,
            "methods": list(config.method_names),
            "seeds": config.seed_count,
            "calibrators": list(CALIBRATORS),
        },
        data={
            "name": data.name,
            "classes": list(data.classes),
            "fingerprint": data.fingerprint,
            **{part: len(members) for part, members in labels.items()},
        },
        versions=environment.versions(),
        command=command,
    )
    study = dataclasses.replace(study, verdict=verdict(study))
    save_study(config.folder / "study.json", study)
    return study


def _settle(config: StudyConfig) -> dict[str, Any]:
    """The defaults that depend on the kind of data, and on the backbone."""
    from labelsmooth.study.data.sources import is_small
    from labelsmooth.study.model import SMALL_CNN

    backbone = config.backbone or (SMALL_CNN if is_small(config.data) else "resnet34")
    small = backbone == SMALL_CNN
    native = small and is_small(config.data)
    epochs = config.epochs or (DEFAULT_EPOCHS.get(config.data, 30) if small else 4)
    if config.quick and config.epochs is None:
        epochs = math.ceil(epochs / 2)
    return {
        "backbone": backbone,
        "weights": "none" if small else config.weights,
        "size": 0 if native and config.size is None else config.size or (64 if small else 224),
        "epochs": epochs,
        "batch_size": config.batch_size or (64 if small else 32),
        "learning_rate": config.learning_rate or (3e-3 if small else 1e-2),
    }


def _base_spec(
    config: StudyConfig, settled: dict[str, Any], fingerprint: str, limits: tuple[int, int, int] | None
) -> RunSpec:
    from labelsmooth.study.model import weights_fingerprint

    fixed = {**settled, "weights": weights_fingerprint(settled["weights"])}
    return RunSpec(fingerprint, config.split_seed, limits, **fixed, settings=settings_of("plain"), seed=0)


def _ceiling(settings: Settings, num_classes: int) -> float | None:
    """The confidence that a perfect fit converges to under uniform smoothing; None where that is 1 or not known."""
    if settings.smoothing not in ("uniform", "others") or not 0 < settings.epsilon <= 1:
        return None
    return ceiling(settings.epsilon, num_classes, "others" if settings.smoothing == "others" else "all").confidence


class _Trainer:
    """Trains a run or reads it back from its folder."""

    def __init__(self, config: StudyConfig, data: Any, split: Any, folder: Path, progress: Progress) -> None:
        self._weights = _settle(config)["weights"]
        self._methods = config.method_names
        self._data, self._split = data, split
        self._folder = folder / "runs"
        self._progress = progress
        self._labels = {part: len(getattr(split, part)) for part in ("train", "validation", "test")}

    def finished(self, spec: RunSpec) -> bool:
        return (self._folder / spec.id).exists()

    def tune(self, base: RunSpec) -> dict[str, int]:
        """For each method the strength of its grid with the lowest final validation NLL, on a seed of its own."""
        base = dataclasses.replace(base, seed=TUNING_SEED)
        chosen = {}
        for name in self._methods:
            grid = METHODS[name].grid
            scores = []
            for settings in grid if len(set(grid)) > 1 else grid[1:2]:
                spec = dataclasses.replace(base, settings=settings)
                logits = self.run(f"{name} (tuning)", spec).logits["validation"]
                values = evaluate(
                    {"train": logits, "validation": logits, "test": logits}, self._validation(), ("none",)
                )
                scores.append(float(values["none"].values["nll"].mean()))
            chosen[name] = int(np.argmin(scores)) if len(scores) > 1 else 1
        return chosen

    def _validation(self) -> dict[str, np.ndarray]:
        labels = self._data.labels[self._split.validation]
        return {"train": labels, "validation": labels, "test": labels}

    def run(self, name: str, spec: RunSpec) -> _Finished:
        """The finished run; trained now, if its folder is not there or cannot be read."""
        if self.finished(spec):
            try:
                return self._read(spec)
            except (StudyError, OSError, KeyError, ValueError, zipfile.BadZipFile):
                shutil.rmtree(self._folder / spec.id, ignore_errors=True)
        from labelsmooth.study.train import train

        self._progress.run(METHODS[name].title if name in METHODS else name, spec.seed)
        with whole_folder(self._folder / spec.id) as folder:
            done = train(spec, self._data, self._split, self._weights, folder, self._progress.epoch)
            write_arrays(folder / "logits.npz", **done.logits)
            kept = {"seconds": done.seconds, "epochs": done.epochs, "history": done.history}
            write_json(folder / "run.json", {"spec": dataclasses.asdict(spec), **kept})
        self._progress.run_done()
        return self._read(spec)

    def _read(self, spec: RunSpec) -> _Finished:
        folder = self._folder / spec.id
        record = read_json(folder / "run.json")
        # Opened here, because np.load leaves a damaged file open.
        with open(folder / "logits.npz", "rb") as raw, np.load(raw, allow_pickle=False) as file:
            logits = {part: file[part] for part in self._labels}
        if any(logits[part].shape != (count, len(self._data.classes)) for part, count in self._labels.items()):
            raise StudyError(f"{folder} holds logits of another data set.")
        return _Finished(spec.id, logits, record["history"], record["seconds"], record["epochs"])


def _summarise(
    runs: list[tuple[str, RunSpec, _Finished]], labels: dict[str, np.ndarray], methods: list[dict[str, Any]]
) -> StudyRecord:
    """The tables, comparisons and curves of all runs."""
    values: dict[tuple[str, str, str], list[np.ndarray]] = defaultdict(list)
    probabilities: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    records = []
    for name, spec, done in runs:
        results = evaluate(done.logits, labels, CALIBRATORS)
        for calibrator, result in results.items():
            probabilities[name, calibrator].append(result.probabilities)
            for metric, each in result.values.items():
                values[name, calibrator, metric].append(each)
        numbers = {c: {m: float(v.mean()) for m, v in result.values.items()} for c, result in results.items()}
        records.append(RunRecord(done.id, name, spec.seed, done.seconds, done.epochs, dict(done.history), numbers))

    names = tuple(method["name"] for method in methods)
    table = {key: np.stack(each) for key, each in values.items()}
    summary = [
        _summary(*key, table[key])
        for name in names
        for calibrator in CALIBRATORS
        for metric in METRICS
        if (key := (name, calibrator, metric)) in table
    ]
    times = {name: np.array([[run.seconds] for run in records if run.method == name]) for name in names}
    edges, counts = largest_logits({name: values[name, "none", "largest_logit"] for name in names})
    curves = Curves(
        [
            reliability(name, calibrator, probabilities[name, calibrator], labels["test"])
            for name, calibrator in probabilities
        ],
        edges,
        counts,
    )
    return StudyRecord(
        config={},
        data={},
        methods=methods,
        runs=records,
        summary=summary,
        seconds=[_summary(name, "none", "seconds", times[name]) for name in names],
        comparisons=compare(table, planned_comparisons(names, CALIBRATORS)),
        curves=curves,
        verdict=[],
    )


def _summary(method: str, calibrator: str, metric: str, values: np.ndarray) -> Summary:
    result = estimate(values)
    low, high = result.interval()
    return Summary(method, calibrator, metric, result.mean, low, high, result.seeds)
