"""Coverage of the metrics' intervals, of the verdict, and of the differences of two models, on known models."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from coverage_cells import Cell, Line
from scipy.optimize import minimize_scalar

from labelsmooth import metrics
from labelsmooth.metrics import Interval
from labelsmooth.metrics.binning import assign, bin_edges, into_bins
from labelsmooth.metrics.smooth import SmoothGrid, fixed_point, smoothed

LEVEL, BAR, REFERENCE = 0.95, 0.92, 200_000
SLOPES = {"calibrated": 1.0, "over-confident": 1.5, "under-confident": 0.7}
METRICS = ("error", "confidence_gap", "nll", "brier", "ece", "smooth_ece", "ks", "aurc", "e_aurc", "augrc")


@dataclass(frozen=True)
class Sample:
    """Predictions of a known model: the predicted class's confidence and its true probability of being right.

    `others` [N, K - 1] are the shares of the other classes in the rest, claimed and true alike.
    """

    confidence: Any
    accuracy: Any
    others: Any


def draw(rng: Any, rows: int, classes: int, error: float, slope: float) -> Sample:
    """Accuracies between 1/2 and 1 with the mean 1 - error; the confidences have `slope` times their log-odds."""
    wrong = 0.5 * rng.beta(0.6, 0.6 * (0.5 / error - 1.0), rows)
    accuracy = 1.0 - np.maximum(wrong, 1e-9)
    confidence = 1.0 / (1.0 + (1.0 / accuracy - 1.0) ** slope)
    others = rng.dirichlet(np.ones(classes - 1), rows) if classes > 2 else np.ones((rows, 1))
    return Sample(confidence, accuracy, others)


def with_labels(rng: Any, sample: Sample) -> tuple[Any, Any, Any]:
    """Probabilities [N, K] with the predicted class in any place, true probabilities [N, K], and labels drawn."""
    rows, rest = sample.others.shape
    place = rng.permuted(np.tile(np.arange(rest + 1), (rows, 1)), axis=1)
    tables = []
    for top in (sample.confidence, sample.accuracy):
        table = np.empty((rows, rest + 1))
        values = np.concatenate([top[:, None], (1.0 - top)[:, None] * sample.others], axis=1)
        np.put_along_axis(table, place, values, axis=1)
        tables.append(table)
    p, truth = tables
    labels = (truth.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(max=rest)
    return p, truth, labels


@lru_cache(maxsize=4)
def population(classes: int, error: float, slope: float) -> tuple[Sample, dict[str, float]]:
    """A large sample that stands for the population, and the metrics that do not depend on the sample's own bins."""
    sample = draw(np.random.default_rng(1), REFERENCE, classes, error, slope)
    c, a, w = sample.confidence, sample.accuracy, sample.others
    rest = 1.0 - c
    falling = np.argsort(-c, kind="stable")
    risk = np.cumsum((1.0 - a)[falling]) / np.arange(1, REFERENCE + 1)
    rate = float((1.0 - a).mean())
    squares = rest**2 * (w**2).sum(axis=1)
    # Of each other class: (1 - p_k)² + the squares of all others.
    others = (w * (c[:, None] ** 2 + squares[:, None] + 1.0 - 2.0 * rest[:, None] * w)).sum(axis=1)
    gap = c - a
    return sample, {
        "error": rate,
        "confidence_gap": float(gap.mean()),
        "nll": float((-a * np.log(c) - (1.0 - a) * (w * np.log(np.maximum(rest[:, None] * w, 1e-300))).sum(1)).mean()),
        "brier": float((a * (rest**2 + squares) + (1.0 - a) * others).mean()),
        "ks": float(np.abs(np.cumsum(gap[falling[::-1]])).max() / REFERENCE),
        "aurc": float(risk.mean()),
        "e_aurc": float(risk.mean()) - (rate + (1.0 - rate) * float(np.log1p(-rate))),
        "augrc": float((np.cumsum((1.0 - a)[falling]) / REFERENCE).mean()),
    }


def binned_truth(p: Any, right: Any, confidence: Any, gap: Any, bins: int = 15) -> float:
    """The calibration error of a population in the equal-mass bins of a sample."""
    edges = bin_edges(p, bins, "equal-mass")
    return float(np.abs(np.bincount(assign(confidence, edges), gap, len(edges) - 1)).sum() / len(confidence))


def truths(p: Any, truth: Any, labels: Any, classes: int, error: float, slope: float) -> dict[str, float]:
    """All truths: of the population, with the bins and the bandwidth of this sample."""
    reference, known = population(classes, error, slope)
    c, gap = reference.confidence, reference.confidence - reference.accuracy
    top, right = p.max(axis=1), p.argmax(axis=1) == labels
    ones = np.ones(len(top))
    sigma = fixed_point(SmoothGrid(top).cells(ones, top - right))
    curve = smoothed(SmoothGrid(c).cells(np.ones(len(c)), gap), sigma)
    by_class = [binned_truth(p[:, k], None, p[:, k], p[:, k] - truth[:, k]) for k in range(classes)]
    return {
        **known,
        "ece": binned_truth(top, right, c, gap),
        "smooth_ece": float(np.abs(curve).sum()),
        "class-wise ECE": float(np.mean(by_class)),
    }


