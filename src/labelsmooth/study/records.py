"""What a study leaves behind, as plain records: ``study.json`` read back, and all that a report needs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from labelsmooth.files import StrPath, read_record, write_json
from labelsmooth.metrics import Reliability
from labelsmooth.metrics.catalogue import CATALOGUE, Metric
from labelsmooth.metrics.summary import WithInfluence

FORMAT = 2

Family = Literal["primary", "secondary"]
Verdict = Literal["differs", "equivalent", "inconclusive"]


TEST_METRICS: tuple[WithInfluence, ...] = ("error", "nll", "brier", "ece", "ece_equal_width", "confidence_gap", "aurc")
# What the study reports: metrics of the test part, and how far a run fits its training part.
METRICS: dict[str, Metric] = {name: CATALOGUE[name] for name in TEST_METRICS} | {
    metric.name: metric
    for metric in (
        Metric(
            "nll_gap",
            "Train − test NLL",
            "NLL on the training part minus NLL on the test part: far below 0 is overfitting",
            "nats",
            "zero",
        ),
        Metric(
            "largest_logit",
            "Largest logit",
            "mean over test examples of the largest logit",
            "number",
            "zero",
        ),
        Metric(
            "logit_gap",
            "Logit gap",
            "mean of the largest logit minus the mean of the other logits",
            "number",
            "zero",
        ),
    )
}


@dataclass(frozen=True)
class StudySettings:
    """What a study was asked, with every default settled; see :class:`labelsmooth.study.StudyConfig`."""

    data: str
    methods: list[str]
    seeds: int
    epochs: int
    backbone: str
    weights: str
    size: int  # 0: small images as they are
    batch_size: int
    learning_rate: float
    tune: bool
    quick: bool
    data_dir: str | None
    out: str | None
    split_seed: int
    splits: int
    margins: dict[str, float]
    skip_corrupt: bool
    ema: float
    precision: str
    calibrators: list[str]
    train_size: float = 1.0
    label_noise: float = 0.0
    noise_matrix: list[list[float]] | None = None


@dataclass(frozen=True)
class DataRecord:
    """The data set, and how many examples each part has."""

    name: str
    classes: list[str]
    fingerprint: str
    skipped: list[str]
    notes: list[str]
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class MethodRecord:
    """A method: its settings that differ from the baseline's, and the largest confidence that its targets allow."""

    name: str
    title: str
    settings: dict[str, float | str]
    ceiling: float | None


@dataclass(frozen=True)
class DistillationRecord:
    """Students of a plain and of a smoothed teacher; their numbers stand in the study's tables under their names.

    Attributes:
        teachers: the teachers' methods, "plain" first.
        students: the student of each, in the same order.
        alone: the students' network trained without a teacher: "plain" where it is the teachers' network.
        temperature, weight: of the students' loss.
        backbone, weights, epochs, batch_size, learning_rate: of the students.
        verdict: whether the smoothed teacher is better and its student worse (Müller et al. 2019): "agrees" where both
            differences of error are significant, "does not agree" where one of them is equivalent or significant the
            other way round, "undecided" otherwise, and where no model is better than guessing.
    """

    teachers: list[str]
    students: list[MethodRecord]
    alone: MethodRecord
    temperature: float
    weight: float
    backbone: str
    weights: str
    epochs: int
    batch_size: int
    learning_rate: float
    verdict: Literal["agrees", "does not agree", "undecided"] = "undecided"


@dataclass(frozen=True)
class Summary:
    """One number of the results table: a metric's mean over the seeds with its 95% interval.

    ``floor`` is, for an ECE, the plug-in value that a perfectly calibrated model would have on as many examples.
    """

    method: str
    calibrator: str
    metric: str
    mean: float
    low: float
    high: float
    seeds: int
    floor: float | None = None


@dataclass(frozen=True)
class Components:
    """What a difference varies with: variances of the split, the seed, the test example, and seed and example together.

    ``freedom`` are the degrees of freedom of what varies from run to run.  With one seed for each split, the split's
    part includes the seed's.
    """

    split: float
    seed: float
    example: float
    interaction: float
    freedom: float


