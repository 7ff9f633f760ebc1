"""The study's comparisons: planned in two families, paired, corrected, and given one of three verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from labelsmooth.study.components import Design, Means, stacked
from labelsmooth.study.planned import ZERO, Pair, Table
from labelsmooth.study.records import Comparison, Verdict
from labelsmooth.study.spreads import Spreads

Floats = NDArray[np.float64]

LEVEL = 0.05
MARGINS = {"error": 0.005, "ece": 0.01, "nll": 0.01}  # differences that do not matter
MIN_UNITS = 3  # with fewer seeds (or splits) no difference is significant
POWER = 0.8
MOST_SEEDS = 200
FEW_ERRORS = 5  # below so many misclassified test examples nothing is known of what an error costs
# The least and the largest value that a metric can have.
POSSIBLE = {
    **dict.fromkeys(("error", "ece", "ece_equal_width", "aurc"), (0.0, 1.0)),
    "brier": (0.0, 2.0),
    "nll": (0.0, math.inf),
    "confidence_gap": (-1.0, 1.0),
}


def compare(
    table: Table,
    pairs: Sequence[Pair],
    design: Design | None = None,
    margins: Mapping[str, float] | None = None,
    wrong: Mapping[str, float] | None = None,
) -> list[Comparison]:
    """Compare each pair, by seed and by test example, and correct each family for its number (Holm 1979).

    The k-th smallest p-value (k from 0) of m is tested at 0.05 / (m - k), until the first that fails; the interval of
    a comparison has the level that it was tested at, those after the first failure the level of that failure.  So an
    interval excludes 0 exactly where the difference is significant.  With fewer than three seeds none is.

    A comparison *differs* where it is significant, is *equivalent* where it is not and its 90% interval lies within
    the margin of its metric (two one-sided tests, Schuirmann 1987), and is *inconclusive* otherwise.

    Args:
        table: values [S, N] by (method, calibrator, metric); all methods in all metrics of the pairs.
        pairs: what to compare.
        design: how the runs differ, by default in their seed alone.
        margins: by metric, by default :data:`MARGINS`.
        wrong: how many test examples each method misclassifies, as a mean over the seeds.  Where neither method of a
            pair has :data:`FEW_ERRORS`, differences other than the error's are inconclusive.  All have by default.
    """
    design, margins = design or Design(), MARGINS if margins is None else margins
    spreads = Spreads(table, design)
    results: dict[Pair, Comparison] = {}
    for family in ("primary", "secondary"):
        chosen = [pair for pair in pairs if pair.family == family]
        results |= zip(chosen, _family(table, chosen, spreads, margins, wrong or {}), strict=True)
    return [results[pair] for pair in pairs]


def has_few_errors(wrong: Mapping[str, float], *methods: str) -> bool:
    """Whether none of these methods misclassifies enough test examples to compare what their errors cost."""
    return all(wrong.get(method, math.inf) < FEW_ERRORS for method in methods if method != ZERO)


def _family(
    table: Table, pairs: Sequence[Pair], spreads: Spreads, margins: Mapping[str, float], wrong: Mapping[str, float]
) -> list[Comparison]:
    """The comparisons of one family."""
    if not pairs:
        return []
    differences = [_difference(table, pair) for pair in pairs]
    usable = [bool(np.isfinite(values).all()) for values in differences]
    finite = [values if fine else np.zeros_like(values) for values, fine in zip(differences, usable, strict=True)]
    rows, components = zip(
        *(spreads.row(pair, values) for pair, values in zip(pairs, finite, strict=True)), strict=True
    )
    means = stacked(rows)
    rare = [p.metric != "error" and has_few_errors(wrong, p.method, p.reference_method) for p in pairs]
    p_values = np.where(usable & ~np.array(rare), means.p_value(), 1.0)
    enough = spreads.units >= MIN_UNITS
    significant, levels = holm(p_values)
    half, near = means.half_width(levels), means.half_width(2 * LEVEL)
    significant &= enough
    limits = np.array([margins.get(pair.metric, 0.0) for pair in pairs])
    needed = _seeds_needed(means, spreads.units, levels, limits)
    results = []
    for index, pair in enumerate(pairs):
        mean, margin = float(means.mean[index]), margins.get(pair.metric)
        identical = not finite[index].any()
        same = identical or (enough and margin is not None and abs(mean) + float(near[index]) < margin)
        verdict: Verdict = "differs" if significant[index] else "equivalent" if same else "inconclusive"
        note = ""
        if not usable[index]:
            verdict, note = "inconclusive", "infinite: a test label has the probability 0"
        elif identical:
            note = "identical on every test example"
        elif rare[index]:
            verdict, note = "inconclusive", f"inconclusive: fewer than {FEW_ERRORS} test examples are misclassified"
        (low, high), (low90, high90) = (
            clip(pair.metric, mean - float(h[index]), mean + float(h[index]), difference=pair.reference_method != ZERO)
            for h in (half, near)
        )
        results.append(
            Comparison(
                *pair,
                difference=mean,
                low=low,
                high=high,
                low90=low90,
                high90=high90,
                p_value=float(p_values[index]),
                verdict=verdict,
                margin=margin,
                seeds_needed=needed[index] if verdict == "inconclusive" and not note else 0,
                components=components[index],
                note=note,
            )
        )
    return results


def holm(p_values: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Which of m p-values are significant under Holm's correction at 0.05, and the level of each one's interval."""
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    tested = LEVEL / (count - np.arange(count))
    passed = np.logical_and.accumulate(p_values[order] <= tested)
    last = min(int(passed.sum()), count - 1)
    significant, levels = np.empty(count, bool), np.empty(count)
    significant[order] = passed
    levels[order] = np.where(passed, tested, tested[last])
    return significant, levels


