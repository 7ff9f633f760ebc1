"""An evaluation as text, as JSON and as a page with its pictures."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import math
from pathlib import Path
from typing import Any

from labelsmooth._files import whole_file
from labelsmooth.metrics import Interval
from labelsmooth.metrics.figures import ReliabilityDiagram, RiskCoverage, plot_reliability, plot_risk_coverage

from .errors import PredictionError
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
        raise PredictionError(str(problem)) from problem


def refuse(out: Path, overwrite: bool) -> None:
    """Overwrite nothing unasked, and find out before the work is done."""
    if out.exists() and not overwrite:
        raise PredictionError(f"{out} exists; choose another name, or say --overwrite.")


def as_json(evaluation: Evaluation) -> str:
    """The record as JSON; an infinite NLL is the string "inf", which JSON has no number for."""
    return json.dumps(_finite(dataclasses.asdict(evaluation)), indent=1, allow_nan=False)


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
    methods = sorted({e.method for e in evaluation.metrics.values()})
    lines += ["", *[f"Intervals: {m}." for m in methods]]
    above = [TITLES[k] for k, e in evaluation.metrics.items() if e.value > e.high]
    if above:
        lines += [
            f"{', '.join(above)}: the value lies above its interval, because it counts chance as miscalibration too; "
            "the interval is for the true calibration error."
        ]
    return "\n".join(lines)


def write_html(
    evaluation: Evaluation, reliability: ReliabilityDiagram, risk: RiskCoverage, out: Path, overwrite: bool = False
) -> None:
    """Write the record and its pictures as one page that needs nothing else."""
    refuse(out, overwrite)
    images = [_png(plot_reliability(reliability)), _png(plot_risk_coverage([risk]))]
    body = "".join(
        f'<img alt="{alt}" src="data:image/png;base64,{image}">' for alt, image in zip(_ALT, images, strict=True)
    )
    page = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Predictions, evaluated</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "pre{font-size:14px;overflow-x:auto}img{max-width:100%}</style>"
        f"<h1>{html.escape(evaluation.sentence)}</h1>{body}<pre>{html.escape(as_text(evaluation))}</pre></html>\n"
    )
    with whole_file(out) as file:
        file.write(page.encode())


_ALT = ("Accuracy over confidence, with its bootstrap band", "Error over coverage")


def _png(axes: Any) -> str:
    buffer = io.BytesIO()
    axes.figure.savefig(buffer, format="png", dpi=130)
    return base64.b64encode(buffer.getvalue()).decode()


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
