"""The README's claims that are not from papers: about its studies, and about this library's statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelsmooth.metrics.numbers import change, title
from labelsmooth.study import StudyRecord, load_study

HEAD = """
## What the README says of its studies and of this library

Studies: label smoothing 0.1 against plain training, with the interval corrected for the number of comparisons.
Simulations: the least and the greatest line; *holds* if none is beyond its bar by more than two standard errors.

| claim | command, and ours | verdict |
|---|---|---|
"""


def table(root: Path) -> str:
    """The claims as rows, from the records in `root`."""
    digits, clothes = (load_study(root / "runs" / f"{name}.json") for name in ("digits", "fashion-mnist-quick"))
    coverage = json.loads((root / "bench" / "results" / "coverage.json").read_text())
    rows = [
        ("On digits smoothing ruins the calibration", *_study(digits, "ece", "none")),
        ("A temperature on both makes it equivalent", *_study(digits, "ece", "temperature")),
        ("The error on digits is inconclusive", *_study(digits, "error", "none")),
        ("On clothes it lowers the error a little", *_study(clothes, "error", "none")),
        ("False differences of a study are held to 5% of studies", *_simulated(coverage, "study", "false, ", "share")),
        (
            "The choice of `best` raises the NLL of a calibrated model with 1.5% error by at most 0.02 nats",
            *_simulated(coverage, "calibrators", "best: greatest rise", "nats", "calibrated", "error 0.015"),
        ),
        (
            "95% intervals of metrics hold the truth in 92% of samples or more",
            *_simulated(coverage, "metrics", "", "share"),
        ),
    ]
    return HEAD + "".join(f"| {claim} | {ours} | **{verdict}** |\n" for claim, ours, verdict in rows)


def _study(study: StudyRecord, metric: str, calibrator: str) -> tuple[str, str]:
    row = study.comparison("label-smoothing", metric, calibrator)
    by, between = change(metric, row.difference, row.low, row.high)
    measured = f"{title(metric)}{', a temperature on both' if calibrator != 'none' else ''}: {by} ({between})"
    return f"`{study.command}`; {measured.replace('-', '−')}", row.verdict


def _simulated(
    coverage: dict[str, Any], section: str, quantity: str, unit: str, kind: str = "", cell: str = ""
) -> tuple[str, str]:
    """The range of a section's lines whose quantity and cell begin and end in this way."""
    lines = [
        line
        for line in coverage[section]["lines"]
        if line["quantity"].startswith(quantity) and line["cell"].startswith(kind) and line["cell"].endswith(cell)
    ]
    least, most = (end(line["observed"] for line in lines) for end in (min, max))
    between = f"{least:.4f} to {most:.4f} nats" if unit == "nats" else f"{100 * least:.0f}% to {100 * most:.0f}%"
    verdict = "does not hold" if any(line["fails"] for line in lines) else "holds"
    return f"`python bench/all_coverage.py --section {section}`; {len(lines)} lines, {between}", verdict
