"""The runs of a study: planned for each of its levels, trained where they are missing, and made into records."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from labelsmooth.calibrate import best
from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.data.dataset import ArrayInputs
from labelsmooth.data.problems import listed
from labelsmooth.data.sources import source_name
from labelsmooth.errors import UserError
from labelsmooth.extras import require
from labelsmooth.progress import Progress
from labelsmooth.smoothing import ceiling
from labelsmooth.study.components import Design
from labelsmooth.study.config import StudyConfig
from labelsmooth.study.evaluate import calibration_rows, usable
from labelsmooth.study.executor import Executor, Workers
from labelsmooth.study.methods import CALIBRATORS, find_method
from labelsmooth.study.recommend import NONE_YET, recommend
from labelsmooth.study.records import DataRecord, MethodRecord, StudyRecord, StudySettings
from labelsmooth.study.runs import FinishedRun, Job, Runs, Task
from labelsmooth.study.students import Jobs, compared_students, distillation_record, student_jobs, with_verdict
from labelsmooth.study.summarise import summarise
from labelsmooth.study.sweep import DIMENSIONS, level_title
from labelsmooth.study.verdict import details, verdict
from labelsmooth.training.engine import versions
from labelsmooth.training.network import custom_name, weights_fingerprint
from labelsmooth.training.options import settle
from labelsmooth.training.spec import RunSpec, Settings

QUICK_LIMITS = (6000, 2000, 2000)
TUNING_SEED = 1_000_003  # of no run of the study itself, so that tuning does not favour the seeds that are compared


@dataclass(frozen=True)
class _Level:
    """One study: its config, with every default settled, and what its runs have in common.

    Attributes:
        base: the baseline's spec, of which every run is a change.
        student: the same for the students' network.
        suffix: of the titles of its runs, where there are several levels.
    """

    config: StudyConfig
    settled: dict[str, Any]
    base: RunSpec
    student: RunSpec
    suffix: str


class Trainings:
    """The runs of one study, or of several that differ in a dimension: the data are read once for all.

    Args:
        levels: a config for each study, all with the same data, split and folder.
        progress: its methods are called for each run and epoch.
    """

    def __init__(self, levels: Sequence[StudyConfig], progress: Progress | None) -> None:
        require("study", "A study")
        config = levels[0]
        if config.noise_matrix is not None and not any(level.label_noise for level in levels):
            raise UserError(
                "label_noise=0 leaves no use for the noise matrix; give a share of wrong labels, such as 0.2."
            )
        self._progress = progress or Progress()
        owners = [*levels, *(level.of_student() for level in levels)]  # of networks: the methods', the students'
        settled = [settle(owner, quick=owner.quick) for owner in owners]
        if len(sizes := {options["size"] for options in settled}) > 1:
            raise UserError(
                f"The backbones take images of the sizes {sorted(sizes)} by default; give one --size for all."
            )
        self._data = load_dataset(
            config.data,
            settled[0]["size"] or None,
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
        splits = {seed: split_dataset(self._data, seed, limits) for seed in seeds}
        networks: dict[str, Callable[[int], nn.Module]] = {}
        bases = []
        for owner, options in zip(owners, settled, strict=True):
            self._name_network(owner, options, networks)
            bases.append(_base_spec(owner, options, self._data.fingerprint, limits))
        varied = [name for name in DIMENSIONS if len({getattr(level, name) for level in levels}) > 1]
        suffixes = [f", {level_title(level, varied)}" if varied else "" for level in levels]
        count = len(levels)
        self._levels = [
            _Level(*level)
            for level in zip(levels, settled[:count], bases[:count], bases[count:], suffixes, strict=True)
        ]
        self._runs = Runs(config.folder / "runs", Task(self._data, splits, os.fspath(config.weights), networks))
        self._finished: dict[str, FinishedRun] = {}
        for base in bases:
            for seed in seeds:
                self._runs.task.parts(dataclasses.replace(base, split_seed=seed))  # raises before anything is trained

    def _name_network(
        self, config: StudyConfig, settled: dict[str, Any], networks: dict[str, Callable[[int], nn.Module]]
    ) -> None:
        """Put the name of the user's network into the settings and the networks, and check that the data fit it."""
        data, inputs = self._data, self._data.images[0]
        if config.make_network is None:
            if type(data.images) is ArrayInputs and (inputs.dtype != torch.uint8 or inputs.dim() != 3):
                raise UserError(
                    f"The inputs of {data.name} are {inputs.dtype} of shape {tuple(inputs.shape)}, which no backbone "
                    "takes; give make_network=, a function of the number of classes that returns the network."
                )
            return
        mixed = [name for name in config.method_names if any(s.mixup for s in find_method(name).grid)]
        if mixed and not inputs.is_floating_point() and inputs.dtype != torch.uint8:
            raise UserError(f"{mixed[0]} mixes inputs, but those of {data.name} are {inputs.dtype}; leave it out.")
        name = custom_name(config.make_network, len(data.classes))
        networks[name] = config.make_network
        settled |= {"backbone": name, "weights": "none"}

    def tuning_jobs(self) -> list[Job]:
        """The runs that choose each method's strength, on a seed of their own."""
        return [job for level in self._levels for grid in self._grids(level).values() for job in grid]

    def jobs(self) -> list[Jobs]:
        """Every run by method and seed, for each level; the tuning runs are finished."""
        return [self._jobs_of(level) for level in self._levels]

    def _jobs_of(self, level: _Level) -> Jobs:
        config, grids = level.config, self._grids(level)
        strengths = {name: int(np.argmin([self._score(job) for job in grid])) for name, grid in grids.items()}
        settings = {name: find_method(name).grid[strengths.get(name, 1)] for name in config.method_names}
        jobs = {
            (name, seed): Job(
                find_method(name).title + level.suffix,
                dataclasses.replace(
                    level.base, settings=settings[name], seed=seed, split_seed=config.split_seed + seed % config.splits
                ),
            )
            for seed in range(config.seed_count)
            for name in config.method_names
        }
        return jobs | student_jobs(config, jobs, level.student, level.suffix) if config.distil else jobs

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs whose runs are not finished."""
        unread = [job for job in jobs if job.spec.id not in self._finished]
        self._finished |= self._runs.finished(unread)
        return [job for job in unread if job.spec.id not in self._finished]

    def train(self, jobs: Sequence[Job], executor: Executor | None) -> int:
        """Train what is missing, students after their teachers; returns how many runs that were."""
        if not jobs:
            return 0
        jobs = list({job.spec.id: job for job in jobs}.values())  # two methods may be the same training
        missing = self.missing(jobs)
        self._progress.plan(len(jobs), len(jobs) - len(missing))
        executor = executor or Workers()
        stages = [[job for job in missing if bool(job.spec.distillation) == student] for student in (False, True)]
        for stage in filter(None, stages):
            with contextlib.closing(executor.train(stage, self._runs, self._progress)) as trained:
                for _ in trained:
                    self._progress.run_done()
        self._runs.clean(jobs)
        self._finished |= self._runs.finished(missing)
        return len(missing)

    def require(self, jobs: Sequence[Job], noun: str) -> None:
        """Raise a UserError that names the missing runs, if there are any."""
        if missing := self.missing(jobs):
            raise UserError(
                f"{len(missing)} of {len(jobs)} {noun} are missing in {self._runs.folder}: "
                f"{listed([str(job) for job in missing])}. The same command without --merge trains them."
            )

    def _grids(self, level: _Level) -> dict[str, list[Job]]:
        """The tuning runs of each method that has a strength."""
        if not level.config.tune:
            return {}
        base = dataclasses.replace(level.base, seed=TUNING_SEED)
        return {
            method.name: [
                Job(f"{method.title} (tuning){level.suffix}", dataclasses.replace(base, settings=s))
                for s in method.grid
            ]
            for method in (find_method(name) for name in level.config.method_names)
            if len(set(method.grid)) > 1
        }

    def _score(self, job: Job) -> float:
        """The NLL of the validation part after a temperature fitted on other rows of it.

        Without one, a method that lowers confidence, as smoothing does, would be chosen at its weakest.
        """
        labels = self._runs.labels(job.spec)["validation"]
        rows = calibration_rows(labels, job.spec.settings)
        logits = self._finished[job.spec.id].logits["validation"][rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few rows: they are as few for every strength
            return best(logits.astype(np.float64), labels[rows], ("temperature",)).nll["temperature"]

    def records(self, jobs: Sequence[Jobs], command: str) -> list[StudyRecord]:
        """Measure, compare and judge each level."""
        return [self._record(*level, command) for level in zip(self._levels, jobs, strict=True)]

    def _record(self, level: _Level, jobs: Jobs, command: str) -> StudyRecord:
        config, data, names = level.config, self._data, level.config.method_names
        settings = {name: jobs[name, 0].spec.settings for name, _ in jobs}
        titles = {name: find_method(name).title for name in names}
        runs = [(name, seed, self._finished[job.spec.id]) for (name, seed), job in jobs.items()]
        labels = [self._runs.labels(jobs[names[0], seed].spec) for seed in range(config.splits)]
        calibrators, left_out = usable(CALIBRATORS, labels, settings.values(), len(data.classes))
        settled = {
            **vars(config),
            **level.settled,
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
                    titles[name],
                    settings[name].changes(),
                    _ceiling(settings[name], len(data.classes)),
                )
                for name in names
            ],
            **summarise(runs, labels, calibrators, settings, design, config.margins, compared_students(config, jobs)),
            recommendation=NONE_YET,
            verdict=[],
            details=[],
            distillation=distillation_record(config, jobs, titles),
            versions=versions() | _hardware([run for _, _, run in runs]),
            command=command,
        )
        study = with_verdict(dataclasses.replace(study, recommendation=recommend(study)))
        return dataclasses.replace(study, verdict=verdict(study), details=[*details(study), *left_out])


def _base_spec(
    config: StudyConfig, settled: dict[str, Any], fingerprint: str, limits: tuple[int, int, int] | None
) -> RunSpec:
    """The baseline's spec, of which every run is a change."""
    fixed = {**settled, "weights": weights_fingerprint(settled["weights"])}
    noise_matrix = config.noise_matrix if config.label_noise else None
    fixed |= {"train_size": config.train_size, "label_noise": config.label_noise, "noise_matrix": noise_matrix}
    return RunSpec(fingerprint, config.split_seed, limits, **fixed, settings=Settings(), seed=0)


def _hardware(runs: list[FinishedRun]) -> dict[str, str]:
    """The devices and threads of all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.hardware)
    return {key: ", ".join(sorted({run.hardware[key] for run in runs if key in run.hardware})) for key in keys}


def _plain(value: Any) -> Any:
    """A path as a string, and a tuple as a list, as JSON has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _ceiling(settings: Settings, num_classes: int) -> float | None:
    """The confidence that a perfect fit converges to under uniform smoothing; None where that is 1 or not known."""
    if settings.smoothing not in ("uniform", "others") or not 0 < settings.epsilon <= 1:
        return None
    return ceiling(settings.epsilon, num_classes, "others" if settings.smoothing == "others" else "all").confidence
