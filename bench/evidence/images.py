"""The images of the claims: Fashion-MNIST at 14 x 14 pixels, a block of its own for each seed, and the runs on them.

Since no image is in two blocks, the results of the seeds are independent, and Student's interval for their mean holds
beyond these images.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labelsmooth.calibrate import TemperatureScaling
from labelsmooth.data import ArrayImages, Dataset, Split, load_dataset
from labelsmooth.progress import Progress
from labelsmooth.study.ece import calibration_error
from labelsmooth.study.runs import Job, Runs, Task
from labelsmooth.training import RunSpec, Settings

__all__ = ["LONG", "SHORT", "Images", "Run", "ece", "error", "softmax", "tempered"]

SHORT, LONG = 3, 40  # epochs; after 40 the plain network fits its 1,000 images without an error
BLOCK, VALIDATION, TEST = 7_000, 500, 3_500


@dataclass(frozen=True)
class Run:
    """The logits [N, K] and labels [N] of each part of one trained network."""

    logits: dict[str, NDArray[np.float64]]
    labels: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Images:
    """What a claim is run on.

    Args:
        seeds: how many, at most 10.
        folder: of the finished runs, which are not repeated.
        data_dir: the folder of torchvision's data sets.
        toy: a few digits and epochs, to test the code.
    """

    seeds: int = 5
    folder: Path = Path("studies/evidence")
    data_dir: Path | None = None
    toy: bool = False

    @functools.cached_property
    def data(self) -> Dataset:
        """All images."""
        if self.toy:
            return load_dataset("digits")
        data = load_dataset("fashion-mnist", data_dir=self.data_dir)
        assert isinstance(data.images, ArrayImages)
        halved = torch.nn.functional.avg_pool2d(data.images.tensor.float(), 2).round().to(torch.uint8)
        images = ArrayImages(halved[:, 0].numpy())
        return dataclasses.replace(data, images=images, fingerprint=images.fingerprint(), test=None)

    def split(self, seed: int, images: int = 1_000) -> Split:
        """A seed's block: training images from its beginning, test images from its end."""
        block, validation, test = (300, 100, 100) if self.toy else (BLOCK, VALIDATION, TEST)
        order = np.random.default_rng(0).permutation(len(self.data.labels))[seed * block : (seed + 1) * block]
        train = order[: min(images, block - validation - test)]
        return Split(train, order[block - validation - test : block - test], order[block - test :])

    def noisy(self, noise: float, seed: int) -> Dataset:
        """The data, with a share of all labels replaced by another class, each of the others alike."""
        if not noise:
            return self.data
        rng = np.random.default_rng((1, seed))
        labels = self.data.labels.copy()
        wrong = rng.random(len(labels)) < noise
        labels[wrong] = (labels[wrong] + rng.integers(1, len(self.data.classes), wrong.sum())) % len(self.data.classes)
        return dataclasses.replace(self.data, labels=labels, fingerprint=f"{self.data.fingerprint}-{noise}-{seed}")

    def spec(self, seed: int, settings: Settings, epochs: int) -> RunSpec:
        """The small CNN of ``labelsmooth study`` with its defaults."""
        epochs = min(epochs, 2) if self.toy else epochs
        return RunSpec(
            self.data.fingerprint, seed, None, "small-cnn", "none", 0, epochs, 64, 3e-3, settings, seed, precision="32"
        )

    def run(self, seed: int, settings: Settings | None = None, epochs: int = LONG, images: int = 1_000) -> Run:
        """Train on a seed's block, unless that was done before."""
        split = self.split(seed, images)
        spec = self.spec(seed, settings or Settings(), epochs)
        runs = Runs(self.folder / f"{images}-images", Task(self.data, {seed: split}, "none"))
        job = Job(f"{spec.settings.changes() or 'plain'}, {epochs} epochs, {images} images", spec)
        if spec.id not in (finished := runs.finished([job])):
            runs.train(job, Progress())
            runs.clean([job])
            finished = runs.finished([job])
        logits = {part: array.astype(np.float64) for part, array in finished[spec.id].logits.items()}
        return Run(logits, runs.labels(spec))


def tempered(run: Run) -> NDArray[np.float64]:
    """The test probabilities after a temperature fitted to the validation part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows, in a test
        scaling = TemperatureScaling().fit(run.logits["validation"], run.labels["validation"])
    return np.asarray(scaling.predict_proba(run.logits["test"]))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return torch.from_numpy(logits).softmax(-1).numpy()


def ece(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The debiased ECE in percent."""
    return 100 * calibration_error(probabilities, labels).debiased


def error(run: Run) -> float:
    """The test error in percent."""
    return 100 * float((run.logits["test"].argmax(-1) != run.labels["test"]).mean())