@dataclass(frozen=True)
class Comparison:
    """A difference, ``method`` with ``calibrator`` minus the reference, paired by seed and by test example.

    ``low`` and ``high`` are corrected for the number of comparisons of the family (Holm), ``low90`` and ``high90`` are
    the 90% interval.  ``verdict`` is "differs" where the corrected interval excludes 0 (the difference is significant),
    "equivalent" where the 90% interval lies within ``margin``, and "inconclusive" otherwise; ``seeds_needed`` is then
    how many seeds would settle it with a probability of 80%, None where more than 200.
    """

    method: str
    calibrator: str
    reference_method: str
    reference_calibrator: str
    metric: str
    family: Family
    difference: float
    low: float
    high: float
    low90: float
    high90: float
    p_value: float
    verdict: Verdict
    margin: float | None
    seeds_needed: int | None
    components: Components
    note: str = ""

    @property
    def significant(self) -> bool:
        """Whether the corrected interval excludes 0."""
        return self.verdict == "differs"

    @property
    def identical(self) -> bool:
        """Whether the two have the same results on every test example with every seed."""
        return self.difference == self.low90 == self.high90 == 0.0

    @property
    def small(self) -> bool:
        """Whether the 90% interval lies within the margin, significant or not."""
        return self.margin is not None and -self.margin < self.low90 and self.high90 < self.margin


@dataclass(frozen=True)
class Candidate:
    """A method under a calibrator, as the recommendation weighs it.

    ``above_lowest`` is its NLL minus the lowest, with half of the interval that is corrected for the number of
    candidates; ``admitted`` says that its error is not significantly worse, ``tied`` that its NLL is not significantly
    higher than the lowest.
    """

    method: str
    calibrator: str
    error: float
    nll: float
    above_lowest: float
    half_width: float
    admitted: bool
    tied: bool


@dataclass(frozen=True)
class Recommendation:
    """What to use, in words, and by which rule; method and calibrator are "" where no model is better than guessing."""

    method: str
    calibrator: str
    text: str
    rule: str


@dataclass(frozen=True)
class RunRecord:
    """One training run: what it was, how it went, and its metrics on the test part for each calibrator."""

    id: str
    method: str
    seed: int
    seconds: float
    epochs: int
    history: dict[str, list[float | None]]
    metrics: dict[str, dict[str, float]]


@dataclass(frozen=True, repr=False)
class MethodReliability(Reliability):
    """The reliability of a method under a calibrator, over all seeds' test examples."""

    method: str
    calibrator: str


@dataclass(frozen=True)
class Curves:
    """What the report draws beside the table."""

    reliability: list[MethodReliability]
    logit_edges: list[float]
    largest_logits: dict[str, list[int]]  # per method, a histogram over logit_edges


@dataclass(frozen=True, repr=False)
class StudyRecord:
    """A whole study.  ``summary``, ``comparisons`` and ``verdict`` are functions of the runs' logits alone."""

    config: StudySettings
    data: DataRecord
    methods: list[MethodRecord]
    runs: list[RunRecord]
    summary: list[Summary]
    seconds: list[Summary]
    comparisons: list[Comparison]
    candidates: list[Candidate]
    guess_error: float  # of naming the most frequent class of the test part always
    curves: Curves
    recommendation: Recommendation
    verdict: list[str]  # what to use, the rule, and at most five sentences
    details: list[str]
    distillation: DistillationRecord | None = None
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    format: int = FORMAT

    def __repr__(self) -> str:
        methods = ", ".join(method.name for method in self.methods)
        return f"StudyRecord({self.data.name}: {methods}; {self.config.seeds} seeds, {len(self.runs)} runs)"

    @property
    def titles(self) -> dict[str, str]:
        """The title of each method, and of the students, by name."""
        students = [*self.distillation.students, self.distillation.alone] if self.distillation else []
        return {method.name: method.title for method in [*students, *self.methods]}

    def number(self, method: str, metric: str, calibrator: str = "none") -> Summary:
        """The summary row of a method, a metric and a calibrator.

        Raises:
            KeyError: the study has no such row.
        """
        for row in self.summary:
            if (row.method, row.calibrator, row.metric) == (method, calibrator, metric):
                return row
        raise KeyError(f"the study has no {metric} for {method} with calibrator {calibrator}")

    def comparison(self, method: str, metric: str, calibrator: str = "none", reference: str = "plain") -> Comparison:
        """The comparison of a method under a calibrator with a reference method ("" is zero).

        Raises:
            KeyError: the study made no such comparison.
        """
        for row in self.comparisons:
            if (row.method, row.calibrator, row.metric, row.reference_method) == (
                method,
                calibrator,
                metric,
                reference,
            ):
                return row
        raise KeyError(f"the study compared no {metric} of {method} with calibrator {calibrator} to {reference!r}")


def save_study(path: Path, study: StudyRecord) -> None:
    """Write ``study.json``."""
    write_json(path, dataclasses.asdict(study))


def load_study(path: StrPath) -> StudyRecord:
    """Read ``study.json``, given the file or the study's folder.

    Raises:
        UserError: there is none, or it was written in another format.
    """
    return read_record(StudyRecord, path, FORMAT, "study", "study.json", "a finished study")
