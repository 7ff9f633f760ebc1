"""Temperature scaling enlarges adaptive prediction sets."""

import numpy as np
from claim import Claim, Result, Statement
from images import Images, softmax, tempered

from labelsmooth.calibrate import PredictionSets
from labelsmooth.training import Settings


def run(images: Images) -> Result:
    measured: dict[str, list[float]] = {}
    for seed in range(images.seeds):
        for name, epsilon in (("plain", 0.0), ("smoothed", 0.1)):
            trained = images.run(seed, Settings(epsilon=epsilon))
            labels = trained.labels["test"]
            first = np.arange(len(labels)) < len(labels) // 3  # a third of the test part for the threshold of the sets
            for kind, array in (("", softmax(trained.logits["test"])), (" with a temperature", tempered(trained))):
                sets = PredictionSets(0.1, "aps").fit(probabilities=array[first], labels=labels[first])
                summary = sets.summary(probabilities=array[~first], labels=labels[~first])
                measured.setdefault(f"classes in a set, {name}{kind}", []).append(summary.size)
                measured.setdefault(f"coverage in %, {name}{kind}", []).append(100 * summary.coverage)

    def difference(name: str) -> list[float]:
        sizes = (measured[f"classes in a set, {name} with a temperature"], measured[f"classes in a set, {name}"])
        return [a - b for a, b in zip(*sizes, strict=True)]

    quantity = "classes in a set, with a temperature minus without"
    return [
        Statement(
            "A temperature enlarges the sets of an over-confident network", quantity, difference("plain"), "above"
        ),
        Statement(
            "A temperature below 1 makes the sets of an under-confident network smaller",
            quantity,
            difference("smoothed"),
            "below",
        ),
    ], measured


CLAIM = Claim(
    "adaptive-sets",
    "Temperature scaling enlarges adaptive prediction sets; a lower temperature makes them smaller.",
    "Xi et al. 2025",
    "networks pretrained on CIFAR-100 and ImageNet; APS and RAPS",
    "APS without randomisation, α = 0.1; small CNN, 1,000 images, 40 epochs; plain and ε = 0.1",
    run,
)
