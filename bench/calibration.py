"""Calibrators and metrics beside their peers in one run: time, the temperature that is found, and agreement.

Peers that are not installed are named in the table with what is missing. Times are medians of rounds in which every
library has its turn, as many calls as fit into 50 ms but at least one; `times_ours` is the median of the rounds'
ratios.

    python bench/calibration.py [--rows 50000] [--classes 1000]
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before torchmetrics)

import argparse
import importlib
import json
import platform
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import installed, let_peers_import, write
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from labelsmooth import metrics
from labelsmooth.calibrate import TemperatureScaling

let_peers_import()

PEERS = ["scikit-learn", "torchmetrics", "netcal", "relplot", "uncertainty-calibration", "probmetrics"]


def make(rows: int, classes: int, temperature: float, dtype: Any = np.float32) -> tuple[Any, Any]:
    """Logits whose right temperature is `temperature`, and labels."""
    rng = np.random.default_rng(0)
    z = 2.0 * rng.normal(size=(rows, classes))
    labels = (z + rng.gumbel(size=z.shape)).argmax(1)
    return (temperature * z).astype(dtype), labels


def race(task: str, size: str, cases: dict[str, Callable[[], Any]], rounds: int = 7) -> list[dict[str, Any]]:
    """Each library in turn, round by round, so that what else the machine does meets all of them alike.

    A short task is called for 50 ms, lest it pays for the caches that the one before it has filled.  A line has the
    median time and, beside ours, the median of the rounds' ratios.
    """
    times: dict[str, list[float]] = {}
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    start_of_all = time.perf_counter()
    for done in range(rounds + 1):  # the first round warms up
        for name, case in cases.items():
            if name in problems:
                continue
            start = time.perf_counter()
            try:
                calls = 0
                while not calls or time.perf_counter() - start < 0.05:
                    values[name] = float(case())
                    calls += 1
            except Exception as problem:  # a peer that is absent or fails says so in its line
                problems[name] = f"{type(problem).__name__}: {problem}"[:160]
                continue
            if done:
                times.setdefault(name, []).append((time.perf_counter() - start) / calls)
        if done >= 2 and time.perf_counter() - start_of_all > 45.0:
            break
    lines = []
    for name in cases:
        line: dict[str, Any] = {"task": task, "size": size, "library": name}
        if name in problems:
            lines.append(line | {"problem": problems[name]})
            continue
        ratio = float(np.median(np.divide(times[name], times["labelsmooth"])))
        line |= {"seconds": round(float(np.median(times[name])), 5), "least": round(min(times[name]), 5)}
        lines.append(line | {"times_ours": round(ratio, 2), "value": values[name]})
    return lines


def sklearn_temperature(z: Any, y: Any) -> float:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Logits(ClassifierMixin, BaseEstimator):
        def __init__(self, classes: int = 2) -> None:
            self.classes = classes

        def fit(self, x: Any, y: Any) -> Logits:
            self.classes_ = np.arange(self.classes)
            return self

        def decision_function(self, x: Any) -> Any:
            return x

        def predict(self, x: Any) -> Any:
            return x.argmax(1)

    model = FrozenEstimator(Logits(z.shape[1]).fit(z, y))
    fitted = CalibratedClassifierCV(model, method="temperature").fit(z, y)
    return 1.0 / float(fitted.calibrated_classifiers_[0].calibrators[0].beta_)


def netcal_temperature(z: Any, y: Any) -> float:
    scaling = importlib.import_module("netcal.scaling").TemperatureScaling()
    scaling.fit(softmax(z.astype(np.float64), axis=1), y)
    return 1.0 / float(np.ravel(scaling.weights)[0])


def probmetrics_temperature(z: Any, y: Any) -> float:
    made = importlib.import_module("probmetrics.calibrators").get_calibrator("temp-scaling")
    made.fit(softmax(z, axis=1), y)
    p = made.predict_proba(softmax(z[:1000].astype(np.float64), axis=1))
    # The temperature is read off the ratio of two log-odds before and after.
    before = np.ptp(log_softmax(z[:1000].astype(np.float64), axis=1), axis=1)
    return float(np.median(before / np.ptp(np.log(np.maximum(p, 1e-300)), axis=1)))


def temperatures(rows: int, classes: int) -> list[dict[str, Any]]:
    """The time to fit one temperature."""
    z, y = make(rows, classes, 1.7)
    cases = {
        "labelsmooth": lambda: TemperatureScaling().fit(z, y).temperature_,
        "scikit-learn": lambda: sklearn_temperature(z, y),
        "probmetrics": lambda: probmetrics_temperature(z, y),
    }
    if classes <= 20:
        cases["netcal"] = lambda: netcal_temperature(z, y)
    return race("temperature", f"{rows} x {classes}", cases)


def accuracy() -> list[dict[str, Any]]:
    """The maximum-likelihood temperature for true ones far below and above 1, against a float64 minimiser."""
    lines = []
    for true in (0.1, 0.4, 1.0, 1.7, 5.0, 20.0):
        z, y = make(20_000, 20, true)
        exact = z.astype(np.float64)
        index = np.arange(len(y))

        def nll(log_t: float, exact: Any = exact, index: Any = index, y: Any = y) -> float:
            return float(-log_softmax(exact / np.exp(log_t), axis=1)[index, y].mean())

        oracle = float(np.exp(minimize_scalar(nll, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10}).x))
        line: dict[str, Any] = {"true": true, "minimiser": oracle}
        for name, case in {
            "labelsmooth": lambda z=z, y=y: TemperatureScaling(prior=0).fit(z, y).temperature_,
            "scikit-learn": lambda z=z, y=y: sklearn_temperature(z, y),
            "netcal": lambda z=z, y=y: netcal_temperature(z, y),
            "probmetrics": lambda z=z, y=y: probmetrics_temperature(z, y),
        }.items():
            line[name] = attempt(case)
        lines.append(line)
    return lines


def metric_cases(rows: int) -> list[dict[str, Any]]:
    """The time and value of the metrics on 10 classes."""
    z, y = make(rows, 10, 1.3, np.float64)
    p = softmax(z, axis=1)
    tp, ty = torch.from_numpy(p), torch.from_numpy(y)
    c, a = p.max(1), (p.argmax(1) == y).astype(float)
    percentile = metrics.Interval(method="percentile")

    def uncertainty(name: str, **options: Any) -> Any:
        return getattr(importlib.import_module("calibration.utils"), name)(p, y, **options)

    def torchmetrics_ece() -> float:
        function = importlib.import_module("torchmetrics.functional.classification").multiclass_calibration_error
        return float(function(tp, ty, num_classes=10, n_bins=15))

    def bootstrapped_torchmetrics() -> float:
        """A hundred resamples; the line's time is to be taken ten times."""
        wrappers = importlib.import_module("torchmetrics.wrappers")
        metric = importlib.import_module("torchmetrics.classification").MulticlassCalibrationError(10, n_bins=15)
        many = wrappers.BootStrapper(metric, num_bootstraps=100, sampling_strategy="multinomial")
        many.update(tp, ty)
        return float(many.compute()["mean"])

    def bootstrapped_scipy() -> float:
        def gap(chosen: Any) -> float:
            return metrics.ece(p[chosen], y[chosen])

        stats = importlib.import_module("scipy.stats")
        bootstrapped = stats.bootstrap((np.arange(rows),), gap, n_resamples=100, method="percentile", vectorized=False)
        return float(bootstrapped.confidence_interval.high)

    tasks: dict[str, dict[str, Callable[[], Any]]] = {
        "ECE, equal width": {
            "labelsmooth": lambda: metrics.ece(p, y, binning="equal-width"),
            "torchmetrics": torchmetrics_ece,
            "netcal": lambda: importlib.import_module("netcal.metrics").ECE(15).measure(p, y),
            "uncertainty-calibration": lambda: uncertainty("get_ece"),
        },
        "ECE, equal mass": {
            "labelsmooth": lambda: metrics.ece(p, y),
            "uncertainty-calibration": lambda: uncertainty("get_ece_em"),
        },
        "debiased l2": {
            "labelsmooth": lambda: metrics.debiased_ece(p, y),
            "uncertainty-calibration": lambda: uncertainty("lower_bound_scaling_top_ce", num_bins=15),
        },
        "smooth ECE": {
            "labelsmooth": lambda: metrics.smooth_ece(p, y),
            "relplot": lambda: importlib.import_module("relplot").smECE(c, a),
        },
        "bootstrap, 1,000 (others 100)": {
            "labelsmooth": lambda: metrics.ece(p, y, interval=percentile).high,
            "torchmetrics": bootstrapped_torchmetrics,
            "scipy over our ECE": bootstrapped_scipy,
            "uncertainty-calibration": lambda: importlib.import_module("calibration.utils").bootstrap_uncertainty(
                list(zip(p, y, strict=True)),
                lambda data: importlib.import_module("calibration.utils").get_ece(
                    np.array([d[0] for d in data]), np.array([d[1] for d in data])
                ),
                num_samples=100,
            )[2],
        },
        "AURC bootstrap, 1,000": {"labelsmooth": lambda: metrics.aurc(p, y, interval=percentile).high},
        "ECE interval, 1,000": {"labelsmooth": lambda: metrics.ece(p, y, interval=0.95).high},
    }
    return [line for task, cases in tasks.items() for line in race(task, f"{rows} x 10", cases)]