def clip(metric: str, low: float, high: float, difference: bool = False) -> tuple[float, float]:
    """An interval of a metric, or of a difference of two of its values, without what is not possible."""
    least, most = POSSIBLE.get(metric, (-math.inf, math.inf))
    if difference:
        least, most = least - most, most - least
    return max(low, least), min(high, most)


def _difference(table: Table, pair: Pair) -> Floats:
    values = table[pair.method, pair.calibrator, pair.metric]
    if pair.reference_method == ZERO:
        return values
    return values - table[pair.reference_method, pair.reference_calibrator, pair.metric]


def _seeds_needed(means: Means, units: int, levels: Floats, margins: Floats) -> list[int | None]:
    """How many seeds would show a difference of this size, or its absence, with a probability of 80%.

    None where 200 would not, or where nothing is known of the variance between seeds.
    """
    from scipy.special import ndtri

    if units < 2:
        return [None] * len(levels)

    def settled(seeds: NDArray[np.int64]) -> NDArray[np.bool_]:
        scale = np.stack([units / seeds, units / seeds, np.ones(len(seeds))], -1)
        freedom = np.stack([(seeds - 1) / (units - 1)] * 2 + [np.ones(len(seeds))], -1)
        future = Means(means.mean, means.variance * scale, means.freedom * freedom)
        size, reach = np.abs(means.mean), float(ndtri(POWER)) * future.error
        shown = size > future.half_width(levels) + reach
        return np.asarray(shown | (size + future.half_width(2 * LEVEL) + reach < margins))

    # The smallest that settles it, by bisection: more seeds never leave open what fewer settle.
    low, high = np.full(len(levels), max(units, MIN_UNITS)), np.full(len(levels), MOST_SEEDS + 1)
    while (low < high).any():
        middle = (low + high) // 2
        enough = settled(np.minimum(middle, MOST_SEEDS)) & (middle <= MOST_SEEDS)
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return [int(seeds) if seeds <= MOST_SEEDS else None for seeds in low]
