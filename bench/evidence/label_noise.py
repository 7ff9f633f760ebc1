"""The best epsilon falls as label noise grows, and becomes negative."""

import numpy as np
from claim import Claim, Result, Statement
from images import Images
from mlp import epochs_of, error, labels_of, network, pixels

import labelsmooth as ls

NOISE = (0.0, 0.2, 0.4)
EPSILONS = (0.8, 0.4, 0.2, 0.0, -0.2, -0.4, -0.8, -2.0)
EPOCHS = 30


def run(images: Images) -> Result:
    errors: dict[tuple[float, float], list[float]] = {}
    best: dict[float, list[float]] = {noise: [] for noise in NOISE}
    for seed in range(images.seeds):
        for noise in NOISE:
            for epsilon in EPSILONS:
                errors.setdefault((noise, epsilon), []).append(test_error(images, seed, noise, epsilon))
            at_seed = [errors[noise, epsilon][-1] for epsilon in EPSILONS]
            best[noise].append(EPSILONS[int(np.argmin(at_seed))])
    most = NOISE[-1]
    return [
        Statement(
            f"The best ε is lower with {most:.0%} of wrong labels than without",
            "best ε, difference",
            [a - b for a, b in zip(best[most], best[0.0], strict=True)],
            "below",
        ),
        Statement(f"With {most:.0%} of wrong labels it is negative", "best ε", best[most], "below"),
        Statement(
            f"With {most:.0%} of wrong labels ε = -0.4 has a lower error than ε = 0.4",
            "error, difference, points",
            [a - b for a, b in zip(errors[most, -0.4], errors[most, 0.4], strict=True)],
            "below",
        ),
    ], {
        **{f"best ε, {noise:.0%} wrong labels": values for noise, values in best.items()},
        **{
            f"error in %, {noise:.0%} wrong labels, ε = {epsilon:g}": values
            for (noise, epsilon), values in errors.items()
        },
    }


def test_error(images: Images, seed: int, noise: float, epsilon: float) -> float:
    """The error on clean labels after half the epochs with plain labels and half with ε, as the authors warm up.

    The second half has a tenth of the learning rate: the loss of a negative ε is not bounded below, and at the full
    rate it raises the error on clean labels to 50% and more.
    """
    split, data = images.split(seed), images.noisy(noise, seed)
    rows, labels = pixels(images, split.train), labels_of(data, split.train)
    policy = ls.smoothing.Uniform(epsilon, allow_negative=True)
    epochs = 2 if images.toy else EPOCHS
    model = network(rows.shape[1], (256, 256), len(data.classes), seed)
    for rate, smoothing in ((1e-3, 0.0), (1e-4, policy)):
        for _ in epochs_of(
            model,
            rows,
            lambda z, batch, _, smoothing=smoothing: ls.cross_entropy(z, labels[batch], label_smoothing=smoothing),
            epochs // 2,
            rate,
        ):
            pass
    return error(model, pixels(images, split.test), labels_of(images.data, split.test))


CLAIM = Claim(
    "label-noise",
    "The best ε falls as label noise grows, and becomes negative.",
    "Wei et al. 2022",
    "ResNet-34 on CIFAR with symmetric noise, ε from 0.8 to -8, training begun with plain labels",
    "two layers of 256, 1,000 images, 15 epochs with plain labels, then 15 with ε from 0.8 to -2 at a tenth of the "
    "learning rate, clean test labels",
    run,
)