def streamed() -> dict[str, Any]:
    """Memory that the streamed ECE holds after few and after 10,000,000 predictions."""
    from labelsmooth.metrics import streaming

    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 100_000).astype(np.float32)
    batch = torch.from_numpy(p), torch.from_numpy(rng.integers(0, 3, 100_000))
    metric = streaming.CalibrationError()
    metric.update(*batch)
    tracemalloc.start()
    metric.update(*batch)
    few = tracemalloc.get_traced_memory()[0]
    for _ in range(98):
        metric.update(*batch)
    many = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    states = sum(getattr(metric, name).numel() * 8 for name in metric._defaults)
    predictions = int((metric.right + metric.wrong).sum())
    return {"predictions": predictions, "state_bytes": states, "growth_bytes": many - few}


def attempt(case: Callable[[], float]) -> float | str:
    try:
        return round(case(), 6)
    except Exception as problem:
        return f"{type(problem).__name__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = metric_cases(arguments.rows) + temperatures(arguments.rows, 10)
    lines += temperatures(arguments.rows, arguments.classes)
    right, memory = accuracy(), streamed()
    for line in lines:
        end = line.get("problem") or f"{line['seconds']:9.5f} s {line['times_ours']:8.2f} x   {line['value']:.8f}"
        print(f"{line['task']:30}{line['size']:>14}  {line['library']:26}{end}")
    print(json.dumps(right, indent=1))
    print(memory)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    versions |= installed(PEERS)
    command = ["bench/calibration.py", *sys.argv[1:]]
    write("calibration", command=command, versions=versions, results=lines, temperatures=right, streamed=memory)


if __name__ == "__main__":
    main()
