"""Our calibration metrics and those of netcal, relplot and uncertainty-calibration on the same predictions.

    python bench/agreement.py

The numbers behind docs/metrics-agreement.md that no test of this repository computes, since these peers are installed
in an environment of their own.  A peer that is missing is named, with what is missing.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness import installed, keep, let_peers_import
from scipy.special import softmax

from labelsmooth import metrics

let_peers_import()

PEERS = ["netcal", "relplot", "uncertainty-calibration"]
BINS = 15
ROWS = 300 * BINS  # a multiple of the bins: what happens to the rows that are left over is a matter of taste


def predictions() -> tuple[Any, Any]:
    """Probabilities [4500, 5] that are too high where they are middling and too low near 1, and labels."""
    rng = np.random.default_rng(0)
    z = 2.0 * rng.normal(size=(ROWS, 5))
    labels = (z + rng.gumbel(size=z.shape)).argmax(1)
    return 0.85 * softmax(1.8 * z, axis=1) + 0.15 / 5, labels


def pairs() -> list[tuple[str, str, Callable[[], float], Callable[[], float]]]:
    """(quantity, peer's function, ours, the peer's)."""
    p, y = predictions()
    confidence, correct = p.max(1), (p.argmax(1) == y).astype(float)

    def netcal(name: str, **options: Any) -> float:
        return float(getattr(importlib.import_module("netcal.metrics"), name)(BINS, **options).measure(p, y))

    def uncertainty(name: str, **options: Any) -> float:
        return float(getattr(importlib.import_module("calibration.utils"), name)(p, y, num_bins=BINS, **options))

    def relplot(name: str, *options: float) -> float:
        return float(getattr(importlib.import_module("relplot"), name)(confidence, correct, *options))

    wide: dict[str, Any] = {"binning": "equal-width"}
    comparisons = [
        ("ECE, equal width", "netcal ECE", lambda: metrics.ece(p, y, **wide), lambda: netcal("ECE")),
        ("maximum, equal width", "netcal MCE", lambda: metrics.ece(p, y, norm="max", **wide), lambda: netcal("MCE")),
        ("ECE, equal mass", "netcal ECE", lambda: metrics.ece(p, y), lambda: netcal("ECE", equal_intervals=False)),
        (
            "ECE, equal width",
            "uncertainty-calibration get_ece",
            lambda: metrics.ece(p, y, **wide),
            lambda: uncertainty("get_ece"),
        ),
        (
            "ECE, equal mass",
            "uncertainty-calibration get_ece_em",
            lambda: metrics.ece(p, y),
            lambda: uncertainty("get_ece_em"),
        ),
        (
            "class-wise ECE, l1, equal mass",
            "uncertainty-calibration lower_bound_scaling_ce",
            lambda: metrics.ece(p, y, scope="class-wise"),
            lambda: uncertainty("lower_bound_scaling_ce", p=1, debias=False),
        ),
        (
            "class-wise ECE, l2, equal mass",
            "uncertainty-calibration lower_bound_scaling_ce",
            lambda: metrics.ece(p, y, scope="class-wise", norm="l2"),
            lambda: uncertainty("lower_bound_scaling_ce", p=2, debias=False),
        ),
        (
            "debiased l2 ECE",
            "uncertainty-calibration lower_bound_scaling_top_ce",
            lambda: metrics.debiased_ece(p, y),
            lambda: uncertainty("lower_bound_scaling_top_ce"),
        ),
        ("smooth ECE", "relplot smECE", lambda: metrics.smooth_ece(p, y), lambda: relplot("smECE")),
    ]
    for sigma in (0.01, 0.05, 0.2):
        quantity, ours = f"smooth ECE, bandwidth {sigma}", partial(metrics.smooth_ece, p, y, bandwidth=sigma)
        comparisons.append((quantity, "relplot smECE_sigma", ours, partial(relplot, "smECE_sigma", sigma)))
        by_definition = partial(smooth_ece_by_definition, confidence, correct - confidence, sigma)
        comparisons.append((quantity, "its definition, summed at 4,000 points", ours, by_definition))
    return comparisons


def smooth_ece_by_definition(confidence: Any, residual: Any, sigma: float, points: int = 4000) -> float:
    """The mean over [0, 1] of |sum_i K(t - c_i) residual_i| / N, K a Gaussian that is reflected at 0 and 1."""
    t = (np.arange(points) + 0.5) / points
    total = np.zeros(points)
    for c, r in zip(np.array_split(confidence, 20), np.array_split(residual, 20), strict=True):
        images = np.concatenate([sign * c + 2 * shift for sign in (1, -1) for shift in range(-2, 3)])
        total += np.exp(-0.5 * ((t[:, None] - images) / sigma) ** 2) @ np.tile(r, 10)
    return float(np.abs(total).mean() / len(confidence) / sigma / np.sqrt(2 * np.pi))


def main() -> None:
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for quantity, peer, ours, theirs in pairs():
        row: dict[str, Any] = {"quantity": quantity, "peer": peer, "ours": float(ours())}
        try:
            row["theirs"] = theirs()
            row["difference"] = abs(row["ours"] - row["theirs"])
            print(f"{quantity:32}{peer:52}{row['ours']:.9f}  {row['theirs']:.9f}  {row['difference']:.0e}")
        except Exception as problem:  # a peer that is absent or fails says so in its line
            row["problem"] = f"{type(problem).__name__}: {problem}"[:160]
            print(f"{quantity:32}{peer:52}{row['problem']}")
        rows.append(row)
    keep("agreement", {"versions": installed(PEERS), "rows": ROWS, "results": rows})


if __name__ == "__main__":
    main()
