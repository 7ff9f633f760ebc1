"""Can a calibrator ruin a model?  The change of the test NLL through `best` and through a temperature alone.

Models with known calibration: logits z with labels drawn from softmax(z), given as slope * z.  Slope 1 is perfectly
calibrated, 2.5 over-confident, 0.6 under-confident.  Each line fits on `rows` validation rows, `draws` times, and
measures on 10,000 test rows: the mean and the greatest rise of the NLL in nats (negative: gain), the share of draws in
which it rises by more than 0.02, how often `best` returned no calibration, and what the true temperature would gain.

    python bench/coverage_calibrators.py [--quick] [--draws 200]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from harness import keep

from labelsmooth.calibrate import TemperatureScaling, best

BAR = 0.02  # nats
# (classes, error, rows)
CELLS = (
    *((2, 0.015, rows) for rows in (50, 100, 400)),
    *((10, 0.015, rows) for rows in (50, 100, 400)),
    *((10, 0.12, rows) for rows in (50, 200, 1000)),
    *((37, 0.12, rows) for rows in (50, 185, 735)),
    (100, 0.35, 200),
)
SLOPES = (1.0, 2.5, 0.6)


@dataclass(frozen=True)
class Line:
    classes: int
    error: float
    rows: int
    slope: float
    draws: int
    mean: float
    greatest: float
    share_above: float
    none_chosen: float
    temperature_mean: float
    temperature_greatest: float
    true_temperature: float

    @staticmethod
    def heading() -> str:
        return (
            f"{'classes':>7}{'error':>7}{'rows':>6}{'slope':>6}{'draws':>6} | {'best: mean':>10}{'greatest':>9}"
            f"{'> 0.02':>8}{'none':>6} | {'T: mean':>8}{'greatest':>9} | {'true T':>7}"
        )

    def __str__(self) -> str:
        return (
            f"{self.classes:>7}{self.error:>7.1%}{self.rows:>6}{self.slope:>6}{self.draws:>6} | {self.mean:>+10.4f}"
            f"{self.greatest:>+9.4f}{self.share_above:>8.3f}{self.none_chosen:>6.0%} | {self.temperature_mean:>+8.4f}"
            f"{self.temperature_greatest:>+9.4f} | {self.true_temperature:>+7.4f}"
        )


def scale_of(classes: int, error: float) -> float:
    """The size of normal logits that gives this error to a calibrated model."""
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(20_000, classes)))
    low, high = 0.01, 300.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if float(1 - (middle * z).softmax(1).amax(1).mean()) > error else (low, middle)
    return middle


def draw(rng: np.random.Generator, rows: int, classes: int, scale: float) -> tuple[Any, Any]:
    z = scale * rng.normal(size=(rows, classes))
    return z, (z + rng.gumbel(size=z.shape)).argmax(1)


def nll(z: Any, y: Any) -> float:
    return float(torch.nn.functional.cross_entropy(torch.from_numpy(z), torch.from_numpy(y)))


def simulate(classes: int, error: float, rows: int, slope: float, draws: int, test_rows: int = 10_000) -> Line:
    rng = np.random.default_rng([classes, round(1000 * error), rows, round(10 * slope)])
    scale = scale_of(classes, error)
    test_z, test_y = draw(rng, test_rows, classes, scale)
    given = slope * test_z
    before = nll(given, test_y)
    rises, temperature_rises, none = [], [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no row misclassified: what is tried here
        for _ in range(draws):
            z, y = draw(rng, rows, classes, scale)
            choice = best(slope * z, y)
            none += choice.name == "identity"
            rises.append(nll(choice.calibrator.transform(given), test_y) - before)
            temperature = TemperatureScaling().fit(slope * z, y)
            temperature_rises.append(nll(temperature.transform(given), test_y) - before)
    return Line(
        classes,
        error,
        rows,
        slope,
        draws,
        float(np.mean(rises)),
        max(rises),
        float(np.mean(np.array(rises) > BAR)),
        none / draws,
        float(np.mean(temperature_rises)),
        max(temperature_rises),
        nll(test_z, test_y) - before,
    )


def table(quick: bool = False, draws: int = 200) -> list[Line]:
    """One line for each cell and slope, printed as it is done."""
    print(Line.heading())
    lines = []
    for cell in CELLS:
        for slope in SLOPES:
            # The bar is for calibrated models of 1.5% error; the other lines are means, for which fewer draws do.
            share = 1 if slope == 1.0 and cell[1] == 0.015 else 5 if slope == 1.0 else 10
            line = simulate(*cell, slope, 10 if quick else max(10, draws // share))
            print(line, flush=True)
            lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    lines = table(arguments.quick, arguments.draws)
    worst = max(line.greatest for line in lines if line.slope == 1.0)
    print(f"\nGreatest rise of a calibrated model's NLL through best: {worst:+.4f} nats.")
    keep(
        "coverage_calibrators",
        {"command": ["bench/coverage_calibrators.py", *sys.argv[1:]], "lines": [asdict(line) for line in lines]},
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
