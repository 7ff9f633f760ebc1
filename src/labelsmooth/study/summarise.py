"""From finished runs to the study's tables, comparisons and curves; a function of the runs' logits alone."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelsmooth.metrics import reliability_curve
from labelsmooth.metrics.verdict import guess_error
from labelsmooth.study.compare import LEVEL, clip, compare
from labelsmooth.study.components import Design, Means, single
from labelsmooth.study.evaluate import Evaluation, evaluate, largest_logits
from labelsmooth.study.planned import planned_comparisons
from labelsmooth.study.recommend import candidates
from labelsmooth.study.records import METRICS, Curves, MethodReliability, RunRecord, Summary
from labelsmooth.study.runs import FinishedRun
from labelsmooth.training.spec import Settings

Floats = NDArray[np.float64]


def summarise(
    runs: list[tuple[str, int, FinishedRun]],
    labels: Sequence[dict[str, NDArray[np.int64]]],
    calibrators: Sequence[str],
    settings: Mapping[str, Settings],
    design: Design | None = None,
    margins: Mapping[str, float] | None = None,
    distilled: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate every run under every calibrator.

    Args:
        runs: (method, seed, run), every method with the same seeds in the same order.
        labels: of each part, for each split; seed s has split s modulo their number.
        calibrators: "none" and those to fit.
        settings: of each method.
        design: how the runs of a method differ, by default in their seed alone.
        margins: differences that do not matter, by metric.
        distilled: the students as in :func:`planned_comparisons`, which are no methods to recommend.

    Returns:
        The fields ``runs``, ``summary``, ``seconds``, ``comparisons``, ``candidates``, ``guess_error`` and ``curves``
        of a StudyRecord.
    """
    design = design or Design()
    values: dict[tuple[str, str, str], list[Floats]] = defaultdict(list)
    seen: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    evaluations: dict[tuple[str, str], list[Evaluation]] = defaultdict(list)
    records = []
    for method, seed, run in runs:
        parts = labels[seed % len(labels)]
        seen[method].append(parts["test"])
        results = evaluate(run.logits, parts, calibrators, settings[method])
        for calibrator, result in results.items():
            evaluations[method, calibrator].append(result)
            for metric, numbers_of_rows in result.values.items():
                values[method, calibrator, metric].append(numbers_of_rows)
        numbers = {name: {m: float(v.mean()) for m, v in result.values.items()} for name, result in results.items()}
        records.append(RunRecord(run.id, method, seed, run.seconds, run.epochs, run.history, numbers))

    methods = tuple(dict.fromkeys(method for method, _, _ in runs))
    table = {key: np.stack(arrays) for key, arrays in values.items()}
    keys = [(method, calibrator, metric) for method in methods for calibrator in calibrators for metric in METRICS]
    times = {method: np.array([[run.seconds] for run in records if run.method == method]) for method in methods}
    edges, counts = largest_logits({method: values[method, "none", "largest_logit"] for method in methods})
    compared = [method for method in methods if method == "plain" or method not in distilled]
    wrong = {method: float(table[method, "none", "error"].sum(1).mean()) for method in methods}
    comparisons = compare(table, planned_comparisons(compared, calibrators, distilled), design, margins, wrong)
    return {
        "runs": records,
        "summary": [
            summary(*key, table[key], design, evaluations[key[:2]] if key[2] == "ece" else ())
            for key in keys
            if key in table
        ],
        "seconds": [summary(method, "none", "seconds", times[method], Design()) for method in methods],
        "comparisons": comparisons,
        "candidates": candidates(
            {key: v for key, v in table.items() if key[0] in compared}, comparisons, design, wrong
        ),
        "guess_error": float(np.mean([guess_error(np.bincount(parts["test"])) for parts in labels])),
        "curves": Curves(
            [
                _reliability(
                    *key, np.concatenate([result.probabilities for result in results]), np.concatenate(seen[key[0]])
                )
                for key, results in evaluations.items()
            ],
            edges,
            counts,
        ),
    }


def _reliability(method: str, calibrator: str, probabilities: Floats, labels: NDArray[np.int64]) -> MethodReliability:
    """The reliability curve over the test examples of all seeds, in 15 bins of equal width."""
    curve = reliability_curve(probabilities, labels, bins=15, binning="equal-width")
    return MethodReliability(**dataclasses.asdict(curve.plain()), method=method, calibrator=calibrator)


def summary(
    method: str,
    calibrator: str,
    metric: str,
    values: Floats,
    design: Design,
    runs: Sequence[Evaluation] = (),
) -> Summary:
    """A row of the results table, from values [S, N]: the mean with its 95% interval, within what is possible.

    For the ECE, ``runs`` are those of the S runs.  Their intervals over the test examples are averaged, and widened by
    the spread between the runs.
    """
    means = single(values, design)
    mean, half = float(means.mean[0]), float(means.half_width(LEVEL)[0])
    low, high = clip(metric, mean - half, mean + half)
    if metric == "error":
        low, high = _of_a_share(means, half, values.shape[1])
    floor = None
    if runs:
        floor = float(np.mean([run.floor for run in runs]))
        between = float(Means(means.mean, means.variance[:, :1], means.freedom[:, :1]).half_width(LEVEL)[0])
        between = between if len(runs) > 1 else 0.0
        low = mean - float(np.hypot(mean - np.mean([run.ece_interval[0] for run in runs]), between))
        high = mean + float(np.hypot(np.mean([run.ece_interval[1] for run in runs]) - mean, between))
        low, high = clip(metric, low, high)
    return Summary(method, calibrator, metric, mean, low, high, len(values), floor)


def _of_a_share(means: Means, half: float, examples: int) -> tuple[float, float]:
    """Wilson's interval of a share, for as many independent examples as have its standard error (Korn, Graubard 1998).

    Of no error in N examples nothing is known but their number.
    """
    share, error = float(means.mean[0]), float(means.error[0])
    from scipy.stats import norm

    quantile = half / error if error > 0 else float(norm.isf(LEVEL / 2))
    count = share * (1 - share) / error**2 if error > 0 else float(examples)
    square = quantile**2 / count
    middle = (share + square / 2) / (1 + square)
    width = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return float(min(max(middle - width, 0.0), share)), float(max(min(middle + width, 1.0), share))
