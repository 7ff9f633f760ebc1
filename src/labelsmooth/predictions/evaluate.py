"""From a file of predictions to a record: every metric with its interval, in groups, and beside another model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.metrics import (
    BinaryCounts,
    ClassCounts,
    ConfidenceHistogram,
    Difference,
    Estimate,
    Interval,
    ReliabilityCurve,
    RiskCoverage,
    verdict,
)
from labelsmooth.metrics.catalogue import EVALUATION
from labelsmooth.metrics.curves import curve_of, histogram_of, risk_coverage_of
from labelsmooth.metrics.rows import Reduced
from labelsmooth.metrics.summary import summarise
from labelsmooth.metrics.verdict import Status, guess_error
from labelsmooth.predictions.chunks import Chunk, Source
from labelsmooth.predictions.columns import ColumnOptions, Kind
from labelsmooth.predictions.gather import LIMIT, Tally, gather
from labelsmooth.predictions.read import open_predictions
from labelsmooth.predictions.sets import SetOptions, SetsEvaluation, evaluate_sets
from labelsmooth.predictions.tables import Frame


@dataclass(frozen=True)
class Curves:
    """What a report draws of these predictions, and of those that they are compared with."""

    reliability: ReliabilityCurve
    risk: RiskCoverage
    histogram: ConfidenceHistogram
    other_reliability: ReliabilityCurve | None
    other_risk: RiskCoverage | None
    classes: ClassCounts | None = None  # None where only the confidence in the prediction is known
    binary: BinaryCounts | None = None  # of two classes


@dataclass(frozen=True)
class Evaluation:
    """What predictions say: `sentence` is the verdict, `status` its kind, `groups` the metrics of each group.

    `kept` is "rows" or, for many rows, "sums" in cells of confidence.  `remarks` say how the data was read.  With
    `of_class` all is about the probability of that class and whether the label is it.  `guess_error` is the error of
    always naming the most frequent class, None where the labels are not known, and `guessing` whether the predictions
    may be no better.
    """

    file: str
    rows: int
    scores: str
    kept: str
    metrics: dict[str, Estimate]
    sentence: str
    status: Status
    groups: dict[str, tuple[int, dict[str, Estimate]]]
    compared_with: str | None
    differences: dict[str, Difference]
    curves: Curves | None = None
    remarks: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    of_class: str | None = None
    sets: SetsEvaluation | None = None
    guess_error: float | None = None
    guessing: bool = False

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={self.metrics[name].value:.4g}" for name in ("error", "ece") if name in self.metrics
        )
        return f"Evaluation({self.file}: {self.rows} rows of {self.scores}, {values}, {self.status})"


CLASS_METRICS = ("ece", "smooth_ece", "ks", "confidence_gap")
"""What is measured of one class against the others; error and ranking are of all classes."""


def evaluate(
    source: StrPath | Frame,
    kind: Kind | None = None,
    *,
    labels_path: StrPath | None = None,
    columns: ColumnOptions | None = None,
    compare: StrPath | Frame | None = None,
    interval: Interval | None = None,
    curves: bool = False,
    of_class: str | None = None,
    sets: SetOptions | None = None,
    limit: int = LIMIT,
) -> Evaluation:
    """Measure predictions: every metric with its interval, in groups, and beside another model's.

    Args:
        source: ``.npz`` with the arrays ``labels`` and ``probabilities`` or ``logits``; ``.npy`` of scores (N, K); a
            table (``.csv``, ``.tsv``, ``.parquet``, ``.jsonl``; compressed, too); or a data frame of pandas, Polars or
            pyarrow.
        kind: "probabilities" or "logits", where the source does not say it or holds both.
        labels_path: the ``.npy`` of labels (N,) of an ``.npy`` of scores.
        columns: which columns of a table hold what, where their names do not say it, and the one to group by.
        compare: predictions of another model for the same examples in the same order.
        interval: level and resamples of the intervals; 95% and 1,000 unless given.
        curves: whether to add the curves that a report draws.
        of_class: a class (its name, or its index): the calibration of its probability against whether the label is it.
        sets: prediction sets to evaluate as well; all scores are then held in memory.
        limit: rows up to which 32 bytes of each are kept.  Longer files are read into sums of fixed size, in memory
            that does not grow: confidences in the same of 16,384 cells count as tied, and resamples draw how often
            the right and wrong answers of each cell occur.

    Returns:
        An :class:`Evaluation`; its ``remarks`` say which columns were read.

    Raises:
        UserError: predictions that cannot be used; the message names the file and the row.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"y_true": [1, 0, 1, 1], "y_prob": [0.9, 0.2, 0.6, 0.4]})
        >>> result = evaluate(frame)
        >>> result.metrics["error"].value, result.remarks
        (0.25, ('Read labels from column y_true; probabilities from column y_prob; positive class: 1.',))
    """
    options = columns or ColumnOptions()
    first = open_predictions(source, kind, labels_path=labels_path, columns=options)
    second = None
    if compare is not None:
        ungrouped = dataclasses.replace(options, by=None)
        second = open_predictions(compare, kind, labels_path=labels_path, columns=ungrouped)
    if sets is not None and sets.calibration is not None and not isinstance(sets.calibration, Source):
        ungrouped = dataclasses.replace(options, by=None)
        sets = dataclasses.replace(sets, calibration=open_predictions(sets.calibration, kind, columns=ungrouped))
    return measure(first, second, interval=interval, curves=curves, of_class=of_class, sets=sets, limit=limit)


def measure(
    source: Source,
    compared: Source | None = None,
    *,
    interval: Interval | None = None,
    curves: bool = False,
    of_class: str | None = None,
    sets: SetOptions | None = None,
    limit: int = LIMIT,
) -> Evaluation:
    """:func:`evaluate` of chunks from anywhere, each read once."""
    resampling = interval or Interval()
    tally = Tally(source.kind, curves)
    kept: list[Chunk] = []
    if sets is not None:
        kept = list(source.chunks)
        source = dataclasses.replace(source, chunks=iter(kept))
    if of_class is None:
        source = dataclasses.replace(source, chunks=tally.watch(source.chunks))
    gathered = gather(source, compared, limit, None if of_class is None else _index(source, of_class))
    rows = gathered.whole.rows()
    summary = summarise(rows, resampling, names=EVALUATION)
    metrics = _known(summary, of_class)
    groups = {}
    for name, part in gathered.groups.items():
        selected = part.rows()
        groups[name] = (selected.examples, _known(summarise(selected, resampling, names=EVALUATION), of_class))
    other = None if gathered.other is None else gathered.other.rows()
    drawn = _curves(rows, other, resampling.level, tally) if curves else None
    guess = None if tally.labelled is None else guess_error(tally.labelled)
    judgement = verdict(summary, of_class, guess)
    return Evaluation(
        file=source.name,
        rows=gathered.count,
        scores=source.kind,
        kept="rows" if gathered.whole.cells is None else "sums",
        metrics=metrics,
        sentence=judgement.sentence,
        status=judgement.status,
        groups=groups,
        compared_with=None if compared is None else compared.name,
        differences={name: d for name, d in gathered.differences(resampling).items() if name in metrics},
        curves=drawn,
        remarks=source.remarks,
        class_names=source.classes,
        of_class=of_class,
        sets=None if sets is None else evaluate_sets(dataclasses.replace(source, chunks=iter(kept)), sets, resampling),
        guess_error=guess,
        guessing=judgement.guessing,
    )


def _known(metrics: dict[str, Estimate], of_class: str | None) -> dict[str, Estimate]:
    """The metrics that the predictions determine: the NLL and the Brier score need the scores of all classes, the AUROC
    of failure a right and a wrong prediction."""
    names = metrics if of_class is None else CLASS_METRICS
    return {name: metrics[name] for name in names if not math.isnan(metrics[name].value)}


def _index(source: Source, name: str) -> int:
    """The index of a class, by its name or by itself."""
    positive = None if source.roles is None else source.roles.positive
    if name in source.classes:
        return source.classes.index(name)
    if name == positive:
        return 1
    if name.isascii() and name.isdigit():
        return int(name)
    known = ", ".join(source.classes[:12]) + (", ..." if len(source.classes) > 12 else "")
    raise UserError(f"{source.name} has no class {name!r}; its classes are {known or 'known by index only, from 0'}.")


def _curves(rows: Reduced, other: Reduced | None, level: float, tally: Tally) -> Curves:
    return Curves(
        curve_of(rows, level=level),
        risk_coverage_of(rows),
        histogram_of(rows),
        None if other is None else curve_of(other, level=level),
        None if other is None else risk_coverage_of(other),
        tally.classes,
        tally.binary,
    )
