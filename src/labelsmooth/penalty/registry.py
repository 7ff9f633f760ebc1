"""Every training loss besides smoothing by name: cross-entropy with a penalty, or a loss in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from labelsmooth.loss.brier_weighted import BrierWeightedLoss, brier_weighted_loss
from labelsmooth.loss.focal import DualFocalLoss, FocalLoss, dual_focal_loss, focal_loss
from labelsmooth.loss.label_relaxation import LabelRelaxationLoss, label_relaxation_loss
from labelsmooth.loss.logit_norm import LogitNormLoss, logit_norm_loss
from labelsmooth.loss.module import LabelSmoothingCrossEntropy
from labelsmooth.penalty.terms import acls, confidence, margin, max_suppression, poly1

__all__ = ["PENALTIES", "NamedPenalty"]


@dataclass(frozen=True, slots=True)
class NamedPenalty:
    """A penalty, or a loss in place of the cross-entropy, with the setting that a search tunes."""

    name: str
    function: Callable[..., Tensor]
    setting: str  # the keyword that a search tunes
    strength: float  # its default
    line: str
    paper: str
    loss: Callable[..., nn.Module] | None = None  # the module of a loss in place of the cross-entropy

    def make(self, strength: float | None = None) -> Callable[..., Tensor]:
        """The function with this strength, or with the default of its paper."""
        return partial(self.function, **self._settings(strength))

    def criterion(self, strength: float | None = None, epsilon: float = 0.0) -> nn.Module:
        """The loss to train with: the cross-entropy smoothed by epsilon plus the penalty, or the loss in its place.

        Raises:
            ValueError: an epsilon for a loss that smooths no labels.
        """
        if self.loss is None:
            return LabelSmoothingCrossEntropy(epsilon, penalty=self.make(strength))
        if epsilon:
            raise ValueError(
                f"{self.name} takes the place of the cross-entropy and smooths no labels, so epsilon={epsilon} has no "
                "meaning; leave epsilon out, or choose a penalty."
            )
        return self.loss(**self._settings(strength))

    def _settings(self, strength: float | None) -> dict[str, float]:
        return {} if strength is None else {self.setting: strength}


PENALTIES: dict[str, NamedPenalty] = {
    entry.name: entry
    for entry in (
        NamedPenalty(
            "margin", margin, "strength", 0.1,
            "penalises logit gaps beyond a margin (MbLS)", "Liu et al. 2022",
        ),
        NamedPenalty(
            "acls", acls, "strength", 0.1,
            "penalises logits and gaps beyond a margin (ACLS)", "Park et al. 2023",
        ),
        NamedPenalty(
            "max-suppression", max_suppression, "strength", 0.1,
            "penalises the largest logit over the mean (MaxSup)", "Zhou et al. 2025",
        ),
        NamedPenalty(
            "confidence", confidence, "strength", 0.1,
            "penalises predictions of low entropy", "Pereyra et al. 2017",
        ),
        NamedPenalty(
            "focal", focal_loss, "gamma", 3.0,
            "gives easy examples a low weight (the focal loss, FLSD-53)", "Mukhoti et al. 2020", FocalLoss,
        ),
        NamedPenalty(
            "dual-focal", dual_focal_loss, "gamma", 5.0,
            "gives examples with a clear lead a low weight (the dual focal loss)", "Tao et al. 2023", DualFocalLoss,
        ),
        NamedPenalty(
            "brier-weighted", brier_weighted_loss, "gamma", 2.0,
            "weights each gradient by the Brier score (BSCE-GRA)", "Lin et al. 2025", BrierWeightedLoss,
        ),
        NamedPenalty(
            "label-relaxation", label_relaxation_loss, "alpha", 0.1,
            "no loss once the label has 1 - alpha", "Lienen & Hüllermeier 2021", LabelRelaxationLoss,
        ),
        NamedPenalty(
            "logit-normalization", logit_norm_loss, "temperature", 0.04,
            "trains on logits of a fixed length (LogitNorm)", "Wei et al. 2022", LogitNormLoss,
        ),
        NamedPenalty(
            "poly1", poly1, "strength", 2.0,
            "changes the weight of the loss's first polynomial term (PolyLoss)", "Leng et al. 2022",
        ),
    )
}  # fmt: skip
"""The penalties and losses that a study and a training take, by name."""
