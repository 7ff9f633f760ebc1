"""How often a study's comparisons are wrong, where nothing differs, and how often they find what does.

Gaussian tables: 11 methods that are alike, 62 comparisons, of which a share of the variance is between seeds; then one
comparison is shifted by four standard errors for the power, and by the margin for false equivalence.  Networks: small
multi-layer perceptrons, trained alike under the names of six methods, on a fresh task in each repetition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from coverage_cells import Cell, Line

from labelsmooth.study.compare import compare
from labelsmooth.study.components import Design
from labelsmooth.study.evaluate import test_values
from labelsmooth.study.planned import planned_comparisons
from labelsmooth.study.recommend import candidates

BAR = 0.06  # of the share of families with a false difference
METHODS = (
    "plain",
    "label-smoothing",
    "weight-decay",
    "dropout",
    "early-stopping",
    "all",
)
MANY = (*METHODS, "mixup", "others", "prior", "margin", "focal")
CALIBRATORS = ("none", "temperature", "platt", "isotonic")
METRICS = ("error", "nll", "ece", "aurc", "confidence_gap")
SHARES = (0.0, 0.3, 0.5, 0.8, 0.9, 0.95)
EXAMPLES = 100
SHIFTED = 3  # every third table is analysed again with an effect
UNIT = 0.01  # the standard error of a difference
EFFECT = 4 * UNIT
MARGIN = {"error": EFFECT, "nll": EFFECT, "ece": EFFECT}


def gaussian(rng: np.random.Generator, seeds: int, share: float, outlier: float) -> dict[tuple[str, str, str], Any]:
    """Values whose differences of two methods have a standard error of 0.01.

    A tenth of the seeds' variance is common to all methods; of the examples' part of a difference a third is the
    interaction of seed and example.
    """
    shape = (len(METRICS), len(CALIBRATORS), len(MANY), seeds, EXAMPLES)
    seed, example = share / 2, (1 - share) / 2
    spread = np.sqrt(np.full(len(MANY), seed * seeds))
    spread[-1] *= np.sqrt(outlier)
    values = spread[:, None, None] * rng.standard_normal((*shape[:-1], 1))
    values = values + np.sqrt(0.1 * seed * seeds) * rng.standard_normal((*shape[:2], 1, seeds, 1))
    values = values + np.sqrt(example * EXAMPLES * 2 / 3) * rng.standard_normal((*shape[:3], 1, EXAMPLES))
    values = values + np.sqrt(example * EXAMPLES * seeds / 3) * rng.standard_normal(shape)
    return {
        (method, calibrator, metric): UNIT * values[i, j, k]
        for i, metric in enumerate(METRICS)
        for j, calibrator in enumerate(CALIBRATORS)
        for k, method in enumerate(MANY)
    }


def count_gaussian(name: str, seeds: int, share: float, outlier: float, repeats: int) -> list[Line]:
    """Families with a false difference, models that are alike of which the simplest is not chosen, and power."""
    rng = np.random.default_rng([seeds, int(100 * share), int(outlier)])
    pairs = planned_comparisons(MANY, CALIBRATORS)
    at = {
        (p.method, p.metric, p.family): i
        for i, p in enumerate(pairs)
        if p.calibrator == p.reference_calibrator == "none"
    }
    false = dict.fromkeys(("primary", "secondary"), 0)
    chosen = found_primary = found_secondary = false_equivalent = 0
    shifted = 0
    for repeat in range(repeats):
        values = gaussian(rng, seeds, share, outlier)
        results = compare(values, pairs, margins=MARGIN)
        for family in false:
            false[family] += any(c.significant for c in results if c.family == family)
        tied = {(c.method, c.calibrator) for c in candidates(values, results, Design()) if c.tied}
        chosen += ("plain", "temperature") not in tied
        if repeat % SHIFTED:
            continue
        shifted += 1
        for method in ("dropout", "label-smoothing"):
            values[method, "none", "error"] = values[method, "none", "error"] + EFFECT
        results = compare(values, pairs, margins=MARGIN)
        found_secondary += results[at["dropout", "error", "secondary"]].significant
        found_primary += results[at["label-smoothing", "error", "primary"]].significant
        false_equivalent += results[at["dropout", "error", "secondary"]].small
    return [
        *(Line(name, f"false, {family}", 0.05, count / repeats, repeats, BAR, True) for family, count in false.items()),
        Line(name, "simplest not chosen", 0.1, chosen / repeats, repeats, 0.1, True),
        Line(
            name,
            "false equivalence",
            0.05,
            false_equivalent / shifted,
            shifted,
            BAR,
            True,
        ),
        Line(name, "power, primary", 1.0, found_primary / shifted, shifted, 0.0),
        Line(name, "power, secondary", 1.0, found_secondary / shifted, shifted, 0.0),
    ]


def trained(rng: np.random.Generator, train: Any, labels: Any, test: Any) -> Any:
    """Logits [B, N, K] of B networks, trained for 40 steps of Adam from their own initial weights, [B, n, D] each."""
    runs, _, size = train.shape
    hidden, classes = 12, 4

    def weights(*shape: int) -> torch.Tensor:
        drawn = rng.standard_normal((runs, *shape)) / np.sqrt(shape[0])
        return torch.tensor(drawn, dtype=torch.float32).requires_grad_()

    first, second = weights(size, hidden), weights(hidden, classes)
    bias = torch.zeros(runs, 1, hidden, requires_grad=True)
    optimiser = torch.optim.Adam([first, bias, second], 0.03)
    for _ in range(40):
        optimiser.zero_grad()
        logits = torch.relu(train @ first + bias) @ second
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").backward()
        optimiser.step()
    with torch.no_grad():
        return torch.relu(test @ first + bias) @ second


def scaled(logits: Any, labels: Any) -> Any:
    """The temperature with the lowest NLL for each network, from a grid, [B, 1, 1]."""
    grid = torch.logspace(-0.7, 0.7, 25)
    nll = torch.stack([-torch.log_softmax(logits / t, -1).gather(-1, labels[..., None]).mean((1, 2)) for t in grid])
    return grid[nll.argmin(0)][:, None, None]


def network_tables(seeds: int, repeats: int, redrawn: bool) -> Iterator[dict[tuple[str, str, str], Any]]:
    """The values of identical networks on fresh tasks: four overlapping clusters in eight dimensions.

    Args:
        redrawn: whether every seed draws its own training and test part of 700 examples, or all share one.
    """
    runs = len(METHODS) * seeds
    for repeat in range(repeats):
        rng = np.random.default_rng([seeds, repeat, redrawn])
        centres = rng.standard_normal((4, 8))
        sizes = (150, 100, 450 if redrawn else 1000)
        y = rng.integers(0, 4, sum(sizes))
        x = centres[y] + 1.6 * rng.standard_normal((len(y), 8))
        orders = [rng.permutation(len(y)) if redrawn else np.arange(len(y)) for _ in range(seeds)] * len(METHODS)
        parts = [np.split(order, np.cumsum(sizes)[:-1]) for order in orders]
        index = [np.stack([part[i] for part in parts]) for i in range(3)]
        train, validation, test = (torch.tensor(x[i], dtype=torch.float32) for i in index)
        labels = [torch.tensor(y[i]) for i in index]
        logits = trained(rng, train, labels[0], torch.cat([validation, test], 1))
        temperature = scaled(logits[:, :100], labels[1])
        values: dict[tuple[str, str, str], list[Any]] = {}
        for calibrator, z in (("none", logits), ("temperature", logits / temperature)):
            p = torch.softmax(z[:, 100:].double(), -1).numpy()
            for run in range(runs):
                measured, _ = test_values(p[run], labels[2][run].numpy())
                for metric in METRICS[:4]:
                    values.setdefault((METHODS[run // seeds], calibrator, metric), []).append(measured[metric])
        yield {key: np.stack(arrays) for key, arrays in values.items()}


def count_networks(name: str, seeds: tuple[int, ...], redrawn: bool, repeats: int) -> list[Line]:
    """Families with a false difference, for the first few and for all seeds of the same networks."""
    torch.set_num_threads(1)
    pairs = [
        pair
        for pair in planned_comparisons(METHODS, ("none", "temperature"))
        if pair.method != pair.reference_method
        and pair.reference_method
        and pair.calibrator == pair.reference_calibrator
    ]
    counts = {(count, family): 0 for count in seeds for family in ("primary", "secondary")}
    for values in network_tables(max(seeds), repeats, redrawn):
        for count in seeds:
            design = Design(count, 450 / 150, same_test=False) if redrawn else Design()
            results = compare({key: array[:count] for key, array in values.items()}, pairs, design)
            for family in ("primary", "secondary"):
                counts[count, family] += any(c.significant for c in results if c.family == family)
    return [
        Line(
            f"{name}, {count} seeds",
            f"false, {family}",
            0.05,
            false / repeats,
            repeats,
            BAR,
            True,
        )
        for (count, family), false in counts.items()
    ]


def cells(quick: bool) -> list[Cell]:
    """Shares of the seeds' variance, one method whose seeds vary 4 times as much, and networks."""
    settings = [(seeds, share, 1.0) for seeds in (3, 5, 10) for share in SHARES]
    settings += [(seeds, 0.5, 16.0) for seeds in (3, 5, 10)]
    if quick:
        settings = [(3, 0.5, 1.0), (5, 0.9, 1.0)]
    repeats = 30 if quick else 300
    cells = []
    for seeds, share, outlier in settings:
        name = f"Gaussian, {seeds} seeds, {share:.0%} of the variance"
        name += ", one 4 times" if outlier > 1 else ""
        cells.append(Cell(name, count_gaussian, (seeds, share, outlier, repeats)))
    if quick:
        return [*cells, Cell("networks", count_networks, ((3,), False, 6))]
    return cells + [
        Cell(
            "networks, a split each" if redrawn else "networks",
            count_networks,
            ((3, 5, 10), redrawn, 100),
        )
        for redrawn in (False, True)
    ]
