"""The tables of a report in the terminal, fewer columns in a narrow one, and the words below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from labelsmooth.errors import plural
from labelsmooth.metrics.numbers import title, value
from labelsmooth.models.records import TrainingRecord
from labelsmooth.predictions import Evaluation
from labelsmooth.report.evaluation import differences_table, estimates_table, notes, sets_table
from labelsmooth.report.study import calibrators_table, distillation_table, results_table
from labelsmooth.report.sweep import levels_table
from labelsmooth.report.tables import Cell, Row, Table
from labelsmooth.report.training import metrics_table
from labelsmooth.study.plan import Plan
from labelsmooth.study.records import METRICS, StudyRecord
from labelsmooth.study.sweep import SweepRecord

COLUMNS = ("error", "nll", "ece", "confidence_gap", "aurc", "brier", "nll_gap")
FEWEST = 3  # columns that a table has in the narrowest terminal
SHORT = {"Confidence gap": "Gap"}


def print_table(table: Table, console: Console, heading: str = "", *, fit: bool = False) -> None:
    """Print a table of a report.

    `fit` makes it as narrow as the terminal: with the interval of a number below it, then without the last columns.
    """
    rich, stacked = _rich(table, heading), False
    while fit and _width(rich, console) > console.width and not (stacked and len(table.columns) <= FEWEST):
        if stacked:
            rows = [replace(row, cells=row.cells[:-1]) for row in table.rows]
            table = replace(table, columns=table.columns[:-1], rows=rows)
        rich, stacked = _rich(table, heading, stacked=True), True
    console.print(rich)
    if table.note:
        console.print()


def _rich(table: Table, heading: str, *, stacked: bool = False) -> RichTable:
    rich = RichTable(title=heading, title_justify="left", caption=table.note, caption_justify="left")
    rich.box, rich.pad_edge, rich.collapse_padding = SIMPLE_HEAD, False, True
    for k, column in enumerate(table.columns):
        name = SHORT.get(column, column) if stacked else column
        rich.add_column(escape(name), justify="right" if k else "left", no_wrap=k == 0)
    for row in table.rows:
        rich.add_row(Text(row.title), *(_text(cell, stacked) for cell in row.cells))
    return rich


def _width(rich: RichTable, console: Console) -> int:
    """The width at which no cell of a table is wrapped."""
    return Measurement.get(console, console.options.update_width(10_000), rich).maximum


def print_sentences(sentences: Sequence[str], console: Console) -> None:
    """Print a list of sentences."""
    lines = RichTable.grid(padding=(0, 1))
    for sentence in sentences:
        lines.add_row("•", Text(sentence))
    console.print(lines)


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the verdict, every metric with its interval, and how they were made."""
    console.print(Text(evaluation.sentence, style="bold"), soft_wrap=True)
    console.print(Text(f"\n{evaluation.file}: {plural(evaluation.rows, 'row')} of {evaluation.scores}"), soft_wrap=True)
    print_table(estimates_table(evaluation.metrics), console)
    for name, (rows, metrics) in evaluation.groups.items():
        print_table(estimates_table(metrics), console, f"{name}: {plural(rows, 'row')}")
    if evaluation.sets is not None:
        print_table(sets_table(evaluation), console, "Prediction sets", fit=True)
    if evaluation.differences:
        print_table(differences_table(evaluation), console)
    for sentence in notes(evaluation):
        console.print(Text(sentence), soft_wrap=True)


def epoch_line(epoch: int, epochs: int, values: Mapping[str, float]) -> str:
    """The scores of :meth:`labelsmooth.progress.Progress.scores` on one line.

    Example:
        >>> epoch_line(1, 4, {"train_loss": 0.7})
        'Epoch 1/4: training loss 0.700'
    """
    words = f"Epoch {epoch}/{epochs}: training loss {values['train_loss']:.3f}"
    if "validation_nll" not in values:
        return words
    nll, error, ece = (value(name, values[f"validation_{name}"]) for name in ("nll", "error", "ece"))
    return f"{words}; validation NLL {nll}, error {error}, ECE {ece}"


def print_training(record: TrainingRecord, console: Console) -> None:
    """Print the verdict, the metrics, and what the calibrator gains."""
    data = record.data
    about = f"{data.name}: {data.train:,} training, {data.validation:,} validation, {data.test:,} test images"
    console.print(Text(f"{record.sentence}\n", style="bold"), soft_wrap=True)
    print_table(metrics_table(record), console, about)
    console.print(Text(f"Calibrator: {record.calibrator.reason}"), soft_wrap=True)
    if record.suspected:
        suspects = plural(record.suspected, "training image")
        console.print(Text(f"{suspects} may be mislabelled; the report shows the likeliest."), soft_wrap=True)


def print_study(study: StudyRecord, console: Console) -> None:
    """Print what to use and why, the tables, and the details."""
    about = f"{study.data.name}: test part, {study.data.test:,} examples, {plural(study.config.seeds, 'seed')}"
    lead, *reasons = study.verdict
    console.print(Text(lead, style="bold"))
    print_sentences(reasons, console)
    console.print()
    print_table(results_table(study, COLUMNS), console, about, fit=True)
    for metric in ("ece", "nll"):
        print_table(calibrators_table(study, (metric,)), console, f"{title(metric)} after a calibrator", fit=True)
    if (distilled := distillation_table(study)) is not None:
        print_table(distilled, console, "Teachers and students", fit=True)
    print_sentences(study.details, console)


def print_sweep(sweep: SweepRecord, console: Console) -> None:
    """Print what the sweep says, and a table of its levels."""
    lead, *findings = sweep.findings
    console.print(Text(lead, style="bold"))
    print_sentences(findings, console)
    console.print()
    about = f"{sweep.levels[0].data.name}: test part, {sweep.levels[0].data.test:,} examples"
    print_table(levels_table(sweep), console, about, fit=True)


def print_plan(plans: Sequence[Plan], console: Console) -> None:
    """Print, for each metric, the smallest difference that seeds and test examples can show."""
    for plan in plans:
        metric = METRICS[plan.metric]
        unit, scale, digits = ("points", 100, 2) if metric.percent else (metric.unit, 1, 4)
        rows = [
            Row(str(seeds), [Cell(f"{scale * number:.{digits}f}") for number in numbers])
            for seeds, numbers in zip(plan.seeds, plan.smallest, strict=True)
        ]
        columns = ["Seeds", *(f"{examples:,}" for examples in plan.examples)]
        print_table(Table(columns, rows), console, f"{metric.title}, {unit}")
    console.print(
        "The smallest difference, by seeds and by test examples, that the primary comparisons find significant with a "
        "probability of 80%, if both vary as they do in the pilot."
    )


def _text(cell: Cell, stacked: bool) -> Text:
    text = Text(cell.text, style="bold" if cell.best else "")
    small = cell.small.replace(" (", "\n(") if stacked else cell.small  # a difference and its interval
    return text.append(("\n" if stacked else "  ") + small, style="dim") if small else text
