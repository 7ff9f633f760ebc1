"""Runs a study from its config to its record; finished runs are kept, so that it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from typing_extensions import Unpack

from labelsmooth.smoothing import ceiling
from labelsmooth.study.config import StudyConfig, StudyOptions
from labelsmooth.study.evaluate import evaluate
from labelsmooth.study.methods import CALIBRATORS, METHODS, settings_of
from labelsmooth.study.records import DataRecord, MethodRecord, StudyRecord, StudySettings, save_study
from labelsmooth.study.runs import PARTS, FinishedRun, Job, Runs
from labelsmooth.study.summarise import summarise
from labelsmooth.study.verdict import verdict
from labelsmooth.training import environment
from labelsmooth.training.defaults import load, settle
from labelsmooth.training.progress import Progress
from labelsmooth.training.spec import RunSpec, Settings

__all__ = ["Study", "run_study"]

QUICK_LIMITS = (6000, 2000, 2000)
TUNING_SEED = 1_000_003  # of no run of the study itself, so that tuning does not favour the seeds it is judged on

Obtain = Callable[[list[Job]], dict[str, FinishedRun]]


def run_study(
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    *,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyRecord:
    """Train with every method and seed, calibrate, measure, compare, and say what helped.

    The record is also written to ``study.json`` in the study's folder.  Runs that the folder holds already are not
    repeated; those that other processes are training there are waited for.  The test part is read once, after all
    training.

    Args:
        config: what to do; or give the fields of :class:`StudyConfig` as keyword arguments.
        progress: told about each run and epoch.
        command: the command to repeat the study with, for the record.

    Raises:
        UserError: anything the user can put right, in one sentence.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> study = run_study(data="digits", methods=("label-smoothing",), seeds=1, epochs=1, out=out)
        >>> [method["name"] for method in study.methods]
        ['plain', 'label-smoothing']
    """
    study = Study(config or StudyConfig(**options), progress or Progress())
    jobs = study.jobs(study.runs.complete)
    return study.record(jobs, study.runs.complete(list(jobs.values())), command)


class Study:
    """A study made ready: what was asked for, the data, and the folder of its runs."""

    def __init__(self, config: StudyConfig, progress: Progress) -> None:
        from labelsmooth.data.split import split_dataset

        self._config = config
        self._settled = settle(config, quick=config.quick)
        self._data = load(config, self._settled, progress)
        limits = QUICK_LIMITS if config.quick else None
        self._split = split_dataset(self._data, config.split_seed, limits)
        self._base = _base_spec(config, self._settled, self._data.fingerprint, limits)
        self.runs = Runs(config.folder, self._data, self._split, self._settled["weights"], progress)

    def jobs(self, tuning: Obtain) -> dict[tuple[str, int], Job]:
        """Every run by method and seed; ``tuning`` obtains the runs that choose the strengths."""
        names = self._config.method_names
        strengths = self._tuned(tuning) if self._config.tune else {}
        settings = {name: settings_of(name, strengths.get(name, 1)) for name in names}
        return {
            (name, seed): Job(METHODS[name].title, dataclasses.replace(self._base, settings=settings[name], seed=seed))
            for seed in range(self._config.seed_count)
            for name in names
        }

    def _tuned(self, obtain: Obtain) -> dict[str, int]:
        """The strength of each method's grid with the lowest final validation NLL, on a seed of its own."""
        base = dataclasses.replace(self._base, seed=TUNING_SEED)
        methods = [METHODS[name] for name in self._config.method_names]
        jobs = {
            method.name: [
                Job(f"{method.title} (tuning)", dataclasses.replace(base, settings=settings))
                for settings in method.grid
            ]
            for method in methods
            if len(set(method.grid)) > 1
        }
        runs = obtain([job for grid in jobs.values() for job in grid])
        return {name: int(np.argmin([self._score(runs[job.spec.id]) for job in grid])) for name, grid in jobs.items()}

    def _score(self, run: FinishedRun) -> float:
        logits = dict.fromkeys(PARTS, run.logits["validation"])
        labels = dict.fromkeys(PARTS, self.runs.labels["validation"])
        return float(evaluate(logits, labels, ("none",))["none"].values["nll"].mean())

    def record(self, jobs: dict[tuple[str, int], Job], finished: dict[str, FinishedRun], command: str) -> StudyRecord:
        """Measure, compare, judge, and write ``study.json``."""
        config, data, names = self._config, self._data, self._config.method_names
        settings = {name: jobs[name, 0].spec.settings for name in names}
        runs = [(name, seed, finished[job.spec.id]) for (name, seed), job in jobs.items()]
        settled = {
            **dataclasses.asdict(config),
            **self._settled,
            "methods": list(names),
            "seeds": config.seed_count,
            "calibrators": list(CALIBRATORS),
        }
        study = StudyRecord(
            config=StudySettings(**{key: _plain(value) for key, value in settled.items()}),
            data=DataRecord(
                data.name,
                list(data.classes),
                data.fingerprint,
                list(data.skipped),
                list(data.notes),
                **{part: len(getattr(self._split, part)) for part in PARTS},
            ),
            methods=[
                MethodRecord(
                    name,
                    METHODS[name].title,
                    settings[name].changes(),
                    _ceiling(settings[name], len(data.classes)),
                )
                for name in names
            ],
            **summarise(runs, self.runs.labels),
            verdict=[],
            versions=environment.versions(),
            command=command,
        )
        study = dataclasses.replace(study, verdict=verdict(study))
        save_study(config.folder / "study.json", study)
        return study


def _base_spec(
    config: StudyConfig, settled: dict[str, Any], fingerprint: str, limits: tuple[int, int, int] | None
) -> RunSpec:
    """The baseline's spec, of which every run is a change."""
    from labelsmooth.training.network import weights_fingerprint

    fixed = {**settled, "weights": weights_fingerprint(settled["weights"])}
    return RunSpec(fingerprint, config.split_seed, limits, **fixed, settings=Settings(), seed=0)


def _plain(value: Any) -> Any:
    """A path as a string, and a tuple as a list, as JSON has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) if isinstance(value, tuple) else value


def _ceiling(settings: Settings, num_classes: int) -> float | None:
    """The confidence that a perfect fit converges to under uniform smoothing; None where that is 1 or not known."""
    if settings.smoothing not in ("uniform", "others") or not 0 < settings.epsilon <= 1:
        return None
    return ceiling(settings.epsilon, num_classes, "others" if settings.smoothing == "others" else "all").confidence
