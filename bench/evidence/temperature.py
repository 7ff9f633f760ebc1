"""A temperature alone calibrates as well as smoothing, and a smoothed network is harder to calibrate afterwards."""

from claim import Claim, Result, Statement, difference_by_seed
from images import Images, ece, softmax, tempered

from labelsmooth.metrics import nll
from labelsmooth.training import Settings


def run(images: Images) -> Result:
    names = ("plain", "plain with a temperature", "smoothed", "smoothed with a temperature")
    eces: dict[str, list[float]] = {name: [] for name in names}
    nlls: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(images.seeds):
        plain, smoothed = images.run(seed), images.run(seed, Settings(epsilon=0.1))
        labels = plain.labels["test"]
        probabilities = (
            softmax(plain.logits["test"]),
            tempered(plain),
            softmax(smoothed.logits["test"]),
            tempered(smoothed),
        )
        for name, array in zip(names, probabilities, strict=True):
            eces[name].append(ece(array, labels))
            nlls[name].append(float(nll(array, labels)))

    both = "smoothed with a temperature", "plain with a temperature"
    statements = [
        Statement(
            "A temperature on plain training calibrates as well as smoothing, to within one point",
            "ECE, plain with a temperature minus smoothed, points",
            difference_by_seed(eces["plain with a temperature"], eces["smoothed"]),
            "below",
            1.0,
        ),
        Statement(
            "With a temperature on both, the smoothed network has the higher ECE",
            "ECE, smoothed minus plain, a temperature on both, points",
            difference_by_seed(*(eces[name] for name in both)),
            "above",
        ),
        Statement(
            "With a temperature on both, the smoothed network has the higher NLL",
            "NLL, smoothed minus plain, a temperature on both, nats",
            difference_by_seed(*(nlls[name] for name in both)),
            "above",
        ),
    ]
    measured = {f"ECE in %, {name}": values for name, values in eces.items()}
    return statements, measured | {f"NLL, {name}": values for name, values in nlls.items()}


CLAIM = Claim(
    "temperature",
    "A temperature alone calibrates as well as smoothing, and smoothed networks are harder to calibrate afterwards.",
    "Guo et al. 2017, Müller et al. 2019; Wang et al. 2021 (the second part)",
    "ResNets on CIFAR and ImageNet",
    "small CNN, 1,000 images, 40 epochs, ε = 0.1, temperatures fitted to 500 other images",
    "with a temperature plain training is better calibrated than smoothing alone, and has the lower NLL of "
    "the two with a temperature on both. The temperature of smoothed networks is below 1.",
    run,
)
