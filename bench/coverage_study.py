"""How often a study's comparisons are wrong, where nothing differs, and how often they find what does.

Gaussian tables: 11 methods that are alike, 62 comparisons, of which a share of the variance is between seeds; then one
comparison is shifted by four standard errors for the power, and by the margin for false equivalence. Networks: small
multi-layer perceptrons, trained alike under the names of six methods, on a fresh task in each repetition. One table of
each family's error with its standard error:

    python bench/coverage_study.py [--quick]

The rows "one method's seeds vary 4 times as much" are outside what is assumed (like seed variances): they show what
moderation saves, and what it cannot save with three seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from harness import keep, machine
from harness import table as as_text

from labelsmooth.study.compare import compare
from labelsmooth.study.components import Design
from labelsmooth.study.evaluate import test_values
from labelsmooth.study.planned import planned_comparisons

COLUMNS = ["cell", "seeds", "seed_share", "repeats", "primary", "secondary", "standard_error", "power"]
COLUMNS += ["power_primary", "false_equivalent", "true_equivalent"]
METHODS = ("plain", "label-smoothing", "weight-decay", "dropout", "early-stopping", "all")
MANY = (*METHODS, "mixup", "others", "prior", "margin", "focal")
CALIBRATORS = ("none", "temperature", "platt", "isotonic")
METRICS = ("error", "nll", "ece", "aurc", "confidence_gap")
SHARES = (0.0, 0.3, 0.5, 0.8, 0.9, 0.95)
EXAMPLES = 100
SHIFTED = 3  # every third table is analysed again with an effect
UNIT = 0.01  # the standard error of a difference
EFFECT = 4 * UNIT
MARGIN = {"error": EFFECT, "nll": EFFECT, "ece": EFFECT}


@dataclass(frozen=True)
class Cell:
    """One line of the table: seeds, their share of the variance of a difference, the outlier's seed variance."""

    seeds: int
    share: float
    outlier: float = 1.0
    repeats: int = 100

    @property
    def name(self) -> str:
        outlier = f", one method's seeds vary {self.outlier**0.5:.0f} times as much"
        return "Gaussian" + (outlier if self.outlier > 1 else "")


def gaussian(rng: np.random.Generator, cell: Cell) -> dict[tuple[str, str, str], Any]:
    """Values whose differences of two methods have a standard error of 0.01.

    A tenth of the seeds' variance is common to all methods; of the examples' part of a difference a third is the
    interaction of seed and example.
    """
    seeds = cell.seeds
    shape = (len(METRICS), len(CALIBRATORS), len(MANY), seeds, EXAMPLES)
    seed, example = cell.share / 2, (1 - cell.share) / 2
    spread = np.sqrt(np.full(len(MANY), seed * seeds))
    spread[-1] *= np.sqrt(cell.outlier)
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


def one(cell: Cell) -> dict[str, Any]:
    """The rates of one cell."""
    rng = np.random.default_rng([cell.seeds, int(100 * cell.share), int(cell.outlier)])
    pairs = planned_comparisons(MANY, CALIBRATORS)
    at = {
        (p.method, p.metric, p.family): i
        for i, p in enumerate(pairs)
        if p.calibrator == p.reference_calibrator == "none"
    }
    counts: dict[str, int] = dict.fromkeys(["primary", "secondary", *COLUMNS[7:]], 0)
    for repeat in range(cell.repeats):
        values = gaussian(rng, cell)
        results = compare(values, pairs, margins=MARGIN)
        for family in ("primary", "secondary"):
            counts[family] += any(c.significant for c in results if c.family == family)
        counts["true_equivalent"] += results[at["dropout", "error", "secondary"]].small
        if repeat % SHIFTED:
            continue
        for method in ("dropout", "label-smoothing"):
            values[method, "none", "error"] = values[method, "none", "error"] + EFFECT
        results = compare(values, pairs, margins=MARGIN)
        counts["power"] += SHIFTED * results[at["dropout", "error", "secondary"]].significant
        counts["power_primary"] += SHIFTED * results[at["label-smoothing", "error", "primary"]].significant
        counts["false_equivalent"] += SHIFTED * results[at["dropout", "error", "secondary"]].small
    return row(cell.name, cell.seeds, cell.share, cell.repeats, counts)


def row(name: str, seeds: int, share: float, repeats: int, counts: dict[str, int]) -> dict[str, Any]:
    """A line of the table; the standard error is that of a rate of 5%."""
    rates = {key: round(count / repeats, 4) for key, count in counts.items()}
    error = round((0.05 * 0.95 / repeats) ** 0.5, 4)
    return {"cell": name, "seeds": seeds, "seed_share": share, "repeats": repeats, **rates, "standard_error": error}


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


def networks(seeds: tuple[int, ...], repeats: int, redrawn: bool) -> list[dict[str, Any]]:
    """Rows for the first few and for all seeds of the same networks."""
    pairs = [
        pair
        for pair in planned_comparisons(METHODS, ("none", "temperature"))
        if pair.method != pair.reference_method
        and pair.reference_method
        and pair.calibrator == pair.reference_calibrator
    ]
    counts = {count: dict.fromkeys(("primary", "secondary"), 0) for count in seeds}
    shares: dict[int, list[float]] = {count: [] for count in seeds}
    for values in network_tables(max(seeds), repeats, redrawn):
        for count in seeds:
            design = Design(count, 450 / 150, same_test=False) if redrawn else Design()
            results = compare({key: array[:count] for key, array in values.items()}, pairs, design)
            for family in ("primary", "secondary"):
                counts[count][family] += any(c.significant for c in results if c.family == family)
            part = results[0].components
            examples = next(iter(values.values())).shape[1]
            runs = (part.split + part.seed) / count
            whole = runs + part.example / examples + part.interaction / examples / count
            shares[count].append(runs / whole if whole else 0.0)
    name = "networks, a split for each seed" if redrawn else "networks"
    return [row(name, count, round(float(np.mean(shares[count])), 2), repeats, counts[count]) for count in seeds]


def run_cell(cell: Cell | tuple[tuple[int, ...], int, bool]) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    return [one(cell)] if isinstance(cell, Cell) else networks(*cell)


def table(quick: bool, jobs: int = 2) -> list[dict[str, Any]]:
    """All rows: dictionaries by :data:`COLUMNS`."""
    repeats = 60 if quick else 300
    cells: list[Any] = [Cell(seeds, share, 1.0, repeats) for seeds in (3, 5, 10) for share in SHARES]
    cells += [Cell(seeds, 0.5, 16.0, repeats) for seeds in (3, 5, 10)]
    cells += [((3, 5, 10), max(repeats // 3, 30), redrawn) for redrawn in (False, True)]
    with ProcessPoolExecutor(jobs) as pool:
        rows = []
        for lines in pool.map(run_cell, cells[::-1]):
            rows += lines[::-1]
            print(f"{lines[-1]['cell']}: {len(rows)} rows", file=sys.stderr, flush=True)
        return rows[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 repetitions a cell instead of 300")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    rows = table(arguments.quick, arguments.jobs)
    print(as_text(rows, COLUMNS))
    if not arguments.quick:
        keep("coverage_study", {"machine": machine(), "comparisons": 62, "examples": EXAMPLES, "rows": rows})


if __name__ == "__main__":
    main()
