"""Every policy by name: how to make it from an epsilon and the training labels, one line on it, and its paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from labelsmooth.smoothing.class_matrix import ClassMatrix
from labelsmooth.smoothing.online import Online
from labelsmooth.smoothing.prior import Prior
from labelsmooth.smoothing.schedule import Scheduled, cosine, linear, two_stage
from labelsmooth.smoothing.similarity import gaussian, ordinal
from labelsmooth.smoothing.teacher import TeacherFree
from labelsmooth.smoothing.uniform import Uniform
from labelsmooth.target import Policy

__all__ = ["POLICIES", "Method"]


@dataclass(frozen=True, slots=True)
class Method:
    """A policy that needs nothing but what every study has.

    ``make(epsilon, num_classes, labels, epochs)`` takes the training labels [M] and the number of epochs.  What it
    returns goes to ``label_smoothing``; where it has a ``step()``, call that at the end of every epoch.
    """

    name: str
    epsilon: float  # the default strength
    line: str
    paper: str
    make: Callable[[float, int, Tensor, int], Policy]


# Not here, because they need what a study does not have: Teacher (a teacher's outputs for each batch), PerSample (an
# epsilon for each example), and ClassMatrix over taxonomy (a tree), embeddings (a vector for each class) or confusion
# (another model's mistakes).
POLICIES: dict[str, Method] = {
    method.name: method
    for method in (
        Method("uniform", 0.1, "epsilon / K on every class", "Szegedy et al. 2016", lambda e, k, y, t: Uniform(e)),
        Method(
            "others", 0.1, "epsilon / (K - 1) on the other classes", "Szegedy et al. 2016",
            lambda e, k, y, t: Uniform(e, over="others"),
        ),
        Method(
            "prior", 0.1, "epsilon spread by the class frequencies", "Pereyra et al. 2017",
            lambda e, k, y, t: Prior.from_labels(e, y, k),
        ),
        Method(
            "ordinal", 0.1, "epsilon spread by the distance between ordered classes", "Díaz & Marathe 2019",
            lambda e, k, y, t: ClassMatrix(e, ordinal(k)),
        ),
        Method(
            "gaussian", 0.1, "epsilon spread as a Gaussian over ordered classes", "Gao et al. 2017",
            lambda e, k, y, t: ClassMatrix(e, gaussian(k)),
        ),
        Method(
            "online", 0.5, "epsilon spread by the last epoch's mean prediction for the class", "Zhang et al. 2021",
            lambda e, k, y, t: Online(k, e),
        ),
        Method(
            "teacher-free", 0.1, "distillation from a virtual teacher that is nearly always right", "Yuan et al. 2020",
            lambda e, k, y, t: TeacherFree(e),
        ),
        Method(
            "negative", -0.1, "a negative epsilon, for noisy labels (the loss has no floor)", "Wei et al. 2022",
            lambda e, k, y, t: Uniform(e, allow_negative=True),
        ),
        Method(
            "two-stage", 0.1, "smooth for the first half of the epochs, then stop", "Xu et al. 2020",
            lambda e, k, y, t: Scheduled(Uniform(), two_stage(e, max(t // 2, 1))),
        ),
        Method(
            "linear-decay", 0.1, "epsilon falls to 0 in a straight line", "a schedule, after Xu et al. 2020",
            lambda e, k, y, t: Scheduled(Uniform(), linear(e, 0.0, max(t, 1))),
        ),
        Method(
            "cosine-decay", 0.1, "epsilon falls to 0 along half a cosine", "a schedule, after Xu et al. 2020",
            lambda e, k, y, t: Scheduled(Uniform(), cosine(e, 0.0, max(t, 1))),
        ),
    )
}  # fmt: skip
