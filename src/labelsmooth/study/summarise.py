"""From finished runs to the study's tables, comparisons and curves; a function of the runs' logits alone."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelsmooth.metrics import reliability_curve
from labelsmooth.study.compare import compare, estimate, planned_comparisons
from labelsmooth.study.evaluate import evaluate, largest_logits
from labelsmooth.study.methods import CALIBRATORS
from labelsmooth.study.records import METRICS, Curves, MethodReliability, RunRecord, Summary
from labelsmooth.study.runs import FinishedRun

__all__ = ["summarise"]

Floats = NDArray[np.float64]


def summarise(runs: list[tuple[str, int, FinishedRun]], labels: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Evaluate every run under every calibrator.

    Args:
        runs: (method, seed, run), every method with the same seeds in the same order.
        labels: of each part.

    Returns:
        The fields ``runs``, ``summary``, ``seconds``, ``comparisons`` and ``curves`` of a StudyRecord.
    """
    values: dict[tuple[str, str, str], list[Floats]] = defaultdict(list)
    probabilities: dict[tuple[str, str], list[Floats]] = defaultdict(list)
    records = []
    for method, seed, run in runs:
        results = evaluate(run.logits, labels, CALIBRATORS)
        for calibrator, result in results.items():
            probabilities[method, calibrator].append(result.probabilities)
            for metric, each in result.values.items():
                values[method, calibrator, metric].append(each)
        numbers = {name: {m: float(v.mean()) for m, v in result.values.items()} for name, result in results.items()}
        records.append(RunRecord(run.id, method, seed, run.seconds, run.epochs, run.history, numbers))

    methods = tuple(dict.fromkeys(method for method, _, _ in runs))
    table = {key: np.stack(each) for key, each in values.items()}
    keys = [(method, calibrator, metric) for method in methods for calibrator in CALIBRATORS for metric in METRICS]
    times = {method: np.array([[run.seconds] for run in records if run.method == method]) for method in methods}
    edges, counts = largest_logits({method: values[method, "none", "largest_logit"] for method in methods})
    diagrams = [
        _reliability(method, calibrator, arrays, labels["test"])
        for (method, calibrator), arrays in probabilities.items()
    ]
    return {
        "runs": records,
        "summary": [_summary(*key, table[key]) for key in keys if key in table],
        "seconds": [_summary(method, "none", "seconds", times[method]) for method in methods],
        "comparisons": compare(table, planned_comparisons(methods, CALIBRATORS)),
        "curves": Curves(diagrams, edges, counts),
    }


def _reliability(
    method: str, calibrator: str, probabilities: list[Floats], labels: NDArray[np.int64]
) -> MethodReliability:
    """The reliability curve over the test examples of all seeds, in 15 bins of equal width."""
    curve = reliability_curve(
        np.concatenate(probabilities), np.tile(labels, len(probabilities)), bins=15, binning="equal-width"
    )
    return MethodReliability(**dataclasses.asdict(curve.plain()), method=method, calibrator=calibrator)


def _summary(method: str, calibrator: str, metric: str, values: Floats) -> Summary:
    result = estimate(values)
    low, high = result.interval()
    return Summary(method, calibrator, metric, result.mean, low, high, result.seeds)
