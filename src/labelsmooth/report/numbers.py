"""How numbers are written, the same in the terminal and on the page."""

from __future__ import annotations

from labelsmooth.calibrate import CATALOGUE as CALIBRATORS
from labelsmooth.metrics.catalogue import CATALOGUE
from labelsmooth.study.records import METRICS, Comparison, Summary

__all__ = ["CALIBRATOR_TITLES", "change", "half_width", "label", "outcome", "value"]

ALL = METRICS | CATALOGUE
CALIBRATOR_TITLES = {"none": "no calibrator"} | {entry.name: entry.name for entry in CALIBRATORS.values()}


def _digits(metric: str) -> int:
    return {"aurc": 4, "e_aurc": 4, "largest_logit": 1, "logit_gap": 1, "seconds": 1}.get(metric, 3)


def value(metric: str, number: float, *, sign: bool = False) -> str:
    """A metric as it is read: 1.9% or 0.178."""
    plus = "+" if sign else ""
    if metric in ALL and ALL[metric].percent:
        return f"{100 * number:{plus}.1f}%"
    return f"{number:{plus}.{_digits(metric)}f}"


def label(metric: str) -> str:
    """The heading of a metric."""
    return ALL[metric].title


def half_width(row: Summary) -> str:
    """Half the 95% interval, in the units of :func:`value`."""
    return "±" + value(row.metric, (row.high - row.low) / 2).rstrip("%")


def change(comparison: Comparison) -> str:
    """A signed difference with its corrected interval; differences of shares are in percentage points."""
    metric = comparison.metric
    mean, low, high = (
        value(metric, number, sign=True).rstrip("%")
        for number in (comparison.difference, comparison.low, comparison.high)
    )
    return f"{mean} [{low}, {high}]" + (" points" if ALL[metric].percent else "")


def outcome(comparison: Comparison) -> str:
    """One word for a comparison: better, worse, or cannot tell; for a confidence gap which side it is on."""
    if not comparison.called:
        return "cannot tell"
    if comparison.metric == "confidence_gap":
        return "over-confident" if comparison.difference > 0 else "under-confident"
    return "better" if comparison.difference < 0 else "worse"
