"""Smoothing policies: labels in, target distributions out."""

from labelsmooth.smoothing import registry, schedule
from labelsmooth.smoothing.mix import mix
from labelsmooth.smoothing.online import Online
from labelsmooth.smoothing.ordered import beta, binomial, gaussian, ordinal, poisson
from labelsmooth.smoothing.schedule import Scheduled
from labelsmooth.smoothing.similarity import confusion, embeddings, taxonomy
from labelsmooth.smoothing.tables import ClassMatrix, Prior
from labelsmooth.smoothing.teacher import Teacher, TeacherFree
from labelsmooth.smoothing.uniform import Ceiling, Uniform, bounded_below, ceiling

__all__ = [
    "Ceiling",
    "ClassMatrix",
    "Online",
    "Prior",
    "Scheduled",
    "Teacher",
    "TeacherFree",
    "Uniform",
    "beta",
    "binomial",
    "bounded_below",
    "ceiling",
    "confusion",
    "embeddings",
    "gaussian",
    "mix",
    "ordinal",
    "poisson",
    "registry",
    "schedule",
    "taxonomy",
]
