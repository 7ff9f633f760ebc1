"""Comparisons in words, the same wherever a sentence is made of one."""

from __future__ import annotations

from collections.abc import Sequence

from labelsmooth.study.records import METRICS, Comparison, StudyRecord

__all__ = ["findings", "joined", "outcome", "value"]


def value(metric: str, number: float) -> str:
    """A number as it is read: 12.3% or 0.345."""
    return f"{100 * number:.1f}%" if METRICS[metric].percent else f"{number:.{_digits(metric)}f}"


def outcome(row: Comparison) -> str:
    """What a comparison says of the method, in a word: lower, higher, identical, equivalent or inconclusive."""
    if row.significant:
        return "lower" if row.difference < 0 else "higher"
    return "identical" if row.identical else row.verdict


def findings(study: StudyRecord, rows: Sequence[Comparison]) -> str:
    """Comparisons of the same two models: "error lower (3.0% to 2.0%, -1.0 points, ...); NLL equivalent (...)"."""
    return "; ".join(_finding(study, row) for row in rows)


def joined(words: Sequence[str]) -> str:
    """A list in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _finding(study: StudyRecord, row: Comparison) -> str:
    title = METRICS[row.metric].title
    title = title if title.isupper() else title[0].lower() + title[1:]
    before = value(row.metric, study.number(row.reference_method, row.metric, row.reference_calibrator).mean)
    after = value(row.metric, study.number(row.method, row.metric, row.calibrator).mean)
    if row.note:
        return f"{title} {row.note}" + (f" ({after})" if row.identical else "")
    if row.verdict == "equivalent":
        said = f"{_change(row, row.low90, row.high90, '90%')}, within the margin of {_margin(row)}"
    else:
        said = _change(row, row.low, row.high, "corrected")
        if row.significant and row.small:
            said += f", less than the margin of {_margin(row)}"
        if row.seeds_needed:
            said += f"; about {row.seeds_needed} seeds would settle it"
        elif row.seeds_needed is None and study.config.seeds > 1:
            said += f"; over 200 seeds would be needed with {study.data.test} test examples"
    return f"{title} {outcome(row)} ({before} to {after}, {said})"


def _change(row: Comparison, low: float, high: float, interval: str) -> str:
    """A signed difference with an interval: "-0.4 points, corrected interval -0.7 to -0.1"."""
    unit = " points" if METRICS[row.metric].percent else ""
    return f"{_signed(row, row.difference)}{unit}, {interval} interval {_signed(row, low)} to {_signed(row, high)}"


def _signed(row: Comparison, number: float) -> str:
    return f"{100 * number:+.1f}" if METRICS[row.metric].percent else f"{number:+.{_digits(row.metric)}f}"


def _margin(row: Comparison) -> str:
    margin = row.margin or 0.0
    return f"{100 * margin:g} points" if METRICS[row.metric].percent else f"{margin:g}"


def _digits(metric: str) -> int:
    return 4 if metric == "aurc" else 3
