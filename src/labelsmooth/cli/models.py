"""``labelsmooth predict`` and ``export``, and a model's folder under ``evaluate`` and ``calibrate``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from labelsmooth import models
from labelsmooth.calibrate import CATALOGUE, Name
from labelsmooth.errors import UserError
from labelsmooth.models.export import SUFFIXES, Format
from labelsmooth.models.paths import find_images, read_list
from labelsmooth.predictions import Evaluation

from .app import Group, command, command_line, errors, refuse_unused
from .options import DataDir, DataPart, ModelFolder, Overwrite, SkipCorrupt, check_data_options, check_report
from .progress import Bars
from .rows import Tally, print_csv, print_json, print_table


@command("labelsmooth predict model holiday/ --csv")
def predict(
    ctx: typer.Context,
    model: ModelFolder,
    paths: Annotated[
        list[str], typer.Argument(help="Images, folders of images, or - for a list on standard input, one a line.")
    ],
    null: Annotated[bool, typer.Option("-0", "--null", help="The list is separated by NUL: find -print0.")] = False,
    top: Annotated[int, typer.Option(help="Classes of each image, the most probable first.")] = 1,
    abstain_below: Annotated[
        float | None, typer.Option(help="Give no label where the confidence is below this, in [0, 1].")
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(help="Give labels to this share of the images, the most confident, in (0, 1].")
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(help="Also a set of classes for each image that holds its label with this probability, like 0.9."),
    ] = None,
    unlike: Annotated[
        float, typer.Option(help="Mark images unlike the training images; this share of usual ones is marked. 0: none.")
    ] = 0.01,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output, in constant memory.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on standard output, in constant memory.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a page with the images, their labels, sets and marks; the first 500.")
    ] = None,
    overwrite: Overwrite = False,
    batch_size: Annotated[int, typer.Option(help="Images at once; 1 answers each line of a list as it comes.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Faster where the processor has it; 3 digits.")] = False,
) -> None:
    """Calibrated predictions of images.

    A file that cannot be read gives a row with the error. Exit code 0: every image was read; 1: some were not; 2:
    nothing was predicted.
    """
    from labelsmooth.data.photos import pillow_quiet
    from labelsmooth.report import write_predictions

    check_report(ctx, report, overwrite)
    if null and "-" not in paths:
        raise UserError("-0 is for a list on standard input; give - as the path.")
    tally = Tally()
    if as_csv and as_json:
        raise UserError("Give --csv or --json, not both.")
    if abstain_below is not None and coverage is not None:
        raise UserError("Give --abstain-below or --coverage, not both.")
    loaded = models.load(model, device, bfloat16=bfloat16)
    top = min(top, len(loaded.classes))
    quiet = (as_csv or as_json) and sys.stdout.isatty()  # the rows themselves are the progress
    with pillow_quiet(), Bars(transient=True, quiet=quiet) as progress:
        predictions = models.predict(loaded, _listed(paths, null), top, batch_size, sets=sets, unlike=unlike)
        predictions = _counted(predictions, progress, _count(paths))
        if abstain_below is not None:
            predictions = models.abstain_below(predictions, abstain_below)
        if coverage is not None:
            predictions = models.keep_most_confident(predictions, coverage)
        kept: list[models.Prediction] = []
        rows = tally.count(predictions if report is None else _kept(predictions, kept))
        if as_json:
            print_json(rows)
        elif as_csv:
            print_csv(rows, top, sets is not None)
        else:
            print_table(list(rows), Console(), sets)
        if report is not None:
            write_predictions(loaded, kept, report, sets=sets, command=command_line())
    if not tally.total:
        raise UserError(f"There is no image in {' '.join(paths)}.")
    errors.print(str(tally), highlight=False)
    if report is not None:
        errors.print(f"Report: {report.resolve()}", highlight=False, soft_wrap=True, markup=False)
    if tally.failed:
        raise typer.Exit(1)


@command("labelsmooth export model -o model.onnx")
def export(
    model: ModelFolder,
    format: Annotated[Format | None, typer.Option(help="(default: by the suffix of --out, else onnx)")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file. (default: model.onnx, .pt or .pt2 in MODEL)")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the model as one file that runs without labelsmooth, normalisation and calibrator included."""
    chosen = format or ("onnx" if out is None else None)
    path = out or model / f"model{SUFFIXES[chosen or 'onnx']}"
    loaded = models.load(model, "cpu")
    worst = models.export(loaded, path, chosen, overwrite=overwrite)
    channels, height, width = loaded.input.shape
    print(
        f"{path}: images (uint8, N x {channels} x {height} x {width}) to probabilities and logits "
        f"(float32, N x {len(loaded.classes)}). Checked: no probability differs by more than {max(worst, 1e-9):.0e}."
    )


