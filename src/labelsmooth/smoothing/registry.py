"""Every policy by name: how to make it from an epsilon and the training labels, a description, and its paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from labelsmooth.smoothing.online import Online
from labelsmooth.smoothing.ordered import beta, binomial, gaussian, ordinal, poisson
from labelsmooth.smoothing.schedule import Scheduled, cosine, linear, two_stage
from labelsmooth.smoothing.tables import ClassMatrix, Prior
from labelsmooth.smoothing.teacher import TeacherFree
from labelsmooth.smoothing.uniform import Uniform
from labelsmooth.target import Policy

__all__ = ["POLICIES", "NamedPolicy"]


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy that needs no more than an epsilon, the training labels [M] and the number of epochs.

    ``make(epsilon, num_classes, labels, epochs)`` returns it.  Where it has a ``step()``, call that at the end of
    every epoch.
    """

    name: str
    epsilon: float  # the default strength
    line: str
    paper: str
    make: Callable[[float, int, Tensor, int], Policy]


# Not listed, since they need more: Teacher (a teacher's outputs for each batch), Uniform with an epsilon for each
# example, and ClassMatrix with taxonomy (a tree), embeddings (a vector for each class) or confusion (another model's
# errors).
POLICIES: dict[str, NamedPolicy] = {
    entry.name: entry
    for entry in (
        NamedPolicy("uniform", 0.1, "epsilon / K on every class", "Szegedy et al. 2016", lambda e, k, y, t: Uniform(e)),
        NamedPolicy(
            "others", 0.1, "epsilon / (K - 1) on the other classes", "Szegedy et al. 2016",
            lambda e, k, y, t: Uniform(e, over="others"),
        ),
        NamedPolicy(
            "prior", 0.1, "epsilon spread by the class frequencies", "Pereyra et al. 2017",
            lambda e, k, y, t: Prior.from_labels(e, y, k),
        ),
        NamedPolicy(
            "ordinal", 0.1, "epsilon spread by the distance between ordered classes", "Díaz & Marathe 2019",
            lambda e, k, y, t: ClassMatrix(e, ordinal(k)),
        ),
        NamedPolicy(
            "gaussian", 0.1, "epsilon spread as a Gaussian over ordered classes", "Gao et al. 2017",
            lambda e, k, y, t: ClassMatrix(e, gaussian(k)),
        ),
        NamedPolicy(
            "binomial", 0.1, "epsilon spread as a binomial distribution over ordered classes", "Liu et al. 2020",
            lambda e, k, y, t: ClassMatrix(e, binomial(k)),
        ),
        NamedPolicy(
            "poisson", 0.1, "epsilon spread as a Poisson distribution over ordered classes", "Beckham & Pal 2017",
            lambda e, k, y, t: ClassMatrix(e, poisson(k)),
        ),
        NamedPolicy(
            "beta", 0.1, "epsilon spread as a beta distribution over ordered classes", "Vargas et al. 2022",
            lambda e, k, y, t: ClassMatrix(e, beta(k)),
        ),
        NamedPolicy(
            "online", 0.5, "epsilon spread by the last epoch's mean prediction for the class", "Zhang et al. 2021",
            lambda e, k, y, t: Online(k, e),
        ),
        NamedPolicy(
            "teacher-free", 0.1, "distillation from a virtual teacher that is nearly always right", "Yuan et al. 2020",
            lambda e, k, y, t: TeacherFree(e),
        ),
        NamedPolicy(
            "negative", -0.1, "a negative epsilon, for noisy labels (the loss has no floor)", "Wei et al. 2022",
            lambda e, k, y, t: Uniform(e, allow_negative=True),
        ),
        NamedPolicy(
            "two-stage", 0.1, "smooth for the first half of the epochs, then stop", "Xu et al. 2020",
            lambda e, k, y, t: Scheduled(Uniform(), two_stage(e, max(t // 2, 1))),
        ),
        NamedPolicy(
            "linear-decay", 0.1, "epsilon falls to 0 in a straight line", "a schedule, after Xu et al. 2020",
            lambda e, k, y, t: Scheduled(Uniform(), linear(e, 0.0, max(t, 1))),
        ),
        NamedPolicy(
            "cosine-decay", 0.1, "epsilon falls to 0 along half a cosine", "a schedule, after Xu et al. 2020",
            lambda e, k, y, t: Scheduled(Uniform(), cosine(e, 0.0, max(t, 1))),
        ),
    )
}  # fmt: skip
"""The policies that a study and a training take, by name."""
