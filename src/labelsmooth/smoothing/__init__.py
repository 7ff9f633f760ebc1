"""Smoothing policies: labels in, target distributions out."""

from labelsmooth.smoothing import registry, schedule
from labelsmooth.smoothing.class_matrix import ClassMatrix
from labelsmooth.smoothing.limits import Ceiling, bounded_below, ceiling
from labelsmooth.smoothing.mix import mix
from labelsmooth.smoothing.online import Online
from labelsmooth.smoothing.per_sample import PerSample
from labelsmooth.smoothing.prior import Prior
from labelsmooth.smoothing.schedule import Scheduled
from labelsmooth.smoothing.similarity import confusion, embeddings, gaussian, ordinal, taxonomy
from labelsmooth.smoothing.teacher import Teacher, TeacherFree
from labelsmooth.smoothing.uniform import Uniform

__all__ = [
    "Ceiling",
    "ClassMatrix",
    "Online",
    "PerSample",
    "Prior",
    "Scheduled",
    "Teacher",
    "TeacherFree",
    "Uniform",
    "bounded_below",
    "ceiling",
    "confusion",
    "embeddings",
    "gaussian",
    "mix",
    "ordinal",
    "registry",
    "schedule",
    "taxonomy",
]
