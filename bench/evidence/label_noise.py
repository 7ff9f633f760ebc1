"""The best epsilon falls as label noise grows, and becomes negative."""

import itertools

import numpy as np
from claim import Claim, Result, Statement, difference_by_seed
from images import Images
from mlp import epochs_of, error, labels_of, network, pixels

import labelsmooth as ls

NOISE = (0.0, 0.2, 0.4)
EPSILONS = (0.8, 0.4, 0.2, 0.0, -0.2, -0.4, -0.8, -2.0)
EPOCHS = 30
FULL_RATE = 1e-3
RATES = (FULL_RATE / 10, FULL_RATE)  # of the half with smoothing


def run(images: Images) -> Result:
    errors: dict[tuple[float, float, float], list[float]] = {}
    best: dict[tuple[float, float], list[float]] = {}
    for seed, rate, noise in itertools.product(range(images.seeds), RATES, NOISE):
        for epsilon in EPSILONS:
            value = test_error(images, seed, noise, epsilon, rate)
            errors.setdefault((rate, noise, epsilon), []).append(value)
        at_seed = [errors[rate, noise, epsilon][-1] for epsilon in EPSILONS]
        best.setdefault((rate, noise), []).append(EPSILONS[int(np.argmin(at_seed))])
    low, full = RATES
    most = NOISE[-1]
    change = difference_by_seed(best[low, most], best[low, 0.0])
    gain = difference_by_seed(errors[low, most, -0.4], errors[low, most, 0.4])
    wrong = f"with {most:.0%} of wrong labels"
    return [
        Statement(f"The best ε is lower {wrong} than without", "best ε, difference", change, "below"),
        Statement(f"It is negative {wrong}", "best ε", best[low, most], "below"),
        Statement(f"ε = -0.4 has a lower error than ε = 0.4 {wrong}", "error, difference, points", gain, "below"),
        Statement(f"The best ε is negative {wrong}, at the full learning rate", "best ε", best[full, most], "below"),
    ], {
        **{f"best ε, rate {rate:g}, {noise:.0%} wrong labels": values for (rate, noise), values in best.items()},
        **{
            f"error in %, rate {rate:g}, {noise:.0%} wrong labels, ε = {epsilon:g}": values
            for (rate, noise, epsilon), values in errors.items()
        },
    }


def test_error(images: Images, seed: int, noise: float, epsilon: float, rate: float) -> float:
    """The error on clean labels after half the epochs with plain labels and half with ε, as the authors warm up.

    The loss of a negative ε is not bounded below.  At the learning rate of the first half it raises the error on clean
    labels to 50% and more; a tenth of it does not.
    """
    split, data = images.split(seed), images.noisy(noise, seed)
    rows, labels = pixels(images, split.train), labels_of(data, split.train)
    epochs = 2 if images.toy else EPOCHS
    model = network(rows.shape[1], (256, 256), len(data.classes), seed)
    policy = ls.smoothing.Uniform(epsilon, allow_negative=True)
    for smoothing, phase_rate in ((0.0, FULL_RATE), (policy, rate)):
        for _ in epochs_of(
            model,
            rows,
            lambda z, batch, _, smoothing=smoothing: ls.cross_entropy(z, labels[batch], label_smoothing=smoothing),
            epochs // 2,
            phase_rate,
        ):
            pass
    return error(model, pixels(images, split.test), labels_of(images.data, split.test))


CLAIM = Claim(
    "label-noise",
    "The best ε falls as label noise grows, and becomes negative.",
    "Wei et al. 2022",
    "ResNet-34 on CIFAR with symmetric noise, ε from 0.8 to -8, training begun with plain labels",
    "two layers of 256, 1,000 images, 15 epochs with plain labels, then 15 with ε from 0.8 to -2 at a tenth of "
    "the learning rate (the last statement: at the full rate), clean test labels",
    "negative ε helps with many wrong labels if the learning rate is low. At the full rate its loss, which is not "
    "bounded below, spoils the network, also on clean labels, and the largest ε is best in four of five seeds.",
    run,
)