def generator(name: str) -> Any:
    return np.random.default_rng(zlib.crc32(name.encode()))


def count_held(
    name: str, kind: str, classes: int, rows: int, error: float, repeats: int, resamples: int,
    truths_of: Callable[..., dict[str, float]], intervals_of: Callable[..., dict[str, Any]], rounding: float,
) -> list[Line]:  # fmt: skip
    """How often each interval holds the truth, to within rounding."""
    rng, slope = generator(name), SLOPES[kind]
    held: dict[str, int] = {}
    for repeat in range(repeats):
        p, truth, labels = with_labels(rng, draw(rng, rows, classes, error, slope))
        intervals = intervals_of(p, labels, Interval(LEVEL, resamples=resamples, seed=repeat))
        for quantity, value in truths_of(p, truth, labels, classes, error, slope).items():
            interval = intervals[quantity]
            held[quantity] = held.get(quantity, 0) + (interval.low - rounding <= value <= interval.high + rounding)
    return [Line(name, quantity, LEVEL, count / repeats, repeats, BAR) for quantity, count in held.items()]


def grid_of_cells(quick: bool, classes: tuple[int, ...], rows: tuple[int, ...], *counted: object) -> list[Cell]:
    """A cell for each kind of model, number of classes and rows, and error rate."""
    grid = product(SLOPES, classes, rows, (0.005, 0.03, 0.12))
    if quick:
        grid = product(SLOPES, (10,), (100,), (0.005, 0.12))
    repeats, resamples = (30, 100) if quick else (40, 200)
    return [
        Cell(f"{kind}, K={k}, N={n}, error {error:g}", count_held, (kind, k, n, error, repeats, resamples, *counted))
        for kind, k, n, error in grid
    ]


def metric_intervals(p: Any, labels: Any, settings: Interval) -> dict[str, Any]:
    class_wise = metrics.ece(p, labels, scope="class-wise", interval=settings)
    return {**metrics.summary(p, labels, interval=settings), "class-wise ECE": class_wise}


def cells(quick: bool) -> list[Cell]:
    """The metrics."""
    return grid_of_cells(quick, (2, 10, 100), (50, 200, 1000, 2000), truths, metric_intervals, 1e-12)


@lru_cache(maxsize=4)
def best_temperature(classes: int, error: float, slope: float, rows: int = 50_000) -> tuple[float, float]:
    """The NLL of a population, and the least NLL at any temperature."""
    sample = draw(np.random.default_rng(2), rows, classes, error, slope)
    log_p, truth = (
        np.concatenate([top[:, None], (1.0 - top)[:, None] * sample.others], axis=1)
        for top in (sample.confidence, sample.accuracy)
    )
    log_p = np.log(np.maximum(log_p, 1e-300))

    def nll(log_beta: float) -> float:
        z = np.exp(log_beta) * log_p
        return float((np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - (truth * z).sum(1)).mean())

    return nll(0.0), float(minimize_scalar(nll, bounds=(-1.5, 1.5), method="bounded").fun)


