"""The command ``labelsmooth``: options in, reports out; what a command does can be called from Python too (Typer)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from labelsmooth.predictions import PredictionError
from labelsmooth.study import Progress as StudyProgress
from labelsmooth.study import StudyConfig, StudyError, run_study
from labelsmooth.study.methods import DEFAULT_METHODS, METHODS

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Label smoothing and probability calibration: measure what helps on your own data.",
)
errors = Console(stderr=True)


@app.callback()
def labelsmooth() -> None:
    """Label smoothing and probability calibration: measure what helps on your own data."""


@app.command()
def doctor() -> None:
    """Print versions, device, threads, the kernel that would run, and how to install what is missing."""
    from labelsmooth.doctor import report

    print(report())


@app.command()
def study(
    data: Annotated[
        str, typer.Argument(help="digits, fashion-mnist, cifar10, pets, a folder of class folders, or an .npz file.")
    ] = "digits",
    methods: Annotated[
        str, typer.Option(help="Names separated by commas, or 'list' to see them. plain is always among them.")
    ] = ",".join(DEFAULT_METHODS),
    seeds: Annotated[int | None, typer.Option(help="Trainings of each method. [default: 5; 3 with --quick]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part. [default: by data]")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="small-cnn or a timm model. [default: small-cnn; resnet34 for photos]")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Of timm models: hub (pretrained), none, or a safetensors file.")
    ] = "hub",
    size: Annotated[
        int | None, typer.Option(help="Side of the square input, pixels. [default: 224 for photos]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in a batch. [default: 64; 32 for photos]")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Highest learning rate. [default: 0.003; 0.01 for photos' head]")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where torchvision's data sets lie or go. [default: $LABELSMOOTH_DATA]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study. [default: studies/DATA]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer examples, half the epochs, 3 seeds.")] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose each method's strength from its grid by validation NLL.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print study.json instead of the tables.")] = False,
) -> None:
    """Train with and without label smoothing and its rivals, and say what helped, by how much, and how sure that is.

    Runs that the folder holds already are not repeated: start the same command again to go on after a stop.
    """
    if methods == "list":
        for method in METHODS.values():
            default = ", ".join(f"{key} {value}" for key, value in method.grid[1].changes().items())
            paper = f" ({method.paper})" if method.paper else ""
            print(f"{method.name:20} {method.line}{paper}{f' [{default}]' if default else ''}")
        return
    command = shlex.join(["labelsmooth", *sys.argv[1:]])
    with _sentences():
        config = StudyConfig(
            data=data,
            methods=tuple(name.strip() for name in methods.split(",") if name.strip()),
            seeds=seeds,
            epochs=epochs,
            backbone=backbone,
            weights=weights,
            size=size,
            batch_size=batch_size,
            learning_rate=lr,
            tune=tune,
            quick=quick,
            data_dir=data_dir,
            out=out,
        )
        with _Bars() as bars:
            try:
                record = run_study(config, bars, command=command)
            except KeyboardInterrupt:
                bars.stop()
                errors.print(
                    f"Stopped. {bars.finished} of {bars.total} runs are finished and kept in {config.folder}; "
                    "run the same command again to go on.",
                    highlight=False,
                )
                raise typer.Exit(130) from None
        from labelsmooth.report import write_report
        from labelsmooth.report.terminal import print_study

        report = config.folder / "report.html"
        write_report(record, report)
    if as_json:
        print(json.dumps(dataclasses.asdict(record), indent=1))
    else:
        print_study(record, Console())
        print(f"\nReport: {report.resolve()}")


_PROBABILITIES = Annotated[bool, typer.Option("--probabilities", help="The scores are probabilities.")]
_LOGITS = Annotated[bool, typer.Option("--logits", help="The scores are logits.")]
_LABELS = Annotated[Path | None, typer.Option("--labels", help="Labels of an .npy of scores: an .npy of integers.")]
_OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


@app.command()
def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            help=".npz with labels and probabilities or logits; .npy of scores, with --labels; or .csv / .parquet with "
            "the columns label and p0, p1, ... (probabilities) or z0, z1, ... (logits)."
        ),
    ],
    logits: _LOGITS = False,
    probabilities: _PROBABILITIES = False,
    labels: _LABELS = None,
    by: Annotated[str | None, typer.Option(help="Also evaluate each value of this column (or .npz array).")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Predictions of another model for the same rows: paired differences.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with pictures.")] = None,
    overwrite: _OVERWRITE = False,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Bootstrap draws, at least 100.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Is a model calibrated? Every metric of a file of predictions, with its interval, and the answer in a sentence."""
    from labelsmooth.predictions import evaluate, pictures, show

    with _sentences():
        kind, how = _kind(logits, probabilities), show.interval(level, resamples)
        if report is not None:
            show.refuse(report, overwrite)
        found = evaluate(predictions, kind, labels_path=labels, by=by, compare=compare, interval=how)
        if report is not None:
            show.write_html(found, *pictures(predictions, kind, labels_path=labels), report, overwrite)
        print(show.as_json(found) if as_json else show.as_text(found))
        if report is not None and not as_json:
            print(f"\nReport: {report.resolve()}")


calibrate = typer.Typer(no_args_is_help=True, help="Fit a calibrator on validation predictions; apply it to others.")
app.add_typer(calibrate, name="calibrate")


@calibrate.command()
def fit(
    predictions: Annotated[Path, typer.Argument(help="Validation predictions, in the forms of 'evaluate'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibrator's JSON file.")],
    method: Annotated[
        str,
        typer.Option(
            help="temperature, ensemble, platt, beta, vector, histogram, isotonic, dirichlet, matrix, or best: by "
            "cross-validated NLL, none at all where none helps."
        ),
    ] = "temperature",
    logits: _LOGITS = False,
    probabilities: _PROBABILITIES = False,
    labels: _LABELS = None,
    overwrite: _OVERWRITE = False,
) -> None:
    """Fit a calibrator on predictions that the model was not trained on."""
    from labelsmooth.predictions import fit_file

    with _sentences():
        kind = _kind(logits, probabilities)
        print(fit_file(predictions, out, method, kind, labels_path=labels, overwrite=overwrite))


@calibrate.command()
def apply(
    calibrator: Annotated[Path, typer.Argument(help="What 'calibrate fit' wrote.")],
    predictions: Annotated[
        Path, typer.Argument(help="Predictions, in the forms of 'evaluate'; labels may be missing.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="An .npz for the calibrated probabilities.")],
    logits: _LOGITS = False,
    probabilities: _PROBABILITIES = False,
    labels: _LABELS = None,
    overwrite: _OVERWRITE = False,
) -> None:
    """Calibrate predictions: probabilities, and the labels where there were any, in an .npz."""
    from labelsmooth.predictions import apply_file

    with _sentences():
        kind = _kind(logits, probabilities)
        print(apply_file(calibrator, predictions, out, kind, labels_path=labels, overwrite=overwrite))


def _kind(logits: bool, probabilities: bool) -> Literal["logits", "probabilities"] | None:
    if logits and probabilities:
        raise PredictionError("Say --logits or --probabilities, not both.")
    return "logits" if logits else "probabilities" if probabilities else None


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """A StudyError or PredictionError becomes one line on standard error and exit code 2."""
    try:
        yield
    except (StudyError, PredictionError) as error:
        errors.print(f"[bold red]Error:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


class _Bars(StudyProgress):
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
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._bars.stop()

    def _set(self, name: str, description: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(description)
        self._bars.update(self._tasks[name], description=description, completed=done, total=total)

    def photos(self, done: int, total: int) -> None:
        self._set("photos", "Reading images", done, total)

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
