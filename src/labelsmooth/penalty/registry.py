"""Every penalty by name: the function, the setting that a search would tune, one line on it, and its paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from labelsmooth.penalty.acls import acls
from labelsmooth.penalty.confidence import confidence
from labelsmooth.penalty.focal import focal
from labelsmooth.penalty.label_relaxation import label_relaxation
from labelsmooth.penalty.logit_normalization import logit_normalization
from labelsmooth.penalty.margin import margin
from labelsmooth.penalty.max_suppression import max_suppression
from labelsmooth.penalty.poly1 import poly1

__all__ = ["PENALTIES", "Method"]


@dataclass(frozen=True, slots=True)
class Method:
    """A penalty, for ``LabelSmoothingCrossEntropy(0.0, penalty=method.make(strength))``."""

    name: str
    function: Callable[..., Tensor]
    setting: str  # the keyword that a search would tune
    strength: float  # its default
    line: str
    paper: str

    def make(self, strength: float | None = None) -> Callable[..., Tensor]:
        """The penalty with this strength, or as in its paper."""
        return self.function if strength is None else partial(self.function, **{self.setting: strength})

    @property
    def in_place_of_cross_entropy(self) -> bool:
        """Whether it is a loss of its own; LabelSmoothingCrossEntropy with epsilon 0.0 then gives it alone."""
        return getattr(self.function, "in_place_of_cross_entropy", False)


PENALTIES: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "margin", margin, "strength", 0.1,
            "penalises logit gaps beyond a margin (MbLS)", "Liu et al. 2022",
        ),
        Method(
            "acls", acls, "strength", 0.1,
            "penalises logits and gaps beyond a margin (ACLS)", "Park et al. 2023",
        ),
        Method(
            "max-suppression", max_suppression, "strength", 0.1,
            "penalises the largest logit over the mean (MaxSup)", "Zhou et al. 2025",
        ),
        Method(
            "confidence", confidence, "strength", 0.1,
            "penalises predictions of low entropy", "Pereyra et al. 2017",
        ),
        Method(
            "focal", focal, "gamma", 3.0,
            "weighs easy examples down (the focal loss, FLSD-53)", "Mukhoti et al. 2020",
        ),
        Method(
            "label-relaxation", label_relaxation, "alpha", 0.1,
            "no loss once the label has 1 - alpha", "Lienen & Hüllermeier 2021",
        ),
        Method(
            "logit-normalization", logit_normalization, "temperature", 0.04,
            "trains on logits of a fixed length (LogitNorm)", "Wei et al. 2022",
        ),
        Method(
            "poly1", poly1, "strength", 2.0,
            "weighs the loss's first polynomial term (PolyLoss)", "Leng et al. 2022",
        ),
    )
}  # fmt: skip
