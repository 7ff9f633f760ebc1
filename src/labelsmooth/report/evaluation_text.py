"""An evaluation as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from labelsmooth.metrics import Estimate
from labelsmooth.metrics.cells import CELLS
from labelsmooth.predictions import Evaluation
from labelsmooth.report.numbers import label, value

__all__ = ["as_json", "as_text", "notes"]


def as_json(evaluation: Evaluation) -> str:
    """The record as JSON; an infinite NLL is the string "inf", which JSON has no number for."""
    record = dataclasses.asdict(dataclasses.replace(evaluation, curves=None))
    del record["curves"]
    return json.dumps(_finite(record), indent=1, allow_nan=False)


def as_text(evaluation: Evaluation) -> str:
    """The record as a table for the terminal."""
    first = next(iter(evaluation.metrics.values()))
    lines = [evaluation.sentence, "", f"{evaluation.file}: {evaluation.rows} rows of {evaluation.scores}"]
    heading = ["", "value", f"{first.level:.0%} interval"]
    lines += _table([[label(k), *_numbers(k, e)] for k, e in evaluation.metrics.items()], heading)
    for name, (rows, metrics) in evaluation.groups.items():
        lines += ["", f"{name}: {rows} rows"]
        lines += _table([[label(k), *_numbers(k, e)] for k, e in metrics.items()], heading)
    if evaluation.compared_with is not None:
        lines += ["", f"Difference to {evaluation.compared_with}, on the same rows (below 0: this file is lower)"]
        rows_of = [
            [label(k), value(k, d.value, sign=True), _ends(k, d.low, d.high, sign=True), f"{d.p_value:.3f}"]
            for k, d in evaluation.differences.items()
        ]
        lines += _table(rows_of, ["", "difference", f"{first.level:.0%} interval", "p"])
    return "\n".join([*lines, "", *notes(evaluation)])


def notes(evaluation: Evaluation) -> list[str]:
    """How the numbers were made, in sentences."""
    sentences = list(evaluation.remarks)
    methods: dict[str, list[str]] = {}
    for name, estimate in evaluation.metrics.items():
        methods.setdefault(estimate.method, []).append(label(name))
    sentences += [f"Intervals of {'; '.join(titles)}: {method}." for method, titles in methods.items()]
    sentences += [f"Differences: {m}." for m in sorted({d.method for d in evaluation.differences.values()})]
    if evaluation.kept == "sums":
        sentences.append(
            f"{evaluation.rows} rows are too many to keep each: confidences in the same of {CELLS} cells count as tied."
        )
    above = [label(k) for k, e in evaluation.metrics.items() if e.value > e.high]
    if above:
        sentences.append(
            f"{', '.join(above)}: the value lies above its interval, because it counts chance as miscalibration too; "
            "the interval is for the true calibration error."
        )
    return sentences


def _numbers(name: str, estimate: Estimate) -> list[str]:
    sign = name == "confidence_gap"
    return [value(name, estimate.value, sign=sign), _ends(name, estimate.low, estimate.high, sign=sign)]


def _ends(name: str, low: float, high: float, *, sign: bool) -> str:
    return f"{value(name, low, sign=sign)} to {value(name, high, sign=sign)}"


def _table(rows: list[list[str]], head: list[str]) -> list[str]:
    widths = [max(len(row[j]) for row in [head, *rows]) for j in range(len(head))]
    return [
        "  ".join(
            cell.ljust(w) if j == 0 else cell.rjust(w) for j, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
