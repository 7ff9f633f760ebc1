"""What a model knows of labelled images that it was not trained on: for prediction sets, and to flag unlike images."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.calibrate import Calibrator, PredictionSets
from labelsmooth.calibrate.inputs import random_parts
from labelsmooth.errors import UserError
from labelsmooth.files import write_bytes

HELD_OUT = "held_out.safetensors"
MOST = 4_000_000  # probabilities that are kept


@dataclass(frozen=True, repr=False)
class HeldOut:
    r"""Images that the network was not trained on, as its calibrator sees them.

    The typicality of an image is the share of them that are at least as far from the classes,

    .. math:: t(x) = \frac{1 + \#\{i : d_i \ge d(x)\}}{n + 1}, \qquad
              d(x) = 1 - \max_k \cos\big(\phi(x), \bar\phi_k\big),

    with φ the signed square roots of the features (the inputs of the network's last layer), their means over the held
    out images of each class, and each :math:`d_i` from means without image i itself.  Of images drawn like the held-out
    ones about a share α has t ≤ α.

    Args:
        probabilities: [N, K] calibrated probabilities, each row from a calibrator that was fitted without it.
        labels: [N].
        means: [K, D] mean of φ for each class, zero for a class without images; None without features.
        distances: [n] the :math:`d_i`, ascending.

    Source: Bates et al., "Testing for outliers with conformal p-values" (2023); Perronnin et al. (2010), the roots.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    means: Tensor | None = None
    distances: Tensor | None = None

    def __repr__(self) -> str:
        images, classes = self.probabilities.shape
        return f"HeldOut({images} images, {classes} classes{'' if self.means is None else ', with features'})"

    @classmethod
    def of(
        cls,
        logits: NDArray[np.float32],
        labels: NDArray[np.int64],
        features: Tensor | None,
        calibrator: Calibrator | None,
    ) -> HeldOut:
        """Of the logits [N, K] and features [N, D] of labelled images; the calibrator is not changed."""
        rows = np.arange(len(labels))
        if logits.size > MOST:
            rows = np.sort(np.random.default_rng(0).choice(rows, max(1000, MOST // logits.shape[1]), replace=False))
        probabilities = _cross_fitted(calibrator, logits[rows].astype(np.float64), labels[rows])
        if features is None:
            return cls(probabilities, labels[rows])
        means, distances = _distances(features, torch.from_numpy(labels), logits.shape[1])
        return cls(probabilities, labels[rows], means, distances)

    def sets(self, coverage: float) -> PredictionSets:
        """Prediction sets that hold the label with this probability, fitted on the held-out images.

        Raises:
            UserError: the coverage is not in (0, 1), or there are too few images for it.
        """
        if not 0 < coverage < 1:
            raise UserError(f"sets={coverage} must lie in (0, 1): it is the share of the sets that hold the label.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of probabilities that are 0
            warnings.filterwarnings("error", "alpha=", UserWarning)
            try:
                return PredictionSets(1 - coverage).fit(probabilities=self.probabilities, labels=self.labels)
            except UserWarning as error:
                raise UserError(
                    f"{len(self.labels)} held-out images are too few for sets={coverage:g}; give a lower share, or "
                    "calibrate the model on more images."
                ) from error

    def typicality(self, features: Tensor) -> Tensor | None:
        """t of images [M] by their features [M, D]; None without features of held-out images."""
        if self.means is None or self.distances is None or not len(self.distances):
            return None
        distances = 1 - _cosines(_roots(features), self.means).amax(1)
        as_far = len(self.distances) - torch.searchsorted(self.distances, distances)
        return (1 + as_far) / (1 + len(self.distances))

    def is_unlike(self, typicality: float, share: float) -> bool:
        """Whether a typicality is among those of the share of usual images that are marked."""
        lowest = 1 / (1 + (0 if self.distances is None else len(self.distances)))
        return share > 0 and typicality <= max(share, lowest) * (1 + 1e-6)  # the slack is for rounding


def save_held_out(held_out: HeldOut, path: Path) -> None:
    """Write it to a safetensors file."""
    from safetensors.torch import save

    tensors = {"probabilities": torch.from_numpy(held_out.probabilities), "labels": torch.from_numpy(held_out.labels)}
    if held_out.means is not None and held_out.distances is not None:
        tensors |= {"means": held_out.means, "distances": held_out.distances}
    write_bytes(path, save(tensors))


def load_held_out(path: Path, num_classes: int) -> HeldOut | None:
    """Read what :func:`save_held_out` wrote; None without a file, a UserError if it is damaged or of another model."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.exists():
        return None
    try:
        tensors = load(path.read_bytes())
        held_out = HeldOut(
            tensors["probabilities"].numpy(), tensors["labels"].numpy(), tensors.get("means"), tensors.get("distances")
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Restore it, or delete it to predict without sets."
        ) from error
    problem = _problem(held_out, num_classes)
    if problem:
        raise UserError(f"{path} is damaged: {problem}. Restore it, or delete it to predict without sets.")
    return held_out


def _problem(held_out: HeldOut, num_classes: int) -> str:
    p, labels = held_out.probabilities, held_out.labels
    if p.dtype != np.float32 or p.ndim != 2 or p.shape[1] != num_classes or labels.shape != p.shape[:1]:
        return f"it has probabilities {p.shape} and labels {labels.shape}, and the model {num_classes} classes"
    if labels.dtype != np.int64 or not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        return f"its labels must be integers in [0, {num_classes})"
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-3)):
        return "its probabilities do not sum to 1"
    means, distances = held_out.means, held_out.distances
    if (means is None) != (distances is None):
        return "it has means or distances alone"
    if means is None or distances is None:
        return ""
    if means.ndim != 2 or len(means) != num_classes or distances.ndim != 1:
        return f"it has means of shape {tuple(means.shape)} and distances of shape {tuple(distances.shape)}"
    return "" if bool(means.isfinite().all() and distances.isfinite().all()) else "it has values that are not finite"


def _cross_fitted(
    calibrator: Calibrator | None, logits: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Probabilities of which each fold is from a calibrator that was fitted on the others.

    The calibrator itself was fitted on these rows, where its probabilities are too good: sets by them would be too
    small.  Source: Barber et al., "Predictive inference with the jackknife+" (2021), CV+.
    """
    if calibrator is None:
        return torch.softmax(torch.from_numpy(logits), 1).float().numpy()
    probabilities = np.empty(logits.shape, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the fit to all rows has warned
        for held in random_parts(len(labels)):
            try:
                fitted = copy.deepcopy(calibrator).fit(logits[~held], labels[~held])
            except ValueError:  # a class is in one fold only
                fitted = calibrator
            probabilities[held] = fitted.predict_proba(logits[held])
    return probabilities


def _roots(features: Tensor) -> Tensor:
    """Signed square roots, so that a few large features do not decide the angle."""
    return features.sign() * features.abs().sqrt()


def _cosines(roots: Tensor, means: Tensor) -> Tensor:
    return torch.nn.functional.normalize(roots, dim=1) @ torch.nn.functional.normalize(means, dim=1).T


def _distances(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The means of the classes, and the sorted distances of the rows from means without them."""
    roots = _roots(features.float())
    counts = torch.bincount(labels, minlength=num_classes).float()
    sums = torch.zeros(num_classes, roots.shape[1]).index_add_(0, labels, roots)
    means = sums / counts.clamp(min=1)[:, None]
    cosines = _cosines(roots, means)
    own = torch.nn.functional.cosine_similarity(roots, sums[labels] - roots)
    cosines[torch.arange(len(labels)), labels] = own
    several = counts[labels] > 1  # the only image of a class has no mean without it
    return means, (1 - cosines.amax(1))[several].sort().values
