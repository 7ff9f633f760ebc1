"""``labelsmooth evaluate`` and ``labelsmooth calibrate``: anyone's predictions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from rich.console import Console

from labelsmooth.calibrate import CATALOGUE, Name
from labelsmooth.errors import UserError
from labelsmooth.files import check_output
from labelsmooth.predictions import ColumnOptions, SetOptions

from .app import app, command, is_given, refuse_unused
from .models import CalibrateGroup, calibrate_model, evaluate_model
from .options import DataDir, DataPart, Json, Overwrite, SkipCorrupt, check_data_options, check_report

_PROBABILITIES = Annotated[bool, typer.Option("--probabilities", help="The scores are probabilities.")]
_LOGITS = Annotated[bool, typer.Option("--logits", help="The scores are logits.")]
_LABELS = Annotated[Path | None, typer.Option("--labels", help="Labels of an .npy of scores: an .npy of integers.")]
_LABEL_COLUMN = Annotated[str | None, typer.Option("--label-column", help="Column of the true labels.")]
_PROBABILITY_COLUMNS = Annotated[
    str | None,
    typer.Option("--probability-columns", help="Columns of probabilities, one for each class, separated by commas."),
]
_LOGIT_COLUMNS = Annotated[
    str | None, typer.Option("--logit-columns", help="Columns of logits, one for each class, separated by commas.")
]
_PREDICTION_COLUMN = Annotated[
    str | None, typer.Option("--prediction-column", help="Column of the predicted class, beside --confidence-column.")
]
_CONFIDENCE_COLUMN = Annotated[
    str | None, typer.Option("--confidence-column", help="Column of the probability of the predicted class.")
]
_POSITIVE_CLASS = Annotated[
    str | None, typer.Option("--positive-class", help="The class that a single column of scores is of.")
]
_PERCENT = Annotated[bool, typer.Option("--percent", help="The probabilities are percentages, 0 to 100.")]


FOR_MODELS = ("part", "data_dir", "skip_corrupt")
FOR_FILES = (
    *("logits", "probabilities", "labels", "label_column", "probability_columns", "logit_columns"),
    *("prediction_column", "confidence_column", "positive_class", "percent"),
)


@command("labelsmooth evaluate predictions.csv --report page.html")
def evaluate(
    ctx: typer.Context,
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A table (.csv, .tsv, .parquet, .jsonl; .gz too) whose columns are found by name or given; .npz with "
            "labels and probabilities or logits; .npy of scores, with --labels. Or a model's folder, with DATA."
        ),
    ],
    data: Annotated[
        str | None, typer.Argument(help="For a model's folder: labelled images, in the forms of 'labelsmooth train'.")
    ] = None,
    logits: _LOGITS = False,
    probabilities: _PROBABILITIES = False,
    labels: _LABELS = None,
    label_column: _LABEL_COLUMN = None,
    probability_columns: _PROBABILITY_COLUMNS = None,
    logit_columns: _LOGIT_COLUMNS = None,
    prediction_column: _PREDICTION_COLUMN = None,
    confidence_column: _CONFIDENCE_COLUMN = None,
    positive_class: _POSITIVE_CLASS = None,
    percent: _PERCENT = False,
    by: Annotated[str | None, typer.Option(help="Also evaluate each value of this column (or .npz array).")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Predictions of another model for the same rows: paired differences.")
    ] = None,
    of_class: Annotated[
        str | None,
        typer.Option("--class", help="One class, by name or index: its probability against its share of the labels."),
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(help="Also evaluate prediction sets that hold the label with this probability, such as 0.9."),
    ] = None,
    sets_method: Annotated[
        Literal["lac", "aps", "raps"], typer.Option(help="Their score: lac is the smallest, aps and raps adapt.")
    ] = "lac",
    sets_from: Annotated[
        Path | None, typer.Option(help="Predictions that give their threshold. (default: cross-validation)")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with pictures.")] = None,
    overwrite: Overwrite = False,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Bootstrap draws, at least 100.")] = 1000,
    json: Json = False,
    part: DataPart = "auto",
    data_dir: DataDir = None,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """Is a model calibrated? Every metric with its interval, for a file of predictions or a model's folder on DATA."""
    from labelsmooth.metrics import Interval
    from labelsmooth.predictions import evaluate
    from labelsmooth.report import write_evaluation
    from labelsmooth.report.evaluation import as_json
    from labelsmooth.report.terminal import print_evaluation

    kind = _kind(logits, probabilities)
    try:
        resampling = Interval(level=level, resamples=resamples)
    except ValueError as problem:
        raise UserError(str(problem)) from problem
    columns = _columns(
        label_column,
        probability_columns,
        logit_columns,
        positive_class,
        percent,
        prediction=prediction_column,
        confidence=confidence_column,
        by=by,
    )
    check_report(ctx, report, overwrite)
    if sets is None:
        refuse_unused(ctx, ["sets_method", "sets_from"], "is for --sets.")
    chosen = None if sets is None else SetOptions(sets, sets_method, sets_from)
    if predictions.is_dir():
        refuse_unused(ctx, [*FOR_FILES, "sets_from"], f"is for a file of predictions, and {predictions} is a folder.")
        check_data_options(ctx, str(data))
        evaluation = evaluate_model(
            predictions,
            data,
            part=part,
            data_dir=data_dir,
            by=by,
            compare=compare,
            interval=resampling,
            curves=report is not None,
            of_class=of_class,
            sets=chosen,
            skip_corrupt=skip_corrupt,
        )
    elif data is not None:
        raise UserError(f"{predictions} is not a model's folder; DATA {data!r} is for one.")
    else:
        refuse_unused(ctx, FOR_MODELS, f"is for a model's folder, and {predictions} is not one.")
        evaluation = evaluate(
            predictions,
            kind,
            labels_path=labels,
            columns=columns,
            compare=compare,
            interval=resampling,
            curves=report is not None,
            of_class=of_class,
            sets=chosen,
        )
    if report is not None:
        write_evaluation(evaluation, report, overwrite)
    if json:
        print(as_json(evaluation))
        return
    print_evaluation(evaluation, Console())
    confidences_only = not predictions.is_dir() and of_class is None and "nll" not in evaluation.metrics
    if evaluation.status not in ("calibrated", "too few rows") and not confidences_only:
        place = shlex.quote(str(predictions))
        fit = (
            f"calibrate {place} DATA"
            if predictions.is_dir()
            else f"calibrate fit {place}{_given(ctx, FOR_FILES)} --method best -o calibrator.json"
        )
        print(f"\nNext, on predictions or data of a validation part: labelsmooth {fit}")
    if report is not None:
        print(f"\nReport: {report.resolve()}")


