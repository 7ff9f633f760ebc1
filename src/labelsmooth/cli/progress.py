"""Progress on standard error."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from labelsmooth.study import Progress as StudyProgress
from labelsmooth.training.engine import is_main_process

from .app import errors

__all__ = ["Bars"]


class Bars(StudyProgress):
    """Two bars on standard error: the runs of the study, and the epochs of the run."""

    def __init__(self) -> None:
        self.total = self.finished = 0
        self._bars = Progress(
            TextColumn("{task.description:32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=errors,
            disable=not is_main_process(),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._bars.stop()

    def _set(self, name: str, description: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(description)
        self._bars.update(self._tasks[name], description=description, completed=done, total=total)

    def photos(self, done: int, total: int) -> None:
        self._set("photos", "Reading images", done, total)

    def data(self, remarks: Sequence[str]) -> None:
        for remark in remarks:
            errors.print(f"Note: {remark}", markup=False, highlight=False, soft_wrap=True)

    def plan(self, total: int, finished: int) -> None:
        self.total, self.finished = total, finished
        self._set("runs", "Study", finished, total)

    def run(self, title: str, seed: int) -> None:
        if "run" in self._tasks:
            self._bars.reset(self._tasks["run"])
        self._set("run", f"{title}, seed {seed}", 0, 1)

    def epoch(self, done: int, total: int) -> None:
        self._bars.update(self._tasks["run"], completed=done, total=total)

    def run_done(self) -> None:
        self.finished += 1
        if "runs" in self._tasks:
            self._set("runs", "Study", self.finished, self.total)

    def waiting(self, runs: int) -> None:
        self._set("run", f"Waiting for {runs} run{'s' * (runs != 1)} elsewhere", 0, None)
