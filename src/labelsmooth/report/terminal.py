"""The study in the terminal: the results, the calibrators, the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelsmooth.report.numbers import CALIBRATOR_TITLES, half_width, label, value
from labelsmooth.study.records import StudyRecord, Summary

__all__ = ["print_study"]

COLUMNS = ("error", "nll", "brier", "ece", "confidence_gap", "aurc", "nll_gap")
# A narrower terminal gets fewer metrics, and the intervals on a line of their own.
WIDE, NARROW = 150, 80
NARROW_COLUMNS = ("error", "nll", "ece", "confidence_gap", "aurc")
SHORT = {"confidence_gap": "Gap"}


def print_study(study: StudyRecord, console: Console) -> None:
    """Print the tables and the verdict."""
    wide, narrow = console.width >= WIDE, console.width < NARROW
    columns = COLUMNS if wide else NARROW_COLUMNS[: 4 if narrow else None]
    seeds = study.config.seeds
    results = Table(
        title=f"{study.data.name}: test part, {study.data.test} examples, {seeds} seed{'s' * (seeds > 1)}",
        caption="mean, ± half of the 95% interval over "
        + ("seeds and test examples" if seeds > 1 else "test examples"),
    )
    results.add_column("Method", no_wrap=True)
    for column in columns:
        results.add_column(label(column) if wide else SHORT.get(column, label(column)), justify="right")
    if not narrow:
        results.add_column("Seconds", justify="right")
    seconds = {row.method: row.mean for row in study.seconds}
    for method in study.methods:
        name = method.name
        cells = [_cell(study.number(name, column), " " if wide else "\n") for column in columns]
        results.add_row(method.title, *cells, *([] if narrow else [f"{seconds[name]:.1f}"]))
    console.print(results)

    for metric in ("ece", "nll"):
        console.print(_after_calibrators(study, metric))

    lines = Table.grid(padding=(0, 1))
    for sentence in study.verdict:
        lines.add_row("•", Text(sentence))
    console.print("\n[bold]Verdict[/bold]", lines, sep="\n")


def _after_calibrators(study: StudyRecord, metric: str) -> Table:
    calibrators = study.config.calibrators
    table = Table(
        title=f"{label(metric)} after a calibrator fitted on validation", caption="lowest of a row underlined"
    )
    table.add_column("Method", no_wrap=True)
    for name in calibrators:
        table.add_column(name if name == "none" else CALIBRATOR_TITLES[name], justify="right")
    for method in study.methods:
        rows = [study.number(method.name, metric, name) for name in calibrators]
        best = min(row.mean for row in rows)
        cells = [Text(value(metric, row.mean), style="underline" if row.mean == best else "") for row in rows]
        table.add_row(method.title, *cells)
    return table


def _cell(row: Summary, between: str) -> str:
    return f"{value(row.metric, row.mean, sign=row.metric == 'confidence_gap')}{between}[dim]{half_width(row)}[/dim]"
