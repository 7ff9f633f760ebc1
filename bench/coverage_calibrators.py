"""Can a calibrator ruin a model?  The change of the test NLL through `best` and through a temperature alone.

Models with known calibration: logits z with labels drawn from softmax(z), given as slope * z.  Slope 1 is perfectly
calibrated, 2.5 over-confident, 0.6 under-confident.  A cell fits on some validation rows, many times, and measures on
10,000 test rows: how often the NLL rises by more than 0.02 nats, and its mean and greatest rise (negative: a gain).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from coverage_cells import Cell, Line

from labelsmooth.calibrate import TemperatureScaling, best

RISE = 0.02  # nats
# (classes, error, rows)
SETTINGS = (
    *((2, 0.015, rows) for rows in (50, 100, 400)),
    *((10, 0.015, rows) for rows in (50, 100, 400)),
    *((10, 0.12, rows) for rows in (50, 200, 1000)),
    *((37, 0.12, rows) for rows in (50, 185, 735)),
    (100, 0.35, 200),
)
KINDS = {1.0: "calibrated", 2.5: "over-confident", 0.6: "under-confident"}


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


def count_rises(
    name: str,
    classes: int,
    error: float,
    rows: int,
    slope: float,
    draws: int,
    test_rows: int = 10_000,
) -> list[Line]:
    """The rises of the NLL.  The bar is for calibrated models with few errors: no rise of more than 0.02 at all."""
    torch.set_num_threads(1)
    rng = np.random.default_rng([classes, round(1000 * error), rows, round(10 * slope)])
    scale = scale_of(classes, error)
    test_z, test_y = draw(rng, test_rows, classes, scale)
    given = slope * test_z
    before = nll(given, test_y)
    rises: dict[str, list[float]] = {"best": [], "temperature": []}
    none = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no row misclassified: what is tried here
        for _ in range(draws):
            z, y = draw(rng, rows, classes, scale)
            choice = best(slope * z, y)
            none += choice.name == "identity"
            fitted = {
                "best": choice.calibrator,
                "temperature": TemperatureScaling().fit(slope * z, y),
            }
            for who, calibrator in fitted.items():
                rises[who].append(nll(calibrator.transform(given), test_y) - before)
    few = slope == 1.0 and error == 0.015
    ideal = nll(test_z, test_y) - before  # with the true temperature
    lines = []
    for who, changes in rises.items():
        above = float(np.mean(np.array(changes) > RISE))
        mean, spread = (
            float(np.mean(changes)),
            float(np.std(changes, ddof=1)) / draws**0.5,
        )
        lines += [
            Line(
                name,
                f"{who}: NLL up > {RISE:g}",
                0.0,
                above,
                draws,
                0.0 if few else 1.0,
                at_most=True,
            ),
            Line(
                name,
                f"{who}: mean rise",
                ideal,
                mean,
                draws,
                0.005 if slope == 1.0 else 0.0,
                True,
                spread,
            ),
            Line(
                name,
                f"{who}: greatest rise",
                ideal,
                max(changes),
                draws,
                RISE if few else 100.0,
                True,
                0.0,
            ),
        ]
    return [*lines, Line(name, "best: none chosen", 0.0, none / draws, draws, 0.0)]


def cells(quick: bool) -> list[Cell]:
    """Models of three kinds; the bar is for those that are calibrated and have few errors, which are drawn most."""
    chosen = [(setting, slope) for setting in SETTINGS for slope in KINDS]
    if quick:
        chosen = [(SETTINGS[0], 1.0), (SETTINGS[3], 1.0), (SETTINGS[7], 2.5)]
    cells = []
    for (classes, error, rows), slope in chosen:
        draws = 10 if quick else 200 if slope == 1.0 and error == 0.015 else 40 if slope == 1.0 else 20
        name = f"{KINDS[slope]}, K={classes}, N={rows}, error {error:g}"
        cells.append(Cell(name, count_rises, (classes, error, rows, slope, draws)))
    return cells
