"""A study from its config to its record: all of it, one part of it (a shard), or the report of parts that are done."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from typing_extensions import Unpack

from labelsmooth.calibrate import best
from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.data.problems import listed
from labelsmooth.data.sources import source_name
from labelsmooth.errors import UserError
from labelsmooth.extras import require
from labelsmooth.progress import Progress
from labelsmooth.smoothing import ceiling
from labelsmooth.study.components import Design
from labelsmooth.study.config import StudyConfig, StudyOptions
from labelsmooth.study.evaluate import calibration_rows, usable
from labelsmooth.study.executor import Executor, Workers
from labelsmooth.study.methods import CALIBRATORS, METHODS, settings_of
from labelsmooth.study.recommend import NONE_YET, recommend
from labelsmooth.study.records import DataRecord, MethodRecord, StudyRecord, StudySettings, save_study
from labelsmooth.study.runs import FinishedRun, Job, Runs, Task
from labelsmooth.study.summarise import summarise
from labelsmooth.study.verdict import details, verdict
from labelsmooth.training.engine import versions
from labelsmooth.training.network import weights_fingerprint
from labelsmooth.training.options import settle
from labelsmooth.training.spec import RunSpec, Settings

__all__ = ["ShardResult", "merge_study", "run_shard", "run_study"]

QUICK_LIMITS = (6000, 2000, 2000)
TUNING_SEED = 1_000_003  # of no run of the study itself, so that tuning does not favour the seeds that are compared

Jobs = dict[tuple[str, int], Job]  # by method and seed


def run_study(
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    *,
    executor: Executor | None = None,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyRecord:
    """Train with every method and seed, calibrate, measure, compare, and say what helped.

    The record is also written to ``study.json`` in the study's folder.  Runs that the folder holds already are not
    repeated.  The test part is read once, after all training.

    Args:
        config: what to do; or give the fields of :class:`StudyConfig` as keyword arguments.
        progress: its methods are called for each run and epoch.
        executor: where the runs are trained, by default in worker processes: :class:`Workers`.
        command: the command to repeat the study with, for the record.

    Raises:
        UserError: anything the user can put right, in one sentence.

    Example:
        >>> import tempfile
        >>> study = run_study(
        ...     data="digits", methods="label-smoothing", seeds=1, epochs=1, out=tempfile.mkdtemp(), executor=Workers(1)
        ... )
        >>> study
        StudyRecord(digits: plain, label-smoothing; 1 seeds, 2 runs)
    """
    study = _Study(config or StudyConfig(**options), progress)
    study.train(study.tuning_jobs(), executor)
    jobs = study.jobs()
    study.train(list(jobs.values()), executor)
    return study.record(jobs, command)


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What a shard did.

    Args:
        trained: how many runs this shard trained.
        finished: how many of the runs are finished in the folder now, by all shards.
        total: how many runs there are.
        tuning: whether these are the tuning runs.  Then the study's own runs come next: run the shards again.
    """

    trained: int
    finished: int
    total: int
    tuning: bool = False


def run_shard(
    index: int,
    count: int,
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    *,
    executor: Executor | None = None,
    **options: Unpack[StudyOptions],
) -> ShardResult:
    """Train one part of a study: runs i, i + n, i + 2n, ... for shard i of n.

    Shards may run at the same time, on machines that share the study's folder, or whose folders are copied into one
    afterwards.  Finished runs are not repeated.  With ``tune`` the shards run twice: first for the tuning runs, which
    choose the strengths, then for the study's own.  :func:`merge_study` makes the record.

    Args:
        index: of this shard, 1 to count.
        count: of all shards, at least 1.
        config, progress, executor: as in :func:`run_study`; or give the fields of the config as keyword arguments.

    Raises:
        UserError: anything the user can put right, in one sentence.

    Example:
        >>> import tempfile
        >>> options = dict(data="digits", methods="plain", seeds=2, epochs=1, out=tempfile.mkdtemp())
        >>> run_shard(1, 2, **options)
        ShardResult(trained=1, finished=1, total=2, tuning=False)
        >>> run_shard(2, 2, **options)
        ShardResult(trained=1, finished=2, total=2, tuning=False)
        >>> merge_study(**options).runs[0].method
        'plain'
    """
    if not 1 <= index <= count:
        raise UserError(f"There is no shard {index}/{count}; give I/N with I from 1 to N, for example 2/8.")
    study = _Study(config or StudyConfig(**options), progress)
    jobs = study.tuning_jobs()
    tuning = bool(study.missing(jobs))
    if not tuning:
        jobs = list(study.jobs().values())
    trained = study.train(jobs[index - 1 :: count], executor)
    return ShardResult(trained, len(jobs) - len(study.missing(jobs)), len(jobs), tuning)


