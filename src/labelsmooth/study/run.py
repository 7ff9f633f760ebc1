"""A study, or a sweep of studies: all of it, one part of it (a shard), or the record of parts that are done."""

from __future__ import annotations

import dataclasses

from typing_extensions import Unpack

from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.study.config import StudyConfig, StudyOptions
from labelsmooth.study.executor import Executor
from labelsmooth.study.records import StudyRecord, save_study
from labelsmooth.study.runs import Job
from labelsmooth.study.students import Jobs
from labelsmooth.study.sweep import Over, SweepRecord, findings, levels_of, save_sweep
from labelsmooth.study.trainings import Trainings


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
        >>> from labelsmooth.study import Workers
        >>> study = run_study(
        ...     data="digits", methods="label-smoothing", seeds=1, epochs=1, out=tempfile.mkdtemp(), executor=Workers(1)
        ... )
        >>> study
        StudyRecord(digits: plain, label-smoothing; 1 seeds, 2 runs)
    """
    config = config or StudyConfig(**options)
    trainings = Trainings([config], progress)
    return _study(config, trainings.records(_trained(trainings, executor), command))


def run_sweep(
    over: Over,
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    *,
    executor: Executor | None = None,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> SweepRecord:
    """The same study at each of several levels, such as shares of wrong labels.

    The record is also written to ``sweep.json`` in the study's folder.  The runs of all levels lie in one folder, and
    those that it holds already are not repeated.

    Args:
        over: the values of each dimension, "label_noise", "train_size", "epochs" or "backbone"; of several dimensions
            every combination is a level.
        config, progress, executor, command: as in :func:`run_study`; or give the fields of the config as keyword
            arguments.

    Raises:
        UserError: anything the user can put right, in one sentence.

    Example:
        >>> import tempfile
        >>> from labelsmooth.study import Workers
        >>> options = dict(data="digits", methods="label-smoothing", seeds=1, epochs=1, out=tempfile.mkdtemp())
        >>> sweep = run_sweep({"label_noise": [0, 0.4]}, executor=Workers(1), **options)
        >>> sweep
        SweepRecord(digits: 2 levels of label_noise)
        >>> [sweep.label(level) for level in sweep.levels]
        ['label noise 0%', 'label noise 40%']
    """
    config = config or StudyConfig(**options)
    trainings = Trainings(levels_of(config, over), progress)
    return _sweep(config, over, trainings.records(_trained(trainings, executor), command), command)


def _trained(trainings: Trainings, executor: Executor | None) -> list[Jobs]:
    """The runs of all levels, each of them finished."""
    trainings.train(trainings.tuning_jobs(), executor)
    jobs = trainings.jobs()
    trainings.train(_flat(jobs), executor)
    return jobs


def _flat(levels: list[Jobs]) -> list[Job]:
    return [job for jobs in levels for job in jobs.values()]


def _study(config: StudyConfig, records: list[StudyRecord]) -> StudyRecord:
    (study,) = records
    save_study(config.folder / "study.json", study)
    return study


def _sweep(config: StudyConfig, over: Over, records: list[StudyRecord], command: str) -> SweepRecord:
    sweep = SweepRecord(list(over), records, findings(records, list(over)), command)
    save_sweep(config.folder / "sweep.json", sweep)
    return sweep


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
    over: Over | None = None,
    **options: Unpack[StudyOptions],
) -> ShardResult:
    """Train one part of a study: runs i, i + n, i + 2n, ... for shard i of n, and the students of their teachers.

    Shards may run at the same time, on machines that share the study's folder, or whose folders are copied into one
    afterwards.  Finished runs are not repeated.  With ``tune`` the shards run twice: first for the tuning runs, which
    choose the strengths, then for the study's own.  :func:`merge_study` makes the record.

    Args:
        index: of this shard, 1 to count.
        count: of all shards, at least 1.
        config, progress, executor: as in :func:`run_study`; or give the fields of the config as keyword arguments.
        over: the dimensions of a sweep, as in :func:`run_sweep`.

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
    trainings = Trainings(levels_of(config or StudyConfig(**options), over or {}), progress)
    jobs = trainings.tuning_jobs()
    tuning = bool(trainings.missing(jobs))
    if not tuning:
        jobs = _flat(trainings.jobs())
    trained = trainings.train(_slice(jobs, index, count), executor)
    return ShardResult(trained, len(jobs) - len(trainings.missing(jobs)), len(jobs), tuning)


def _slice(jobs: list[Job], index: int, count: int) -> list[Job]:
    """The runs of a shard; a student is in the shard of its teacher, so that no shard waits for another."""
    own = [job for job in jobs if job.spec.distillation is None][index - 1 :: count]
    teachers = {job.spec for job in own}
    return own + [job for job in jobs if job.spec.distillation and job.spec.distillation.teacher in teachers]


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
    config = config or StudyConfig(**options)
    return _study(config, _merged(Trainings([config], progress), command))


def merge_sweep(
    over: Over,
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    *,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> SweepRecord:
    """The record of a sweep that shards have trained, as :func:`run_sweep` writes it; trains nothing.

    Args:
        over, config, progress, command: as in :func:`run_sweep`; or give the fields of the config as keyword arguments.

    Raises:
        UserError: runs are missing, or anything else that the user can put right, in one sentence.
    """
    config = config or StudyConfig(**options)
    return _sweep(config, over, _merged(Trainings(levels_of(config, over), progress), command), command)


def _merged(trainings: Trainings, command: str) -> list[StudyRecord]:
    trainings.require(trainings.tuning_jobs(), "tuning runs")
    jobs = trainings.jobs()
    trainings.require(_flat(jobs), "runs")
    return trainings.records(jobs, command)
