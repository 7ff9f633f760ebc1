"""How often 95% intervals hold the truth: models whose calibration error is known by construction.

Confidences are drawn from a beta distribution on [0.35, 0.95]; the prediction is right with probability
confidence - gap(confidence). The truth of the ECE is that of the bins' edges in use, over these confidences; that of
the smooth ECE is at the bandwidth in use.

    python bench/calibration_coverage.py [--repeats 1000] [--rows 1500] [--resamples 1000] [--jobs 2]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from harness import keep

from labelsmooth import metrics
from labelsmooth.metrics import Interval
from labelsmooth.metrics.binning import assign, bin_edges
from labelsmooth.metrics.smooth import SmoothGrid, fixed_point, smoothed

SLOW = 4  # KS and smooth ECE are measured on every fourth sample
GAPS: dict[str, Callable[[Any], Any]] = {
    "calibrated": lambda c: 0.0 * c,
    "3 points over-confident": lambda c: 0.03 + 0.0 * c,
    "10 points over-confident": lambda c: 0.10 + 0.0 * c,
    "10 points, upper half only": lambda c: 0.10 * (c > 0.82),
    "over and under, 3 points": lambda c: 0.047 * np.sin(12 * c),
    "too steep": lambda c: 0.25 * (c - 0.7),
}


def smooth_truth(confidence: Any, right: Any, accuracy: Any) -> float:
    """The smooth ECE of the accuracies at the bandwidth that the sample has chosen."""
    grid, ones = SmoothGrid(confidence), np.ones(len(confidence))
    sigma = fixed_point(grid.cells(ones, confidence - right))
    return float(np.abs(smoothed(grid.cells(ones, confidence - accuracy), sigma)).sum())


def one(rng: Any, rows: int, gap: Callable[[Any], Any], how: Interval, slow: bool) -> dict[str, bool]:
    """Whether each interval holds its truth, on one fresh sample; those of the slow ones on request."""
    confidence = 0.35 + 0.6 * rng.beta(3, 1, rows)
    accuracy = np.clip(confidence - gap(confidence), 0.0, 1.0)
    right = rng.random(rows) < accuracy
    rest = (1.0 - confidence) / 2.0  # three classes, the predicted one first
    p = np.stack([confidence, rest, rest], 1)
    y = np.where(right, 0, 1)
    index = assign(confidence, bin_edges(confidence, 15, "equal-mass"))
    gaps = np.bincount(index, confidence - accuracy, 15) / rows
    truths = {
        "error": 1.0 - accuracy.mean(),
        "confidence_gap": (confidence - accuracy).mean(),
        "ece": np.abs(gaps).sum(),
        "brier": (
            accuracy * ((1 - confidence) ** 2 + 2 * rest**2)
            + (1 - accuracy) * (confidence**2 + (1 - rest) ** 2 + rest**2)
        ).mean(),
    }
    if slow:
        truths["ks"] = np.abs(np.cumsum((confidence - accuracy)[np.argsort(confidence)])).max() / rows
        truths["smooth_ece"] = smooth_truth(confidence, right, accuracy)
    found = {name: getattr(metrics, name)(p, y, interval=how) for name in truths}
    return {name: bool(found[name].low - 1e-12 <= truth <= found[name].high + 1e-12) for name, truth in truths.items()}


def covered(settings: tuple[str, int, int, int]) -> dict[str, float]:
    """The share of the intervals that hold their truth, for one kind of model."""
    name, rows, repeats, resamples = settings
    rng = np.random.default_rng([list(GAPS).index(name), rows])
    hits = [
        one(rng, rows, GAPS[name], Interval(resamples=resamples, seed=repeat), repeat % SLOW == 0)
        for repeat in range(repeats)
    ]
    return {m: round(float(np.mean([h[m] for h in hits if m in h])), 4) for m in hits[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    found = {}
    settings = [(name, arguments.rows, arguments.repeats, arguments.resamples) for name in GAPS]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for name, shares in zip(GAPS, pool.map(covered, settings), strict=True):
            found[name] = shares
            print(f"{name:28}" + "  ".join(f"{m} {v:.3f}" for m, v in shares.items()), flush=True)
    record = {
        "command": ["bench/calibration_coverage.py", *sys.argv[1:]],
        "rows": arguments.rows,
        "repeats": arguments.repeats,
        "resamples": arguments.resamples,
        "level": 0.95,
        "standard_error": round((0.95 * 0.05 / arguments.repeats) ** 0.5, 4),
        "standard_error_of_ks_and_smooth_ece": round((0.95 * 0.05 * SLOW / arguments.repeats) ** 0.5, 4),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "coverage": found,
    }
    keep("calibration_coverage", record)


if __name__ == "__main__":
    main()