def split_truths(p: Any, truth: Any, labels: Any, classes: int, error: float, slope: float) -> dict[str, float]:
    """The parts of the NLL, and of the Brier score with the bins of this sample."""
    nll, least = best_temperature(classes, error, slope)
    questions = range(classes)
    reference, known = population(classes, error, slope)
    rng = np.random.default_rng(3)
    rows = slice(0, REFERENCE // 4 if classes > 10 else REFERENCE)
    part = Sample(*(values[rows] for values in (reference.confidence, reference.accuracy, reference.others)))
    claimed, true, _ = with_labels(rng, part)
    refinement = uncertainty = 0.0
    for k in questions:
        edges = into_bins(p[:, k], (labels == k).astype(float), 15, "equal-mass").edges
        index, bins = assign(claimed[:, k], edges), len(edges) - 1
        count = np.bincount(index, minlength=bins)
        share = np.bincount(index, true[:, k], bins) / np.maximum(count, 1)
        refinement += float((count * share * (1.0 - share)).sum() / len(claimed))
        mean = float(true[:, k].mean())
        uncertainty += mean * (1.0 - mean)
    return {
        "NLL calibration": nll - least,
        "NLL refinement": least,
        "Brier calibration": known["brier"] - refinement,
        "Brier refinement": refinement,
        "Brier uncertainty": uncertainty,
        "Brier resolution": uncertainty - refinement,
    }


def split_intervals(p: Any, labels: Any, settings: Interval) -> dict[str, Any]:
    nll = metrics.nll_split(p, labels, interval=settings)
    brier = metrics.brier_split(p, labels, interval=settings)
    return {
        "NLL calibration": nll.calibration,
        "NLL refinement": nll.refinement,
        "Brier calibration": brier.calibration,
        "Brier refinement": brier.refinement,
        "Brier uncertainty": brier.uncertainty,
        "Brier resolution": brier.resolution,
    }


def split_cells(quick: bool) -> list[Cell]:
    """The parts of NLL and Brier score, whose truth is found numerically."""
    return grid_of_cells(quick, (2, 10), (50, 200, 1000), split_truths, split_intervals, 1e-6)


def count_verdicts(
    name: str, kind: str, classes: int, rows: int, error: float, repeats: int, resamples: int
) -> list[Line]:
    """How often the verdict is wrong: of a calibrated model anything but "calibrated" or "too few rows"."""
    rng, slope = generator(name), SLOPES[kind]
    counts: dict[str, int] = {}
    for repeat in range(repeats):
        p, _, labels = with_labels(rng, draw(rng, rows, classes, error, slope))
        summary = metrics.summary(p, labels, interval=Interval(LEVEL, resamples=resamples, seed=repeat))
        status = metrics.verdict(summary).status
        counts[status] = counts.get(status, 0) + 1
    right = {"calibrated", "too few rows"} if kind == "calibrated" else {kind, "miscalibrated", "too few rows"}
    wrong = sum(count for status, count in counts.items() if status not in right)
    # The gap may be wrong in 5% of samples, and the ECE on one side in 2.5%.
    lines = [Line(name, "wrong verdict", 0.075, wrong / repeats, repeats, 0.075, at_most=True)]
    return lines + [Line(name, status, 0.0, count / repeats, repeats, 0.0) for status, count in sorted(counts.items())]


def verdict_cells(quick: bool) -> list[Cell]:
    """Verdicts on calibrated models, the very confident ones too, and on others."""
    settings = [
        ("calibrated", 10, rows, error) for rows, error in product((10, 50, 100, 200, 1000), (0.003, 0.01, 0.05, 0.2))
    ]
    settings += [(kind, 10, rows, 0.1) for kind in ("over-confident", "under-confident") for rows in (50, 200, 1000)]
    if quick:
        settings = [row for row in settings if row[2] == 50]
    repeats, resamples = (30, 100) if quick else (100, 200)
    return [
        Cell(f"{kind}, K={k}, N={n}, error {error:g}", count_verdicts, (kind, k, n, error, repeats, resamples))
        for kind, k, n, error in settings
    ]


def pair(rng: Any, rows: int, error: float, slopes: tuple[float, float]) -> tuple[Any, Any, Any]:
    """Two models' probabilities [N, 10] on the same labels: as accurate as each other, of two slopes of confidence."""
    labels = rng.integers(0, 10, rows)
    tables = []
    for slope in slopes:
        sample = draw(rng, rows, 10, error, slope)
        top = np.where(rng.random(rows) < sample.accuracy, labels, (labels + rng.integers(1, 10, rows)) % 10)
        p = np.repeat((1.0 - sample.confidence)[:, None] / 9.0, 10, axis=1)
        p[np.arange(rows), top] = sample.confidence
        tables.append(p)
    return tables[0], tables[1], labels


def count_differences(
    name: str, slopes: tuple[float, float], rows: int, error: float, repeats: int, resamples: int
) -> list[Line]:
    """How often two models are said to differ: at most in 5% of samples where they do not."""
    rng = generator(name)
    compared = ("error", "nll", "brier", "ece", "debiased_ece", "smooth_ece", "ks", "confidence_gap", "aurc", "augrc")
    called = dict.fromkeys(compared, 0)
    for repeat in range(repeats):
        first, second, labels = pair(rng, rows, error, slopes)
        for metric in compared:
            settings = Interval(LEVEL, resamples=resamples, seed=repeat)
            called[metric] += metrics.compare(metric, first, second, labels, interval=settings).p_value < 0.05
    alike = slopes[0] == slopes[1]
    return [
        Line(name, metric, 0.05 if alike else 1.0, count / repeats, repeats, 0.05 if alike else 0.0, at_most=alike)
        for metric, count in called.items()
    ]


def difference_cells(quick: bool) -> list[Cell]:
    """Two models that are alike, calibrated or not, and two of which one is over-confident."""
    settings = list(product(((1.0, 1.0), (1.5, 1.5), (1.0, 1.5)), (200, 1000), (0.05, 0.2)))
    settings = settings[1::5] if quick else settings
    repeats, resamples = (30, 100) if quick else (100, 200)
    return [
        Cell(
            f"slopes {slopes[0]:g} and {slopes[1]:g}, N={n}, error {error:g}",
            count_differences,
            (slopes, n, error, repeats, resamples),
        )
        for slopes, n, error in settings
    ]
