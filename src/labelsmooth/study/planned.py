"""The comparisons that a study makes, all of them chosen before any result is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelsmooth.smoothing.registry import POLICIES
from labelsmooth.study.records import Family

Table = Mapping[tuple[str, str, str], NDArray[np.float64]]  # (method, calibrator, metric) -> [seeds, examples]

HEADLINES = ("error", "nll", "ece", "aurc")  # in which every method is compared with plain training
ZERO = ""  # the reference of a comparison of a number with 0
STUDENT = "student"  # the students' network trained without a teacher


class Pair(NamedTuple):
    """One comparison: a method under a calibrator minus the reference."""

    method: str
    calibrator: str
    reference_method: str
    reference_calibrator: str
    metric: str
    family: Family = "secondary"


def main_method(methods: Sequence[str]) -> str:
    """The method that the study asks about: label smoothing, or the only rival of plain training; "" if neither.

    Of several strengths of label smoothing it is the default, or else the one nearest to it.
    """
    rivals = [method for method in methods if method != "plain"]
    if "label-smoothing" in rivals:
        return "label-smoothing"
    strengths = {method: float(method.split(":")[1]) for method in rivals if method.startswith("label-smoothing:")}
    if strengths:
        return min(strengths, key=lambda method: abs(strengths[method] - POLICIES["uniform"].epsilon))
    return rivals[0] if len(rivals) == 1 else ""


def student_of(teacher: str) -> str:
    """The name of a teacher's student in the tables of a study."""
    return f"{STUDENT}:{teacher}"


def planned_comparisons(
    methods: Sequence[str], calibrators: Sequence[str], distilled: Sequence[str] = ()
) -> list[Pair]:
    """All comparisons that a study makes, chosen before any result is seen.

    The primary family asks whether the main method helps once both models have a temperature: in error (which a
    temperature does not change), NLL and ECE.  Everything else is secondary.  Each family is corrected by itself.

    Args:
        methods, calibrators: of the study.
        distilled: its students by distillation: of the smoothed teacher, of the plain one, and their network trained
            without a teacher.
    """
    main = main_method(methods)
    scaled = "temperature" if "temperature" in calibrators else "none"
    pairs: list[Pair] = []
    if main:
        pairs = [Pair(main, "none", "plain", "none", "error", "primary")]
        pairs += [Pair(main, scaled, "plain", scaled, metric, "primary") for metric in ("nll", "ece")]
    pairs += [Pair(method, "none", ZERO, ZERO, "confidence_gap") for method in methods]
    pairs += [
        Pair(method, "none", "plain", "none", metric) for method in methods if method != "plain" for metric in HEADLINES
    ]
    pairs += [
        Pair("plain", name, "plain", "none", metric)
        for name in calibrators
        if name != "none"
        for metric in ("nll", "ece")
    ]
    if main and scaled != "none":
        pairs += [Pair("plain", scaled, main, "none", metric) for metric in ("nll", "ece")]
        pairs += [Pair(main, scaled, "plain", scaled, "aurc")]
    pairs += [
        Pair(one, "none", other, "none", metric)
        for one, other in combinations(distilled, 2)
        for metric in ("error", "nll", "ece")
    ]
    first = {pair[:5]: pair for pair in reversed(pairs)}
    return [pair for pair in pairs if first[pair[:5]] is pair]
