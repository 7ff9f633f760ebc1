"""From a file of predictions to a record: every metric with its interval, in groups, and beside another model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelsmooth.metrics import Difference, Estimate, Interval
from labelsmooth.metrics.compare import difference
from labelsmooth.metrics.figures import ReliabilityDiagram, RiskCoverage, reliability_record, risk_record
from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.summary import Reduced, statistics, summarise

from .errors import PredictionError
from .read import Kind, chunks


@dataclass(frozen=True)
class Evaluation:
    """What a file of predictions says; `sentence` is the verdict in words, `groups` the metrics of each group."""

    file: str
    rows: int
    scores: str
    metrics: dict[str, Estimate]
    sentence: str
    groups: dict[str, tuple[int, dict[str, Estimate]]]
    compared_with: str | None
    differences: dict[str, Difference]


def evaluate(
    path: Path,
    kind: Kind | None = None,
    *,
    labels_path: Path | None = None,
    by: str | None = None,
    compare: Path | None = None,
    interval: Interval | None = None,
) -> Evaluation:
    """Measure a file of predictions.

    Args:
        path, kind, labels_path, by: as for :func:`labelsmooth.predictions.read.chunks`.
        compare: another file of predictions for the same examples in the same order.
        interval: level and resamples of the intervals; 95% and 1,000 unless told.

    Returns:
        An :class:`Evaluation`. Of each row 32 bytes are kept, whatever the number of classes.

    Raises:
        PredictionError: a sentence with the file and the row.
    """
    how = interval or Interval()
    found, rows, labels, groups = reduced(path, kind, labels_path, by)
    metrics = summarise(rows, how)
    parts: dict[str, tuple[int, dict[str, Estimate]]] = {}
    if groups is not None:
        for name in np.unique(groups):
            part = rows.select(groups == name)
            parts[str(name)] = (part.rows, summarise(part, how))
    differences: dict[str, Difference] = {}
    if compare is not None:
        _, other, other_labels, _ = reduced(compare, kind, labels_path, None)
        _check_same(path, labels, compare, other_labels)
        one, two = statistics(rows), statistics(other)
        differences = {name: difference(one[name], two[name], rows, how) for name in one}
    compared = None if compare is None else str(compare)
    return Evaluation(str(path), rows.rows, found, metrics, verdict(metrics), parts, compared, differences)


def reduced(
    path: Path, kind: Kind | None, labels_path: Path | None, by: str | None
) -> tuple[Kind, Reduced, npt.NDArray[np.int64], npt.NDArray[np.str_] | None]:
    """Read a file chunk by chunk, keeping what the metrics need of each row."""
    found, pieces = chunks(path, kind, labels_path=labels_path, by=by)
    parts, labels, groups, first = [], [], [], 0
    for scores, truth, group in pieces:
        assert truth is not None
        try:
            rows = (
                read(scores, truth, first_row=first)
                if found == "probabilities"
                else read(None, truth, scores, first_row=first)
            )
            parts.append(Reduced.join([rows]))
        except (ValueError, TypeError) as problem:
            said = str(problem).replace("pass them as logits=.", "say --logits.")
            raise PredictionError(f"{path}: {said}") from problem
        labels.append(truth)
        groups.append(group)
        first += len(truth)
    if not parts:
        raise PredictionError(f"{path} has no rows.")
    grouped = None if by is None else np.concatenate([g for g in groups if g is not None])
    return found, Reduced.join(parts), np.concatenate(labels), grouped


def pictures(
    path: Path, kind: Kind | None = None, *, labels_path: Path | None = None
) -> tuple[ReliabilityDiagram, RiskCoverage]:
    """The records of the two pictures that a report shows."""
    _, rows, _, _ = reduced(path, kind, labels_path, None)
    return reliability_record(rows), risk_record(rows)


def verdict(metrics: dict[str, Estimate]) -> str:
    """Over- or under-confident, in a sentence, and how sure that is."""
    gap, ece = metrics["confidence_gap"], metrics["ece"]
    span = f"{gap.level:.0%} interval {100 * gap.low:.1f} to {100 * gap.high:.1f}"
    if gap.low > 0 or gap.high < 0:
        word = "Over-confident" if gap.value > 0 else "Under-confident"
        side = "above" if gap.value > 0 else "below"
        return f"{word}: mean confidence is {100 * abs(gap.value):.1f} points {side} accuracy ({span})."
    if ece.low > 0:
        return (
            f"Neither over- nor under-confident on average (gap {100 * gap.value:+.1f} points, {span}), but confidence "
            f"and accuracy differ from bin to bin: the calibration error is at least {ece.low:.3f}."
        )
    return (
        f"No sign of miscalibration in these rows: mean confidence minus accuracy is {100 * gap.value:+.1f} points "
        f"({span}), and the calibration error is below {ece.high:.3f}."
    )


def _check_same(path: Path, labels: npt.NDArray[np.int64], other: Path, other_labels: npt.NDArray[np.int64]) -> None:
    if len(labels) != len(other_labels):
        raise PredictionError(
            f"{path} has {len(labels)} rows and {other} {len(other_labels)}: they must be the same examples."
        )
    differ = np.flatnonzero(labels != other_labels)
    if len(differ):
        i = int(differ[0])
        raise PredictionError(
            f"row {i} has the label {labels[i]} in {path} and {other_labels[i]} in {other}: "
            "they must be the same examples in the same order."
        )
