"""Smoothing calibrates a network that over-fits, and does the opposite to one that was trained for a short time."""

from claim import Claim, Result, Statement
from images import LONG, SHORT, Images, ece, softmax

from labelsmooth.training import Settings


def run(images: Images) -> Result:
    measured: dict[str, list[float]] = {}
    difference: dict[int, list[float]] = {SHORT: [], LONG: []}
    for epochs, differences in difference.items():
        for seed in range(images.seeds):
            values = []
            for name, epsilon in (("plain", 0.0), ("smoothed", 0.1)):
                trained = images.run(seed, Settings(epsilon=epsilon), epochs)
                probabilities, labels = softmax(trained.logits["test"]), trained.labels["test"]
                values.append(ece(probabilities, labels))
                gap = float(probabilities.max(-1).mean() - (probabilities.argmax(-1) == labels).mean())
                measured.setdefault(f"ECE in %, {epochs} epochs, {name}", []).append(values[-1])
                measured.setdefault(f"confidence gap in points, {epochs} epochs, {name}", []).append(100 * gap)
            differences.append(values[1] - values[0])
    quantity = "ECE, smoothed minus plain, points"
    return [
        Statement(
            f"It lowers the ECE of a network that over-fits ({LONG} epochs)", quantity, difference[LONG], "below"
        ),
        Statement(f"It raises the ECE after a short training ({SHORT} epochs)", quantity, difference[SHORT], "above"),
    ], measured


CLAIM = Claim(
    "overconfidence",
    "Smoothing calibrates networks that over-fit; after a short training it makes them under-confident instead.",
    "Müller et al. 2019 (the first part)",
    "ResNet-56 on CIFAR-100, Inception-v4 on ImageNet",
    "small CNN, 1,000 images, 40 and 3 epochs, ε = 0.1",
    "smoothing moves the confidence down whatever the network. It calibrates where plain training is "
    "over-confident by more than that, and spoils the calibration elsewhere.",
    run,
)
