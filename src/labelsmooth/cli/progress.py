"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import progress as bars

from labelsmooth.errors import shown
from labelsmooth.progress import Progress
from labelsmooth.training.engine import is_main_process

from .app import errors


class Bars(Progress):
    """Bars on standard error: images read, runs of a study, epochs of each run that is being trained, predictions.

    Args:
        transient: remove the bars at the end.
        quiet: show no bars.
        scores: print a line of losses and errors after each epoch.
    """

    def __init__(self, *, transient: bool = False, quiet: bool = False, scores: bool = False) -> None:
        self.total = self.finished = 0
        self._scores = scores
        self._epochs: dict[int, int] = {}  # done in each worker's current run
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:32}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            console=errors,
            transient=transient,
            disable=quiet or not is_main_process() or (transient and not errors.is_terminal),
        )
        self._tasks: dict[str, bars.TaskID] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._bars.stop()

    def _set(self, name: str, description: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(description, total=total)
        self._bars.update(self._tasks[name], description=description, completed=done, total=total)

    def photos(self, done: int, total: int) -> None:
        self._set("photos", "Reading images", done, total)

    def predictions(self, done: int, total: int | None) -> None:
        self._set("predictions", "Predicting", done, total)

    def data(self, remarks: Sequence[str]) -> None:
        for remark in remarks:
            errors.print(f"Note: {shown(remark)}", markup=False, highlight=False, soft_wrap=True)

    def plan(self, total: int, finished: int) -> None:
        self.total, self.finished = total, finished
        self._set("runs", "Study", finished, total)

    def run(self, title: str, seed: int, worker: int = 0, epochs: int = 1) -> None:
        name = f"worker {worker}"
        if name in self._tasks:
            self._bars.reset(self._tasks[name])
        self._set(name, f"{title}, seed {seed}", 0, epochs)
        self._epochs[worker] = 0

    def epoch(self, done: int, total: int, worker: int = 0) -> None:
        self._epochs[worker] = done
        self._bars.update(self._tasks[f"worker {worker}"], completed=done, total=total)

    def batch(self, done: int, total: int, worker: int = 0) -> None:
        self._bars.update(self._tasks[f"worker {worker}"], completed=self._epochs[worker] + done / total)

    def scores(self, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        if self._scores and is_main_process():
            from labelsmooth.report.terminal import epoch_line

            errors.print(epoch_line(epoch, epochs, values), markup=False, highlight=False, soft_wrap=True)

    def run_done(self) -> None:
        self.finished += 1
        self._set("runs", "Study", self.finished, self.total)