class CalibrateGroup(Group):
    """``calibrate MODEL DATA``: a first word that is not a subcommand is a model's folder."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["MODEL", *args]  # in capitals: a folder may well be called model
        return super().resolve_command(ctx, args)


def calibrate_model(
    ctx: typer.Context,
    model: ModelFolder,
    data: Annotated[
        str | None, typer.Argument(help="Labelled images, in the forms of 'labelsmooth train'; not with --undo.")
    ] = None,
    method: Annotated[
        str, typer.Option(help=f"best, by cross-validated NLL, or one of {', '.join(CATALOGUE)}.")
    ] = "best",
    part: DataPart = "auto",
    data_dir: DataDir = None,
    skip_corrupt: SkipCorrupt = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Restore the calibrator that the last calibration replaced.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a page: before and after, on images that a fit has not seen.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit a model's calibrator on labelled images and apply it from now on: 'labelsmooth calibrate MODEL DATA'."""
    if undo or data is None:
        if undo and data is not None:
            raise UserError(f"--undo takes no DATA ({data}): it restores the previous calibrator.")
        if data is None and not undo:
            raise UserError(f"Name the DATA to calibrate on: labelsmooth calibrate {model} DATA. Or --undo.")
        unused = ["method", "part", "data_dir", "skip_corrupt", "report", "overwrite"]
        refuse_unused(ctx, unused, "is not used with --undo.")
        print(models.undo_calibration(model))
        return
    check_data_options(ctx, data)
    check_report(ctx, report, overwrite)
    measured: list[Evaluation] = []
    with Bars(transient=True) as progress:
        sentence = models.calibrate(
            model,
            data,
            method=cast(Name, method),
            part=part,
            data_dir=data_dir,
            skip_corrupt=skip_corrupt,
            progress=progress,
            command=command_line(),
            on_held_out=None if report is None else measured.append,
        )
    print(f"{sentence} 'labelsmooth evaluate {model} DATA' measures the model as it is now.")
    if report is not None and measured:
        from labelsmooth.report import write_evaluation

        write_evaluation(measured[0], report, overwrite)
        print(f"\n{measured[0].sentence}\n\nReport: {report.resolve()}")


def evaluate_model(model: Path, data: str | None, **options: Any) -> Evaluation:
    """``evaluate MODEL DATA``, up to what is printed."""
    if data is None:
        raise UserError(f"{model} is a folder; name the DATA to measure it on: labelsmooth evaluate {model} DATA.")
    with Bars(transient=True) as progress:
        return models.evaluate(model, data, progress=progress, **options)


def _listed(paths: list[str], null: bool) -> Iterator[str | Path]:
    return chain.from_iterable(read_list(sys.stdin.buffer, null) if path == "-" else [path] for path in paths)


def _kept(predictions: Iterable[models.Prediction], kept: list[models.Prediction]) -> Iterator[models.Prediction]:
    """The predictions, each also appended to a list."""
    for one in predictions:
        kept.append(one)
        yield one


def _count(paths: list[str]) -> int | None:
    """How many images there are; not known before a list has ended."""
    return None if "-" in paths else sum(1 for _ in find_images(paths))


def _counted(
    predictions: Iterable[models.Prediction], progress: Bars, total: int | None
) -> Iterator[models.Prediction]:
    for done, prediction in enumerate(predictions, 1):
        progress.predictions(done, total)
        yield prediction
