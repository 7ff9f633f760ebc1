"""The calibrators' names, titles, meanings, numbers of parameters and sources: the one table that all rooms read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from labelsmooth.calibrate.affine import DirichletCalibration, MatrixScaling, VectorScaling
from labelsmooth.calibrate.base import Calibrator, Identity
from labelsmooth.calibrate.logistic import BetaCalibration, PlattScaling, questions
from labelsmooth.calibrate.mixtures import EnsembleTemperatureScaling, StructuredMatrixScaling, StructuredVectorScaling
from labelsmooth.calibrate.steps import HistogramBinning, IsotonicCalibration
from labelsmooth.calibrate.temperature import TemperatureScaling
from labelsmooth.errors import UserError

Name: TypeAlias = Literal[
    "identity",
    "temperature",
    "ensemble",
    "platt",
    "beta",
    "svs",
    "vector",
    "histogram",
    "isotonic",
    "sms",
    "dirichlet",
    "matrix",
]
"""The names of the calibrators."""


@dataclass(frozen=True)
class Entry:
    """One calibrator.

    Attributes:
        name: as the command line and :func:`best` take it.
        title: in lower case; a heading capitalises it.
        meaning: what it does, in a line.
        learns: its parameters, for a class or in all.
        counts: (c₀, c₁, c₂) of the number of parameters, c₀ + c₁ K + c₂ K²; None where it grows with the data.
        make: the class; call it for an unfitted calibrator.
        source: author and year.
    """

    name: Name
    title: str
    meaning: str
    learns: str
    counts: tuple[int, int, int] | None
    make: type[Calibrator]
    source: str

    def parameters(self, num_classes: int) -> float:
        """How many numbers it fits for K classes; infinity where that grows with the data."""
        if self.counts is None:
            return float("inf")
        constant, linear, square = self.counts
        fits = len(questions(num_classes)) if self.make.rows_per_class else num_classes
        return constant + linear * fits + square * num_classes**2


def check_name(name: str) -> Name:
    """The name, or a UserError that lists the known ones."""
    if name not in CATALOGUE:
        raise UserError(f"{name!r} is not a calibrator; choose among {', '.join(CATALOGUE)}.")
    return CATALOGUE[name].name


def title_of(calibrator: Calibrator) -> str:
    """The title of a calibrator's entry, or the name of its class where it has none."""
    titles = {entry.make: entry.title for entry in CATALOGUE.values()}
    return titles.get(type(calibrator), type(calibrator).__name__)


CATALOGUE: dict[Name, Entry] = {
    entry.name: entry
    for entry in (
        Entry("identity", "no calibration", "leaves the logits as they are", "nothing", (0, 0, 0), Identity, ""),
        Entry(
            "temperature", "temperature scaling", "divides the logits by one number; keeps every prediction",
            "1 number", (1, 0, 0), TemperatureScaling, "Guo et al. 2017",
        ),
        Entry(
            "ensemble", "ensemble temperature scaling", "mixes the tempered, the original and the uniform prediction",
            "3 numbers", (3, 0, 0), EnsembleTemperatureScaling, "Zhang et al. 2020",
        ),
        Entry(
            "platt", "Platt scaling", "a logistic regression on the log-odds of each class", "2 numbers a class",
            (0, 2, 0), PlattScaling, "Platt 1999",
        ),
        Entry(
            "beta", "beta calibration", "a logistic regression on ln p and ln(1 - p) of each class",
            "3 numbers a class", (0, 3, 0), BetaCalibration, "Kull et al. 2017",
        ),
        Entry(
            "svs", "structured vector scaling",
            "a temperature, then a scale and a shift of each class's log-probability", "1 + 2 numbers a class",
            (1, 2, 0), StructuredVectorScaling, "Berta et al. 2025",
        ),
        Entry(
            "vector", "vector scaling", "a scale and a shift of each class's logit", "2 numbers a class", (0, 2, 0),
            VectorScaling, "Guo et al. 2017",
        ),
        Entry(
            "histogram", "histogram binning", "the share of right labels in each bin of a class's probability",
            "15 numbers a class", (0, 15, 0), HistogramBinning, "Zadrozny and Elkan 2001",
        ),
        Entry(
            "isotonic", "isotonic calibration", "a rising function of each class's probability", "a function a class",
            None, IsotonicCalibration, "Zadrozny and Elkan 2002",
        ),
        Entry(
            "sms", "structured matrix scaling", "a temperature, then a full affine map of the log-probabilities",
            "1 + K + K² numbers", (1, 1, 1), StructuredMatrixScaling, "Berta et al. 2025",
        ),
        Entry(
            "dirichlet", "Dirichlet calibration", "a full affine map of the log-probabilities", "K + K² numbers",
            (0, 1, 1), DirichletCalibration, "Kull et al. 2019",
        ),
        Entry(
            "matrix", "matrix scaling", "a full affine map of the logits", "K + K² numbers", (0, 1, 1), MatrixScaling,
            "Guo et al. 2017",
        ),
    )
}  # fmt: skip
"""Every calibrator by its name."""

assert tuple(CATALOGUE) == get_args(Name)
