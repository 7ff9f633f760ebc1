"""Several studies that differ in a dimension, such as label noise: their levels, the record, and what it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from labelsmooth.errors import UserError
from labelsmooth.files import StrPath, read_record, write_json
from labelsmooth.metrics import numbers
from labelsmooth.study.config import StudyConfig
from labelsmooth.study.planned import main_method
from labelsmooth.study.records import METRICS, Comparison, StudyRecord, StudySettings

FORMAT = 1

Over = Mapping[str, Sequence[float] | Sequence[str]]


@dataclass(frozen=True)
class Dimension:
    """An option of a study that a sweep gives several values.

    Attributes:
        name: of the option.
        title: heading of an axis or a column.
        unit: "share" of numbers between 0 and 1, "number", or "name".
        logarithmic: whether its values are compared by their ratios.
    """

    name: str
    title: str
    unit: Literal["share", "number", "name"]
    logarithmic: bool = False

    def written(self, value: float | str) -> str:
        """A value as it is read: 20%, 15, resnet34."""
        return numbers.level(float(value)) if self.unit == "share" else str(value)


DIMENSIONS = {
    dimension.name: dimension
    for dimension in (
        Dimension("label_noise", "Label noise", "share"),
        Dimension("train_size", "Share of the training part", "share", logarithmic=True),
        Dimension("epochs", "Epochs", "number", logarithmic=True),
        Dimension("backbone", "Backbone", "name"),
    )
}


@dataclass(frozen=True, repr=False)
class SweepRecord:
    """A study at each of several levels.

    Attributes:
        dimensions: names of :data:`DIMENSIONS`, those whose values the levels combine.
        levels: a whole study for each combination of values, the last dimension changing first.
        findings: what the main method does at each level, in sentences.
        command: that repeats it.
    """

    dimensions: list[str]
    levels: list[StudyRecord]
    findings: list[str]
    command: str = ""
    format: int = FORMAT

    def __repr__(self) -> str:
        return f"SweepRecord({self.levels[0].data.name}: {len(self.levels)} levels of {' and '.join(self.dimensions)})"

    def label(self, level: StudyRecord) -> str:
        """A level in words: "label noise 20%, epochs 15"."""
        return level_title(level.config, self.dimensions)

    @property
    def heading(self) -> str:
        """What the levels differ in: "label noise", "label noise / epochs"."""
        return " / ".join(DIMENSIONS[name].title.lower() for name in self.dimensions)

    def values(self, level: StudyRecord) -> str:
        """A level under the heading: "20%", "20% / 15"."""
        return " / ".join(DIMENSIONS[name].written(getattr(level.config, name)) for name in self.dimensions)


def level_title(config: StudyConfig | StudySettings, dimensions: Iterable[str]) -> str:
    """The values of some dimensions in words.

    Example:
        >>> level_title(StudyConfig(label_noise=0.2, epochs=15), ["label_noise", "epochs"])
        'label noise 20%, epochs 15'
    """
    known = [DIMENSIONS[name] for name in dimensions]
    return ", ".join(f"{d.title.lower()} {d.written(getattr(config, d.name))}" for d in known)


def levels_of(config: StudyConfig, over: Over) -> list[StudyConfig]:
    """A config for each combination of values.

    Raises:
        UserError: an unknown dimension, one without values, a value twice, or a value that the option does not take.
    """
    for name, values in over.items():
        if name not in DIMENSIONS:
            raise UserError(f"There is no dimension {name!r}; choose among {', '.join(DIMENSIONS)}.")
        if isinstance(values, str) or not values or len(set(values)) < len(values):
            raise UserError(f"{name}={values!r} must be a list of different values, at least one.")
    combinations: list[dict[str, Any]] = [dict(zip(over, values, strict=True)) for values in product(*over.values())]
    return [dataclasses.replace(config, **values) for values in combinations]


def findings(levels: Sequence[StudyRecord], dimensions: Sequence[str]) -> list[str]:
    """What to use at which level, and what the main method does: error, NLL and ECE with a temperature, ECE without."""
    sweep = SweepRecord(list(dimensions), list(levels), [])
    recommended = [(level.recommendation.text.split(":")[0].removeprefix("Use "), "") for level in levels]
    sentences = [f"Use {_grouped(sweep, recommended)}."]
    if main := main_method([method.name for method in levels[0].methods]):
        title = next(method.title for method in levels[0].methods if method.name == main)
        scaled = "temperature" if all("temperature" in level.config.calibrators for level in levels) else "none"
        for metric, calibrator in dict.fromkeys((("error", "none"), ("nll", scaled), ("ece", scaled), ("ece", "none"))):
            after = ", with a temperature on both" if calibrator != "none" else ", without a calibrator"
            after = "" if metric == "error" else after  # which no temperature changes
            said = _grouped(sweep, [_said(level.comparison(main, metric, calibrator, "plain")) for level in levels])
            name = numbers.lowered(METRICS[metric].title)
            sentences.append(f"{title} against plain training, {name}{after}: {said}.")
    if distillations := [level.distillation for level in levels if level.distillation]:
        plain, smoothed = distillations[0].students
        verdicts = _grouped(sweep, [(distillation.verdict, "") for distillation in distillations])
        said = _grouped(
            sweep, [_said(level.comparison(smoothed.name, "error", reference=plain.name)) for level in levels]
        )
        sentences.append(f"A smoothed teacher is better and its student worse (Müller et al. 2019): {verdicts}.")
        sentences.append(f"{smoothed.title} against {numbers.lowered(plain.title)}, error: {said}.")
    if levels[0].config.noise_matrix:
        sentences.append("Wrong labels follow the given confusion matrix.")
    return [*sentences, "Each level is a study of its own: comparisons are corrected within it, not over the levels."]


def _grouped(sweep: SweepRecord, said: Sequence[tuple[str, str]]) -> str:
    """What is said of each level in (word, number), levels of the same word together."""
    groups: dict[str, list[str]] = {}
    for level, (word, number) in zip(sweep.levels, said, strict=True):
        groups.setdefault(word, []).append(sweep.values(level) + (f" ({number})" if number else ""))
    if len(groups) == 1 and not said[0][1]:
        return f"{said[0][0]} at every level"
    return "; ".join(f"{word} at {sweep.heading} {numbers.joined(levels)}" for word, levels in groups.items())


def _said(row: Comparison) -> tuple[str, str]:
    difference, _ = numbers.change(METRICS[row.metric], row.difference, row.low, row.high)
    word = ("lower" if row.difference < 0 else "higher") if row.significant else row.verdict
    return "identical" if row.identical else word, difference


def save_sweep(path: Path, sweep: SweepRecord) -> None:
    """Write ``sweep.json``."""
    write_json(path, dataclasses.asdict(sweep))


def load_sweep(path: StrPath) -> SweepRecord:
    """Read ``sweep.json``, given the file or the folder that it is in.

    Raises:
        UserError: there is none, or it was written in another format.
    """
    return read_record(SweepRecord, path, FORMAT, "sweep", "sweep.json", "a finished sweep")
