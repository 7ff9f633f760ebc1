"""The variance of every comparison of a study, each estimated with the help of all methods."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from labelsmooth.study.components import Design, Spread, between_examples, moderated, unit_means, vary_alike
from labelsmooth.study.planned import ZERO, Pair, Table
from labelsmooth.study.records import Components

Floats = NDArray[np.float64]
Row = tuple[float, list[tuple[float, float]]]  # a mean, and the variances of its parts with their degrees of freedom


class Spreads:
    """The variance between units (seeds, or splits) of every comparison, estimated over the methods of a table.

    Args:
        table: values [S, N] of all methods.
        design: how the runs of a method differ.
    """

    def __init__(self, table: Table, design: Design) -> None:
        self._table, self._design = table, design
        self._seeds = len(next(iter(table.values())))
        self._first = _firsts(table, self._seeds)
        self._known: dict[tuple[str, str, str], tuple[dict[str, int], Floats, Spread]] = {}
        self.units = design.units(self._seeds)

    def row(self, pair: Pair, values: Floats) -> tuple[Row, Components]:
        """The mean of a comparison's values [S, N] with the parts of its variance, and its components."""
        seeds, examples = values.shape
        if not values.any():
            return (0.0, [(0.0, 1.0)] * 3), Components(0.0, 0.0, 0.0, 0.0, 1.0)
        example, interaction = between_examples(values)
        unit, freedom = [0.0, 0.0], [1.0, 1.0]
        if self.units > 1:
            unit, freedom = self._between_units(pair, values)
        beside = example / examples if self._design.same_test or self.units == 1 else 0.0
        share = self._design.share(seeds)
        parts = [(v * share, f) for v, f in zip(unit, freedom, strict=True)] + [(beside, max(examples - 1.0, 1.0))]
        split, seed = self._split(values, sum(unit))
        own = max(seed - interaction / examples, 0.0)
        known = freedom[1] if unit[1] else freedom[0]
        return (float(values.mean()), parts), Components(split, own, example, interaction, known)

    def _split(self, values: Floats, unit: float) -> tuple[float, float]:
        """The variance between units as that of the split and that of the seed within a split."""
        splits = self._design.splits
        if splits == 1:
            return 0.0, unit
        size = len(values) // splits
        if size < 2:
            return unit, 0.0
        by_seed = values.mean(-1)
        within = float(np.mean([by_seed[split::splits].var(ddof=1) for split in range(splits)]))
        return max(unit - within / size, 0.0), within

    def _between_units(self, pair: Pair, values: Floats) -> tuple[list[float], list[float]]:
        """The variance of one unit as the part that all methods share and the rest, with their degrees of freedom.

        With x[m, u] the means by method and unit, a contrast within a method varies as its mean over the methods does,
        and beside that as the method's own residual.  A contrast of two methods under one calibrator shares nothing.
        """
        method, calibrator, reference, other, metric = pair[:5]
        freedom = float(self.units - 1)
        other = other if reference != ZERO else ZERO
        within = method == reference or reference == ZERO
        own = [(method, (calibrator, other if within else ZERO, metric))]
        if not within:
            own.append((reference, (other, ZERO, metric)))
        rest, degrees, alike = 0.0, float("inf"), True
        for name, key in own:
            places, _, spread = self._spread(*key)
            rest += float(spread.variance[places[self._first[name]]])
            degrees, alike = min(degrees, spread.freedom), alike and bool(spread.alike[places[self._first[name]]])
        if not alike:
            return [float(unit_means(values, self._design).var(ddof=1)), 0.0], [freedom, freedom]
        if calibrator == other:
            return [0.0, rest], [freedom, degrees]
        _, contrast, spread = self._spread(calibrator, other, metric)
        contrast = contrast[spread.alike]
        common = float(contrast.mean(0).var(ddof=1))
        return [common, max(rest - spread.pooled / len(contrast), 0.0)], [freedom, degrees]

    def _spread(self, calibrator: str, other: str, metric: str) -> tuple[dict[str, int], Floats, Spread]:
        """Distinct methods by place, their means [M, U] of a calibrator minus another, or of one alone, their spread.

        A method whose values are infinite is left out.
        """
        key = (calibrator, other, metric)
        if key not in self._known:
            means = {}
            for method in dict.fromkeys(self._first.values()):
                values = [self._table[method, name, metric] for name in (calibrator, other) if name != ZERO]
                if all(np.isfinite(array).all() for array in values):
                    difference = values[0] - values[1] if len(values) > 1 else values[0]
                    means[method] = unit_means(difference, self._design)
            contrast = np.stack(list(means.values()))
            alike = np.array([name in self._alike for name in means])
            self._known[key] = {name: i for i, name in enumerate(means)}, contrast, moderated(contrast, alike)
        return self._known[key]

    @cached_property
    def _alike(self) -> set[str]:
        """The methods whose seeds vary alike, by all metrics under all calibrators together."""
        names = list(dict.fromkeys(self._first.values()))
        cells = dict.fromkeys((calibrator, metric) for _, calibrator, metric in self._table)
        known = [cell for cell in cells if all((name, *cell) in self._table for name in names)]
        tables = [np.stack([unit_means(self._table[(name, *cell)], self._design) for name in names]) for cell in known]
        tables = [means for means in tables if np.isfinite(means).all()]
        if not tables:
            return set(names)
        return {name for name, same in zip(names, vary_alike(tables), strict=True) if same}


def _firsts(table: Table, seeds: int) -> dict[str, str]:
    """For each method the first one with the same results on some seed: itself, unless it is a copy.

    Early stopping that never stopped is plain training; as two methods the two would seem to agree by nature.
    """
    methods = list(dict.fromkeys(method for method, _, _ in table))
    cells = {method: [key[1:] for key in table if key[0] == method] for method in methods}

    def same(one: str, two: str, seed: int) -> bool:
        return all(np.array_equal(table[(one, *cell)][seed], table[(two, *cell)][seed]) for cell in cells[one])

    firsts: dict[str, str] = {}
    for method in methods:
        copies = (
            other
            for other in firsts
            if cells[other] == cells[method] and any(same(other, method, seed) for seed in range(seeds))
        )
        copied = next(copies, method)
        firsts[method] = firsts.get(copied, copied)
    return firsts