def merge_study(
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    *,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyRecord:
    """The record of a study that shards have trained, as :func:`run_study` writes it; trains nothing.

    Args:
        config, progress, command: as in :func:`run_study`; or give the fields of the config as keyword arguments.

    Raises:
        UserError: runs are missing, or anything else that the user can put right, in one sentence.
    """
    study = _Study(config or StudyConfig(**options), progress)
    study.require(study.tuning_jobs(), "tuning runs")
    jobs = study.jobs()
    study.require(list(jobs.values()), "runs")
    return study.record(jobs, command)


class _Study:
    """A study prepared: its config, its data, and the folder of its runs."""

    def __init__(self, config: StudyConfig, progress: Progress | None) -> None:
        require("study", "A study")
        self._config = config
        self._progress = progress or Progress()
        self._settled = settle(config, quick=config.quick)
        self._data = load_dataset(
            config.data,
            self._settled["size"] or None,
            columns=config.columns,
            nested=config.nested,
            data_dir=config.data_dir,
            skip_corrupt=config.skip_corrupt,
            progress=self._progress,
        )
        self._progress.data(self._data.remarks)
        limits = QUICK_LIMITS if config.quick else None
        if config.splits > 1 and self._data.validation is not None:
            raise UserError(
                f"splits={config.splits} draws several validation parts, but {self._data.name} has one of its own; "
                "leave --splits out."
            )
        seeds = range(config.split_seed, config.split_seed + config.splits)
        self._splits = {seed: split_dataset(self._data, seed, limits) for seed in seeds}
        self._base = _base_spec(config, self._settled, self._data.fingerprint, limits)
        self._runs = Runs(config.folder / "runs", Task(self._data, self._splits, self._settled["weights"]))
        self._finished: dict[str, FinishedRun] = {}

    def tuning_jobs(self) -> list[Job]:
        """The runs that choose each method's strength, on a seed of their own."""
        return [job for grid in self._grids().values() for job in grid]

    def jobs(self) -> Jobs:
        """Every run by method and seed; the tuning runs are finished."""
        names = self._config.method_names
        strengths = {name: int(np.argmin([self._score(job) for job in grid])) for name, grid in self._grids().items()}
        settings = {name: settings_of(name, strengths.get(name, 1)) for name in names}
        return {
            (name, seed): Job(
                METHODS[name].title,
                dataclasses.replace(
                    self._base,
                    settings=settings[name],
                    seed=seed,
                    split_seed=self._config.split_seed + seed % self._config.splits,
                ),
            )
            for seed in range(self._config.seed_count)
            for name in names
        }

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs whose runs are not finished."""
        unread = [job for job in jobs if job.spec.id not in self._finished]
        self._finished |= self._runs.finished(unread)
        return [job for job in unread if job.spec.id not in self._finished]

    def train(self, jobs: Sequence[Job], executor: Executor | None) -> int:
        """Train what is missing; returns how many runs that were."""
        if not jobs:
            return 0
        missing = self.missing(jobs)
        self._progress.plan(len(jobs), len(jobs) - len(missing))
        with contextlib.closing((executor or Workers()).train(missing, self._runs, self._progress)) as trained:
            for _ in trained:
                self._progress.run_done()
        self._runs.clean(jobs)
        self._finished |= self._runs.finished(missing)
        return len(missing)

    def require(self, jobs: Sequence[Job], what: str) -> None:
        """Raise a UserError that names the missing runs, if there are any."""
        if missing := self.missing(jobs):
            raise UserError(
                f"{len(missing)} of {len(jobs)} {what} are missing in {self._runs.folder}: "
                f"{listed([str(job) for job in missing])}. The same command without --merge trains them."
            )

    def _grids(self) -> dict[str, list[Job]]:
        """The tuning runs of each method that has a strength."""
        if not self._config.tune:
            return {}
        base = dataclasses.replace(self._base, seed=TUNING_SEED)
        return {
            method.name: [Job(f"{method.title} (tuning)", dataclasses.replace(base, settings=s)) for s in method.grid]
            for method in (METHODS[name] for name in self._config.method_names)
            if len(set(method.grid)) > 1
        }

    def _score(self, job: Job) -> float:
        """The NLL of the validation part after a temperature fitted on other rows of it.

        Without one, a method that lowers confidence, as smoothing does, would be chosen at its weakest.
        """
        rows = calibration_rows(self._runs.labels(job.spec.split_seed)["validation"], job.spec.settings)
        logits = self._finished[job.spec.id].logits["validation"][rows]
        labels = self._runs.labels(job.spec.split_seed)["validation"][rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few rows: they are as few for every strength
            return best(logits.astype(np.float64), labels, ("temperature",)).nll["temperature"]

    def record(self, jobs: Jobs, command: str) -> StudyRecord:
        """Measure, compare, judge, and write ``study.json``."""
        config, data, names = self._config, self._data, self._config.method_names
        settings = {name: jobs[name, 0].spec.settings for name in names}
        runs = [(name, seed, self._finished[job.spec.id]) for (name, seed), job in jobs.items()]
        labels = [self._runs.labels(seed) for seed in self._splits]
        calibrators, left_out = usable(CALIBRATORS, labels, settings.values(), len(data.classes))
        settled = {
            **vars(config),
            **self._settled,
            "data": source_name(config.data),
            "methods": list(names),
            "seeds": config.seed_count,
            "margins": dict(config.margins),
            "calibrators": list(calibrators),
        }
        sizes = {part: len(array) for part, array in labels[0].items()}
        design = Design()
        if config.splits > 1:
            same_test = data.test is not None
            ratio = sizes["validation" if same_test else "test"] / sizes["train"]
            design = Design(config.splits, ratio, same_test)
        study = StudyRecord(
            config=StudySettings(**{f.name: _plain(settled[f.name]) for f in dataclasses.fields(StudySettings)}),
            data=DataRecord(
                data.name,
                list(data.classes),
                data.fingerprint,
                list(data.skipped),
                list(data.notes),
                **sizes,
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
            **summarise(runs, labels, calibrators, settings, design, config.margins),
            recommendation=NONE_YET,
            verdict=[],
            details=[],
            versions=versions() | _hardware([run for _, _, run in runs]),
            command=command,
        )
        study = dataclasses.replace(study, recommendation=recommend(study))
        study = dataclasses.replace(study, verdict=verdict(study), details=[*details(study), *left_out])
        save_study(config.folder / "study.json", study)
        return study


def _base_spec(
    config: StudyConfig, settled: dict[str, Any], fingerprint: str, limits: tuple[int, int, int] | None
) -> RunSpec:
    """The baseline's spec, of which every run is a change."""
    fixed = {**settled, "weights": weights_fingerprint(settled["weights"])}
    return RunSpec(fingerprint, config.split_seed, limits, **fixed, settings=Settings(), seed=0)


def _hardware(runs: list[FinishedRun]) -> dict[str, str]:
    """The devices and threads of all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.hardware)
    return {key: ", ".join(sorted({run.hardware[key] for run in runs if key in run.hardware})) for key in keys}


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
