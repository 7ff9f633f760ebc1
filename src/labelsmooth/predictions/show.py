"""An evaluation as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.metrics.cells import CELLS

from .evaluate import Evaluation

TITLES = {
    "error": "Error",
    "nll": "NLL (nats)",
    "brier": "Brier score",
    "ece": "ECE, 15 bins of equal mass",
    "smooth_ece": "Smooth ECE",
    "ks": "KS calibration error",
    "confidence_gap": "Confidence - accuracy",
    "aurc": "AURC",
    "e_aurc": "E-AURC",
}


def interval(level: float, resamples: int) -> Interval:
    """The interval that was asked for on the command line."""
    try:
        return Interval(level=level, resamples=resamples)
    except ValueError as problem:
        raise UserError(str(problem)) from problem


def as_json(evaluation: Evaluation) -> str:
    """The record as JSON; an infinite NLL is the string "inf", which JSON has no number for."""
    record = dataclasses.asdict(dataclasses.replace(evaluation, pictures=None))
    del record["pictures"]
    return json.dumps(_finite(record), indent=1, allow_nan=False)


def as_text(evaluation: Evaluation) -> str:
    """The record as a table for the terminal."""
    first = next(iter(evaluation.metrics.values()))
    lines = [evaluation.sentence, "", f"{evaluation.file}: {evaluation.rows} rows of {evaluation.scores}"]
    lines += _table(
        [[TITLES[k], *_numbers(e)] for k, e in evaluation.metrics.items()], ["", "value", f"{first.level:.0%} interval"]
    )
    for name, (rows, metrics) in evaluation.groups.items():
        lines += ["", f"{name}: {rows} rows"]
        lines += _table(
            [[TITLES[k], *_numbers(e)] for k, e in metrics.items()], ["", "value", f"{first.level:.0%} interval"]
        )
    if evaluation.compared_with is not None:
        lines += ["", f"Difference to {evaluation.compared_with}, on the same rows (below 0: this file is lower)"]
        rows_of = [
            [TITLES[k], f"{d.value:+.4f}", f"{d.low:+.4f} to {d.high:+.4f}", f"{d.p_value:.3f}"]
            for k, d in evaluation.differences.items()
        ]
        lines += _table(rows_of, ["", "difference", f"{first.level:.0%} interval", "p"])
    return "\n".join([*lines, "", *notes(evaluation)])


def notes(evaluation: Evaluation) -> list[str]:
    """How the numbers were made, in sentences."""
    found = list(evaluation.remarks)
    methods: dict[str, list[str]] = {}
    for name, estimate in evaluation.metrics.items():
        methods.setdefault(estimate.method, []).append(TITLES[name])
    found += [f"Intervals of {'; '.join(titles)}: {method}." for method, titles in methods.items()]
    found += [f"Differences: {m}." for m in sorted({d.method for d in evaluation.differences.values()})]
    if evaluation.kept == "sums":
        found.append(
            f"{evaluation.rows} rows are too many to keep each: confidences in the same of {CELLS} cells count as tied."
        )
    above = [TITLES[k] for k, e in evaluation.metrics.items() if e.value > e.high]
    if above:
        found.append(
            f"{', '.join(above)}: the value lies above its interval, because it counts chance as miscalibration too; "
            "the interval is for the true calibration error."
        )
    return found


def _numbers(estimate: Any) -> list[str]:
    return [f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}"]


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
