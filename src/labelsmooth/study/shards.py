"""A study spread over processes or machines that share its folder: the parts, and the whole from them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from typing_extensions import Unpack

from labelsmooth.errors import UserError
from labelsmooth.study.config import StudyConfig, StudyOptions
from labelsmooth.study.records import StudyRecord
from labelsmooth.study.run import Study
from labelsmooth.study.runs import Job
from labelsmooth.training.progress import Progress

__all__ = ["ShardResult", "merge_study", "run_shard"]


@dataclass(frozen=True)
class ShardResult:
    """What a shard leaves: how many runs it trained, tuning included, and how many of the study's are finished.

    The others are being trained by other processes.
    """

    trained: int
    finished: int
    total: int


def run_shard(
    index: int,
    count: int,
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    **options: Unpack[StudyOptions],
) -> ShardResult:
    """Train one part of a study whose folder several processes or machines share; :func:`merge_study` does the rest.

    Shard i of n trains runs i, i + n, i + 2n, ... and then whatever the other shards have not begun or have left off,
    dead ones included.  It ends when each run is finished, or being trained by a process that lives.  No run is trained
    by two at once.  Any number of shards may run at once, also two of the same number.

    Args:
        index: of this shard, 1 to count.
        count: of all shards, at least 1.
        config: as in :func:`run_study`, the same for all shards; or give its fields as keyword arguments.
        progress: told about each run and epoch.

    Raises:
        UserError: anything the user can put right, in one sentence.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> options = dict(data="digits", methods=("plain",), seeds=2, epochs=1, out=Path(tempfile.mkdtemp()))
        >>> run_shard(1, 2, **options)
        ShardResult(trained=2, finished=2, total=2)
        >>> merge_study(**options).methods[0]["name"]
        'plain'
    """
    if not 1 <= index <= count:
        raise UserError(f"There is no shard {index}/{count}; give I/N with I from 1 to N, for example 2/8.")
    study = Study(config or StudyConfig(**options), progress or Progress())

    def ordered(jobs: list[Job]) -> list[Job]:
        # The others begin with their first: to help them from their last keeps out of their way.
        others = [job for number, job in enumerate(jobs) if number % count != index - 1]
        return jobs[index - 1 :: count] + others[::-1]

    jobs = list(study.jobs(lambda tuning: study.runs.complete(ordered(tuning))).values())
    finished = study.runs.complete(ordered(jobs), wait=False)
    return ShardResult(study.runs.trained, sum(job.spec.id in finished for job in jobs), len(jobs))


def merge_study(
    config: StudyConfig | None = None,
    progress: Progress | None = None,
    *,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyRecord:
    """The record of a study that shards have trained, as :func:`run_study` writes it; trains nothing.

    Args:
        config, progress, command, options: as in :func:`run_study`.

    Raises:
        UserError: runs are missing, or anything else that the user can put right, in one sentence.
    """
    study = Study(config or StudyConfig(**options), progress or Progress())
    jobs = study.jobs(functools.partial(study.runs.collect, what="tuning runs"))
    return study.record(jobs, study.runs.collect(list(jobs.values())), command)
