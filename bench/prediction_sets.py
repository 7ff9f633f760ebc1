"""Coverage and size of prediction sets at several temperatures, on noisy digits and a logistic regression.

The 1,797 digits of scikit-learn with Gaussian noise of 5 added to each pixel (of 0 to 16).  The model is fitted on a
third; the rest is split `repeats` times into calibration rows, which give the threshold, and test rows.  The worst
class is the least covered of the ten, on average over the splits.

    python bench/prediction_sets.py [--repeats 100]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from harness import keep
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labelsmooth import metrics
from labelsmooth.calibrate import PredictionSets, TemperatureScaling

Method = Literal["lac", "aps", "raps"]


@dataclass(frozen=True)
class Line:
    method: str
    temperature: float
    ece: float
    coverage: float
    size: float
    worst_class: float

    @staticmethod
    def heading() -> str:
        return f"{'method':8}{'temperature':>12}{'ECE':>8}{'coverage':>10}{'mean size':>11}{'worst class':>13}"

    def __str__(self) -> str:
        return (
            f"{self.method:8}{self.temperature:>12.2f}{self.ece:>8.1%}{self.coverage:>10.1%}{self.size:>11.2f}"
            f"{self.worst_class:>13.1%}"
        )


def noisy_digits(seed: int = 0) -> tuple[Any, Any]:
    """Logits and labels of the digits that the model was not fitted on."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    images = digits.data + rng.normal(0.0, 5.0, digits.data.shape)
    order = rng.permutation(len(images))
    fitted, others = order[: len(order) // 3], order[len(order) // 3 :]
    scaler = StandardScaler().fit(images[fitted])
    model = LogisticRegression(C=10.0, max_iter=5000).fit(scaler.transform(images[fitted]), digits.target[fitted])
    return model.decision_function(scaler.transform(images[others])), digits.target[others]


def measure(z: Any, y: Any, method: Method, temperature: float, alpha: float, repeats: int) -> Line:
    coverage, size, by_class = [], [], []
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(y))
        known, new = order[: len(order) // 2], order[len(order) // 2 :]
        sets = PredictionSets(alpha, method).fit(z[known] / temperature, y[known])
        summary = sets.summary(z[new] / temperature, y[new])
        coverage.append(summary.coverage)
        size.append(summary.size)
        by_class.append(summary.class_coverage)
    ece = metrics.ece(logits=z / temperature, labels=y)
    worst = float(np.mean(by_class, axis=0).min())
    return Line(method, temperature, ece, float(np.mean(coverage)), float(np.mean(size)), worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100)
    arguments = parser.parse_args()
    z, y = noisy_digits()
    best = TemperatureScaling().fit(z, y).temperature_
    print(f"{len(y)} rows, error {metrics.error(logits=z, labels=y):.1%}, best temperature {best:.2f}; sets of 90%\n")
    print(Line.heading())
    lines = []
    for method in get_args(Method):
        for temperature in (0.5, 1.0, best, 2.0 * best):
            lines.append(measure(z, y, method, temperature, 0.1, arguments.repeats))
            print(lines[-1], flush=True)
    keep(
        "prediction_sets",
        {"command": ["bench/prediction_sets.py", *sys.argv[1:]], "lines": [asdict(line) for line in lines]},
    )


if __name__ == "__main__":
    main()
