"""How large a study must be: from a pilot's variance components, the smallest difference that seeds and images show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelsmooth.errors import UserError
from labelsmooth.study.compare import LEVEL, MIN_UNITS, POWER
from labelsmooth.study.components import Means
from labelsmooth.study.records import Comparison, StudyRecord

SEEDS = (3, 5, 10, 20)
TIMES = (1, 2, 4, 10)  # the pilot's test examples


@dataclass(frozen=True)
class Plan:
    """The smallest differences in one metric, as ``smallest[i][j]`` for ``seeds[i]`` and ``examples[j]``."""

    metric: str
    seeds: list[int]
    examples: list[int]
    smallest: list[list[float]]


def plan(study: StudyRecord, seeds: Sequence[int] = SEEDS, examples: Sequence[int] | None = None) -> list[Plan]:
    r"""The differences of the primary comparisons that a study would find significant with a probability of 80%.

    .. math:: \delta = h(0.05 / m) + z_{0.8} \, \Big(\frac{V_\text{seed}}{S} + \frac{V_\text{example}}{N}
              + \frac{V_\text{both}}{S N}\Big)^{1/2}

    with h the half width of the interval at the strictest of Holm's levels for m comparisons.

    Args:
        study: a pilot with at least 2 seeds.
        seeds: numbers of seeds to ask about, at least 3 each.
        examples: numbers of test examples, by default the pilot's and 2, 4 and 10 times as many.

    Raises:
        UserError: the pilot has one seed or no primary comparison, or a number is too small.
    """
    rows = [row for row in study.comparisons if row.family == "primary"]
    if study.config.seeds < 2 or not rows:
        raise UserError(
            "A plan needs the variance between seeds of two methods: run the pilot with at least 2 seeds (--seeds 3) "
            "and with label-smoothing among its methods."
        )
    examples = examples or [times * study.data.test for times in TIMES]
    if min(seeds) < MIN_UNITS or min(examples) < 2:
        raise UserError(f"seeds={list(seeds)} and examples={list(examples)}: give at least 3 seeds and 2 examples.")
    grid = [(s, n) for s in seeds for n in examples]
    pilot = study.config.splits if study.config.splits > 1 else study.config.seeds
    return [
        Plan(
            row.metric,
            list(seeds),
            list(examples),
            _smallest(row, grid, pilot, LEVEL / len(rows)).reshape(len(seeds), -1).tolist(),
        )
        for row in rows
    ]


def _smallest(row: Comparison, grid: Sequence[tuple[int, int]], pilot: int, level: float) -> np.ndarray:
    from scipy.special import ndtri

    seeds, examples = np.array(grid, float).T
    parts = row.components
    units = (parts.split + parts.seed + parts.interaction / examples) / seeds
    freedom = parts.freedom * (seeds - 1) / (pilot - 1)
    variance = np.stack([units, parts.example / examples], -1)
    means = Means(np.zeros(len(seeds)), variance, np.stack([freedom, examples - 1], -1))
    return np.asarray(means.half_width(level) + float(ndtri(POWER)) * means.error)