calibrate = typer.Typer(
    cls=CalibrateGroup,
    no_args_is_help=True,
    help="Fit a calibrator on validation predictions and apply it to others; or 'labelsmooth calibrate MODEL DATA'.",
)
app.add_typer(calibrate, name="calibrate")
command("labelsmooth calibrate model/ photos/", calibrate, "MODEL")(calibrate_model)


@command("labelsmooth calibrate fit validation.npz -o temperature.json", calibrate)
def fit(
    predictions: Annotated[Path, typer.Argument(help="Validation predictions, in the forms of 'evaluate'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibrator's JSON file.")],
    method: Annotated[
        str,
        typer.Option(help=f"{', '.join(CATALOGUE)}, or best: by cross-validated NLL, none at all where none helps."),
    ] = "temperature",
    logits: _LOGITS = False,
    probabilities: _PROBABILITIES = False,
    labels: _LABELS = None,
    label_column: _LABEL_COLUMN = None,
    probability_columns: _PROBABILITY_COLUMNS = None,
    logit_columns: _LOGIT_COLUMNS = None,
    positive_class: _POSITIVE_CLASS = None,
    percent: _PERCENT = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a page: before and after, on rows that a fit has not seen.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit a calibrator on predictions that the model was not trained on."""
    from labelsmooth.calibrate import load
    from labelsmooth.predictions import evaluate_held_out, fit_file
    from labelsmooth.report import write_evaluation

    kind = _kind(logits, probabilities)
    columns = _columns(label_column, probability_columns, logit_columns, positive_class, percent)
    name = cast(Name, method)
    if report is not None:
        check_output(report, overwrite)
    print(fit_file(predictions, out, name, kind, labels_path=labels, columns=columns, overwrite=overwrite))
    if report is not None:
        result = evaluate_held_out(load(out), predictions, kind, labels_path=labels, columns=columns)
        write_evaluation(result, report, overwrite)
        print(f"\n{result.sentence}\n\nReport: {report.resolve()}")


@command("labelsmooth calibrate apply temperature.json test.npz -o calibrated.npz", calibrate)
def apply(
    calibrator: Annotated[Path, typer.Argument(help="What 'calibrate fit' wrote.")],
    predictions: Annotated[
        Path, typer.Argument(help="Predictions, in the forms of 'evaluate'; labels may be missing.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help=".npz; for a table also .csv, .tsv or .parquet, with its other columns.")
    ],
    logits: _LOGITS = False,
    probabilities: _PROBABILITIES = False,
    labels: _LABELS = None,
    label_column: _LABEL_COLUMN = None,
    probability_columns: _PROBABILITY_COLUMNS = None,
    logit_columns: _LOGIT_COLUMNS = None,
    positive_class: _POSITIVE_CLASS = None,
    percent: _PERCENT = False,
    overwrite: Overwrite = False,
) -> None:
    """Calibrate predictions: a table keeps its other columns; arrays become an .npz."""
    from labelsmooth.predictions import apply_file

    kind = _kind(logits, probabilities)
    columns = _columns(label_column, probability_columns, logit_columns, positive_class, percent)
    print(apply_file(calibrator, predictions, out, kind, labels_path=labels, columns=columns, overwrite=overwrite))


def _given(ctx: typer.Context, names: Sequence[str]) -> str:
    """Those of the options that were given, as they follow a command's arguments."""
    words: list[str] = []
    for parameter in ctx.command.params:
        if parameter.name in names and is_given(ctx, parameter):
            value = ctx.params[parameter.name]
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return "".join(f" {shlex.quote(word)}" for word in words)


def _columns(
    label: str | None,
    probabilities: str | None,
    logits: str | None,
    positive: str | None,
    percent: bool,
    prediction: str | None = None,
    confidence: str | None = None,
    by: str | None = None,
) -> ColumnOptions:
    """The columns that the options name."""
    return ColumnOptions(label, _names(probabilities), _names(logits), prediction, confidence, positive, by, percent)


def _names(columns: str | None) -> tuple[str, ...]:
    """The names of an option, separated by commas."""
    return () if columns is None else tuple(name.strip() for name in columns.split(",") if name.strip())


def _kind(logits: bool, probabilities: bool) -> Literal["logits", "probabilities"] | None:
    if logits and probabilities:
        raise UserError("Give --logits or --probabilities, not both.")
    return "logits" if logits else "probabilities" if probabilities else None
