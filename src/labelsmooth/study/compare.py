"""How sure a number is: intervals over seeds and test examples, paired differences, Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelsmooth.study.records import Comparison

__all__ = ["HEADLINES", "ZERO", "Estimate", "Pair", "Table", "compare", "estimate", "planned_comparisons"]

Floats = NDArray[np.float64]
Table = Mapping[tuple[str, str, str], Floats]  # (method, calibrator, metric) -> [seeds, examples]

HEADLINES = ("error", "nll", "ece", "aurc")  # on which every method is compared with plain training
ZERO = ""  # the reference of a comparison of a number with 0
LEVEL = 0.05
MOST_SEEDS = 200


@dataclass(frozen=True)
class Estimate:
    """A mean over S seeds and N test examples, and its two sources of error.

    The seeds' part is the variance between seeds over S; it is unknown, and left out, where S is 1: the estimate
    then speaks of the examples alone.  The examples' part is the variance between examples over N.  Their sum
    counts the interaction of the two twice, so an interval is a little too wide rather than too narrow.  Degrees
    of freedom are Satterthwaite's.
    """

    mean: float
    seed_variance: float
    example_variance: float
    seeds: int
    examples: int

    def error(self, seeds: int | None = None) -> float:
        """The standard error, with these or another number of seeds."""
        between = self.seed_variance * self.seeds / (seeds or self.seeds)
        return float(np.sqrt(between + self.example_variance))

    def freedom(self, seeds: int | None = None) -> float:
        """Degrees of freedom, with these or another number of seeds."""
        count = seeds or self.seeds
        between = self.seed_variance * self.seeds / count
        total = between + self.example_variance
        if total == 0:
            return float(max(self.examples - 1, 1))
        parts = self.example_variance**2 / max(self.examples - 1, 1)
        if count > 1:
            parts += between**2 / (count - 1)
        return float(total**2 / parts) if parts > 0 else float(max(self.examples - 1, 1))

    def interval(self, level: float = LEVEL, seeds: int | None = None) -> tuple[float, float]:
        """The interval that covers the mean with probability 1 - level."""
        from scipy.stats import t

        half = float(t.isf(level / 2, self.freedom(seeds))) * self.error(seeds)
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Two-sided, of a mean of 0."""
        from scipy.stats import t

        if self.error() == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * t.sf(abs(self.mean) / self.error(), self.freedom()))

    def seeds_needed(self, level: float) -> int | None:
        """How many seeds would make the interval exclude 0, if mean and variances stayed; None: not even many."""
        if self.mean == 0:
            return None
        for seeds in range(max(self.seeds, 2), MOST_SEEDS + 1):
            low, high = self.interval(level, seeds)
            if low > 0 or high < 0:
                return seeds
        return None


def estimate(values: Floats) -> Estimate:
    """The mean of [S, N] values, for S seeds over the same N test examples."""
    seeds, examples = values.shape
    by_seed, by_example = values.mean(1), values.mean(0)
    return Estimate(
        float(values.mean()),
        float(by_seed.var(ddof=1) / seeds) if seeds > 1 else 0.0,
        float(by_example.var(ddof=1) / examples) if examples > 1 else 0.0,
        seeds,
        examples,
    )


Pair = tuple[tuple[str, str], tuple[str, str], str]  # (method, calibrator), its reference, metric


def planned_comparisons(methods: tuple[str, ...], calibrators: tuple[str, ...]) -> list[Pair]:
    """All comparisons that a study makes, chosen before any result is seen; they are corrected together."""
    plain = ("plain", "none")
    pairs: list[Pair] = [((method, "none"), (ZERO, ZERO), "confidence_gap") for method in methods]
    pairs += [((method, "none"), plain, metric) for method in methods if method != "plain" for metric in HEADLINES]
    pairs += [(("plain", name), plain, metric) for name in calibrators if name != "none" for metric in ("nll", "ece")]
    if "label-smoothing" in methods and "temperature" in calibrators:
        scaled, smoothed = ("plain", "temperature"), "label-smoothing"
        pairs += [(scaled, (smoothed, "none"), metric) for metric in ("nll", "ece")]
        pairs += [((smoothed, "temperature"), scaled, metric) for metric in ("nll", "ece", "aurc")]
    return pairs


def compare(table: Table, pairs: list[Pair]) -> list[Comparison]:
    """Compare each pair, by seed and by test example, and correct for their number (Holm 1979).

    The k-th smallest p-value (k from 0) of m is tested at 0.05 / (m - k), until the first that fails; the interval
    of a comparison has the level that it was tested at, those after the first failure the level of that failure.  So
    an interval excludes 0 exactly where the difference is called.  With one seed no difference of two trainings is
    called, because nothing is known of the difference that another seed would make.
    """
    estimates = []
    for (method, calibrator), (other, other_calibrator), metric in pairs:
        values = table[method, calibrator, metric]
        estimates.append(estimate(values if other == ZERO else values - table[other, other_calibrator, metric]))
    p_values = [result.p_value() for result in estimates]
    level, going_on = LEVEL, True
    results: dict[int, Comparison] = {}
    for k, index in enumerate(sorted(range(len(pairs)), key=lambda index: p_values[index])):
        (method, calibrator), (other, other_calibrator), metric = pairs[index]
        result = estimates[index]
        if going_on:
            level = LEVEL / (len(pairs) - k)
            going_on = p_values[index] <= level
        one_training = method == other or other == ZERO
        called = going_on and (result.seeds > 1 or one_training)
        low, high = result.interval(level)
        results[index] = Comparison(
            method,
            calibrator,
            other,
            other_calibrator,
            metric,
            result.mean,
            low,
            high,
            p_values[index],
            called,
            0 if called else result.seeds_needed(level),
        )
    return [results[index] for index in range(len(pairs))]
