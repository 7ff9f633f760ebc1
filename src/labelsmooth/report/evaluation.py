"""The page of an evaluation: is the model calibrated, every number with its interval, and the pictures."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelsmooth.files import StrPath, check_output
from labelsmooth.metrics import Difference, Estimate, threshold_curve, verdict
from labelsmooth.metrics.catalogue import CATALOGUE
from labelsmooth.metrics.cells import CELLS
from labelsmooth.metrics.numbers import change, estimate, level, p_value, percent, title
from labelsmooth.predictions import Evaluation
from labelsmooth.report.classes import MOST_ROWS, classes_table
from labelsmooth.report.figures import rank_picture, reliability_picture, threshold_pictures
from labelsmooth.report.page import render, write
from labelsmooth.report.plots import plot_histogram, plot_risk_coverage
from labelsmooth.report.svg import Picture, picture
from labelsmooth.report.tables import MARKS, Card, Cell, Row, Table, Tone, is_above, marked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LETTERS = 26  # of a name in a legend
HEADLINES = ("error", "confidence_gap", "ece", "nll")
TONES: dict[str, Tone] = {"calibrated": "better", "too few rows": ""}  # of a verdict; any other is "worse"


RELIABILITY = (
    "On the dashed diagonal accuracy equals confidence; below it the model is over-confident, above under-confident. "
    "Each point is a bin of the same number of predictions, with the interval of its accuracy; grey bars count "
    "the predictions."
)
CLASS = (
    "Each point is a bin of the same number of rows: the mean probability of {0} (confidence), and the share of "
    "rows with that label (accuracy) with its interval. On the dashed diagonal they are equal."
)
RANK = (
    "The same bins by rank. A confident model has most of its bins at the right edge of the reliability diagram; here "
    "they are apart."
)
CONFIDENCE = "How often each confidence occurs. For a calibrated model the mean confidence is the accuracy."
RISK = (
    "The error that is left when only the most confident share of the predictions is kept. The steeper the curve falls "
    "to the left, the better confidence tells right from wrong."
)


def write_evaluation(evaluation: Evaluation, path: StrPath, overwrite: bool = False) -> None:
    """Write an evaluation with its pictures as a page, whole or not at all.

    Raises:
        UserError: `path` exists and `overwrite` is false, or it cannot be written.
    """
    check_output(Path(path), overwrite)
    write(render_evaluation(evaluation), path)


def render_evaluation(evaluation: Evaluation) -> str:
    """The page as a string; names of files and groups are escaped."""
    estimates = {name: evaluation.metrics[name] for name in HEADLINES if name in evaluation.metrics}
    curves = evaluation.curves
    return render(
        "evaluation.html.j2",
        title=f"Is it calibrated? {evaluation.file}",
        lead=evaluation.sentence,
        tone="worse" if evaluation.guessing else TONES.get(evaluation.status, "worse"),
        evaluation=evaluation,
        cards=[
            Card(title(name), text, f"{_level(evaluation.metrics)} interval {ends}")
            for name, (text, ends) in ((name, marked(name, e, "*")) for name, e in estimates.items())
        ],
        estimates=estimates_table(evaluation.metrics),
        differences=differences_table(evaluation),
        groups=_groups_table(evaluation),
        sets=sets_table(evaluation),
        classes=classes_table(curves.classes, evaluation.class_names) if curves and curves.classes else None,
        pictures=_pictures(evaluation),
        notes=notes(evaluation),
        command="",
    )


def estimates_table(estimates: dict[str, Estimate]) -> Table:
    """A row for each metric: value, interval and meaning."""
    rows = [
        Row(title(name), [Cell(text) for text in marked(name, e, "*")], CATALOGUE[name].meaning)
        for name, e in estimates.items()
    ]
    return Table(["Metric", "Value", f"{_level(estimates)} interval"], rows)


def sets_table(evaluation: Evaluation) -> Table:
    """Coverage and size of prediction sets, of all rows and of each class, the least covered first."""
    sets = evaluation.sets
    if sets is None:
        return Table([], [])
    promised = level(sets.promised)

    def row(name: str, coverage: Estimate, size: Cell, main: bool = False) -> Row:
        word = "above" if coverage.low > sets.promised else "below" if coverage.high < sets.promised else "consistent"
        share = Cell(*estimate("error", coverage.value, coverage.low, coverage.high))
        tone: Tone = "worse" if word == "below" else ""
        return Row(name, [Cell(f"{coverage.examples:,}"), share, size, Cell(word, tone=tone)], main=main)

    mean = Cell(f"{sets.size.value:.2f}", f"{sets.size.low:.2f} to {sets.size.high:.2f}")
    rows = [row("All classes", sets.coverage, mean, main=True)]
    count = len(sets.class_size)
    names = evaluation.class_names if len(evaluation.class_names) == count else [f"class {k}" for k in range(count)]
    known = [k for k, size in enumerate(sets.class_size) if not math.isnan(size)]
    least = sorted(known, key=lambda k: sets.class_coverage[k].value)[:MOST_ROWS]
    rows += [row(names[k], sets.class_coverage[k], Cell(f"{sets.class_size[k]:.2f}")) for k in least]
    empty = f" {percent(sets.sizes[0] / sum(sets.sizes))} of the sets are empty." if sets.sizes[0] else ""
    note = (
        f"Sets of classes ({sets.method}) that hold the label in {promised} of new rows drawn like those of the "
        f"threshold. {sets.fitted_on}{empty} The promise is for all rows together, not for each class; the classes "
        "with the least coverage are first. Intervals are Clopper and Pearson's."
    )
    return Table(["Class", "Rows", "Coverage", "Mean size", f"Against {promised}"], rows, note)


def differences_table(evaluation: Evaluation) -> Table:
    """A row for each metric: these predictions minus the others, on the same rows."""
    rows = []
    for name, d in evaluation.differences.items():
        difference, ends = change(name, d.value, d.low, d.high)
        word, tone = _outcome(name, d)
        rows.append(Row(title(name), [Cell(difference), Cell(ends), Cell(p_value(d.p_value)), Cell(word, tone=tone)]))
    columns = ["Metric", "Difference", f"{_level(evaluation.metrics)} interval", "p", "Outcome"]
    note = (
        f"These predictions minus those of {evaluation.compared_with}, on the same rows. A difference is better or "
        "worse only where its interval excludes 0. Calibration errors are compared without their upward bias, which is "
        "not the same for both."
    )
    return Table(columns, rows, note)


def notes(evaluation: Evaluation) -> list[str]:
    """How the numbers were made, in sentences."""
    sentences = list(evaluation.remarks)
    for about, numbers in (("Intervals", evaluation.metrics), ("Differences", evaluation.differences)):
        methods: dict[str, list[str]] = {}
        for name, number in numbers.items():
            methods.setdefault(number.method, []).append(title(name))
        sentences += [f"{about} of {', '.join(titles)}: {method}." for method, titles in methods.items()]
    if evaluation.kept == "sums":
        sentences.append(
            f"{evaluation.rows:,} rows are too many to keep each: confidences in the same of {CELLS:,} cells count as "
            "tied."
        )
    if any(math.isinf(e.value) for e in evaluation.metrics.values()):
        sentences.append("The NLL is infinite: a label has the probability 0. No calibrated probability is 0.")
    tables = [evaluation.metrics, *(metrics for _, metrics in evaluation.groups.values())]
    above = [
        title(name) for name in evaluation.metrics if any(name in table and is_above(table[name]) for table in tables)
    ]
    if above:
        sentences.append(
            f"* {', '.join(above)}: the value lies above its interval, because it counts chance as miscalibration too; "
            "the interval is for the true calibration error."
        )
    return sentences


def as_json(evaluation: Evaluation) -> str:
    """The record as JSON; an infinite NLL is the string "inf", because JSON has no number for it."""
    record = dataclasses.asdict(dataclasses.replace(evaluation, curves=None))
    del record["curves"]
    return json.dumps(_finite(record), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _outcome(name: str, d: Difference) -> tuple[str, Tone]:
    """Which of the two is better, where the interval says so; of the confidence gap, which is closer to 0."""
    if d.verdict in ("identical", "too few rows", "infinite"):
        return d.verdict, ""
    if d.verdict == "no significant difference":
        return "inconclusive", ""
    if CATALOGUE[name].better == "zero":
        return "closer to 0" if abs(d.first) < abs(d.second) else "further from 0", ""
    tone: Tone = "better" if (d.verdict == "lower") == (CATALOGUE[name].better == "lower") else "worse"
    return MARKS[tone] + tone, tone


def _groups_table(evaluation: Evaluation) -> Table:
    rows = []
    for name, (count, metrics) in evaluation.groups.items():
        word = verdict(metrics).status
        shown = {m: metrics[m] for m in HEADLINES if m in metrics}
        cells = [Cell(*marked(m, e, "*")) for m, e in shown.items()]
        rows.append(Row(name, [Cell(f"{count:,}"), *cells, Cell(word)]))
    note = "Small groups have wide intervals. By chance, one in twenty groups lies outside its 95% interval."
    headings = [title(m) for m in HEADLINES if m in evaluation.metrics]
    return Table(["Group", "Rows", *headings, "Verdict"], rows, note)


def _short(name: str) -> str:
    """The last part of a path, for the legend of a picture."""
    last = name.rsplit("/", 1)[-1]
    return last if len(last) <= MOST_LETTERS else f"…{last[1 - MOST_LETTERS :]}"


def _level(estimates: dict[str, Estimate]) -> str:
    return level(next(iter(estimates.values())).level)


def _pictures(evaluation: Evaluation) -> list[Picture]:
    curves = evaluation.curves
    if curves is None:
        return []
    if evaluation.of_class is not None:
        reliability = {_short(evaluation.of_class): curves.reliability}
        if curves.other_reliability is not None:
            reliability[_short(evaluation.compared_with or "")] = curves.other_reliability
        return [
            reliability_picture("Reliability", reliability, CLASS.format(evaluation.of_class)),
            rank_picture("Probability and share by rank", curves.reliability, RANK),
        ]
    this, other = _short(evaluation.file), _short(evaluation.compared_with or "")
    if evaluation.file == f"{evaluation.compared_with}, calibrated":
        this, other = "calibrated", "uncalibrated"
    reliability, risk = {this: curves.reliability}, {this: curves.risk}
    if curves.other_reliability is not None and curves.other_risk is not None:
        reliability[other], risk[other] = curves.other_reliability, curves.other_risk

    def histogram(figure: Figure) -> str:
        plot_histogram(curves.histogram, figure.subplots())
        h = curves.histogram
        return f"Histogram of confidence: mean confidence {percent(h.confidence)}, accuracy {percent(h.accuracy)}"

    def coverage(figure: Figure) -> str:
        plot_risk_coverage(risk, figure.subplots())
        return "Error among the most confident predictions, over the share of predictions kept"

    thresholds = []
    if curves.binary and sum(curves.binary.positive) and sum(curves.binary.negative):
        thresholds = threshold_pictures(threshold_curve(curves.binary))
    return [
        reliability_picture("Reliability", reliability, RELIABILITY),
        rank_picture("Confidence and accuracy by rank", curves.reliability, RANK),
        picture("Confidence", (3.4, 2.9), histogram, CONFIDENCE),
        picture("Risk and coverage", (3.4, 2.9), coverage, RISK),
        *thresholds,
    ]
