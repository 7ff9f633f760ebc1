"""Smoothing hurts selective prediction, and normalising the logits repairs it."""

from claim import Claim, Result, Statement, difference_by_seed
from images import Images

from labelsmooth.metrics import choose_score, e_aurc
from labelsmooth.training import Settings


def run(images: Images) -> Result:
    names = ("plain", "smoothed", "smoothed, normalised")
    measured: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(images.seeds):
        for name, epsilon in (("plain", 0.0), ("smoothed", 0.1)):
            trained = images.run(seed, Settings(epsilon=epsilon))
            logits, labels = trained.logits["test"], trained.labels["test"]
            measured[name].append(1000 * float(e_aurc(logits=logits, labels=labels)))
        choice = choose_score(trained.logits["validation"], trained.labels["validation"])
        normalised = e_aurc(logits=logits, labels=labels, score=choice.score, p=choice.p)
        measured["smoothed, normalised"].append(1000 * float(normalised))

    return [
        Statement(
            "It worsens the order of the confidences",
            "excess AURC, smoothed minus plain, thousandths",
            difference_by_seed(measured["smoothed"], measured["plain"]),
            "above",
        ),
        Statement(
            "Normalised logits improve the order of the smoothed network",
            "excess AURC, normalised minus not, smoothed, thousandths",
            difference_by_seed(measured["smoothed, normalised"], measured["smoothed"]),
            "below",
        ),
    ], {f"excess AURC in thousandths, {name}": values for name, values in measured.items()}


CLAIM = Claim(
    "selective-prediction",
    "Smoothing hurts selective prediction, and normalising the logits repairs it.",
    "Xia et al. 2025",
    "ResNet-50 and ViT on ImageNet, segmentation of Cityscapes",
    "small CNN, 1,000 images, 40 epochs, ε = 0.1; the score is chosen on 500 validation images",
    "smoothing spoils the order of the confidences; a plain network is the better one to abstain with. The "
    "normalised score, chosen on 500 images, repairs a part of it at most.",
    run,
)
