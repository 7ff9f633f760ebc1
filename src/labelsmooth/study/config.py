"""The configuration of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from labelsmooth.data import DataSource, NoiseMatrix, load_noise_matrix
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.study.compare import MARGINS
from labelsmooth.study.methods import DEFAULT_METHODS, find_method
from labelsmooth.study.planned import main_method
from labelsmooth.training.options import TrainingKeywords, TrainingOptions, data_stem
from labelsmooth.training.spec import check_distillation, check_range, check_whole


@dataclass(frozen=True, kw_only=True, repr=False)
class StudyConfig(TrainingOptions):
    """The options of a study.  None is the default for this kind of data; the record states it.

    Args:
        data, columns, nested, skip_corrupt, data_dir, split_seed: as in :class:`labelsmooth.training.TrainingOptions`.
        backbone, weights, size, epochs, batch_size, learning_rate: as there.
        out: the folder of the study; a study in it continues where it stopped.  By default ``studies/`` and the name
            of the data.
        make_network: a network of one's own, in place of ``backbone``: called with the number of classes for each run,
            after its seed is set; takes the inputs of the data set and returns logits [N, K].  Dropout goes before its
            last linear layer.
        methods: names from ``labelsmooth study --methods list``, in a sequence or in one string separated by commas; by
            default weight decay, early stopping, dropout, label smoothing and all of them together.  NAME:VALUE has a
            strength of its own, such as "label-smoothing:0.2".  "plain", the reference of every comparison, is always
            among them.
        seeds: how many trainings of each method, at least 1; with fewer than 3 no difference is significant.
        tune: choose each method's strength from its grid by its validation NLL after a cross-fitted temperature.
        quick: at most 6,000 training, 2,000 validation and 2,000 test examples, half the epochs, 3 seeds.
        splits: over how many splits the seeds are spread: 1, or at least 3, of which the number of seeds is a multiple.
            With as many splits as seeds, each seed draws its own.  Conclusions then cover the choice of the split.
        train_size: share of the training examples of each class that is kept, in (0, 1].
        label_noise: share of the training labels that are replaced by those of other classes, in [0, 1); validation and
            test labels stay right.
        noise_matrix: which labels are wrong, and how: a confusion matrix [K, K] of counts or shares, with a row for
            each right class, or a CSV file of it; by default every wrong label is equally likely.  See
            :func:`labelsmooth.data.harder`.
        distil: train students of two teachers, the methods "plain" and label smoothing, on the labels and the teacher's
            probabilities; with the same seeds, and the baseline's settings.
        student: the students' network: a backbone, or a function as ``make_network`` is; by default that of the
            teachers (self-distillation).  A file of ``weights`` is for the teachers, and such a student starts from
            random weights.
        distil_temperature: T, above 0, that softens the probabilities; 4 by default (Tian et al. 2020).
        distil_weight: of the teacher against the labels, in [0, 1]; 0.9 by default (Tian et al. 2020).
        margins: the largest differences that do not matter, by metric: "error" and "ece" as shares, "nll" in nats.

    Raises:
        UserError: a value outside its range.
    """

    data: DataSource = "digits"
    make_network: Callable[[int], nn.Module] | None = None
    methods: str | Sequence[str] = DEFAULT_METHODS
    seeds: int | None = None
    tune: bool = False
    quick: bool = False
    splits: int = 1
    train_size: float = 1.0
    label_noise: float = 0.0
    noise_matrix: StrPath | NoiseMatrix | None = None
    distil: bool = False
    student: str | Callable[[int], nn.Module] | None = None
    distil_temperature: float = 4.0
    distil_weight: float = 0.9
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.make_network is not None and self.backbone is not None:
            raise UserError(f"backbone={self.backbone!r} is not used beside make_network; give one of the two.")
        for name in self.method_names:
            find_method(name)
        check_whole("seeds", self.seeds, 1)
        check_whole("splits", self.splits, 1)
        check_range("train_size", self.train_size, 0, 1)
        check_range("label_noise", self.label_noise, 0, 1)
        if not self.train_size or self.label_noise == 1:
            raise UserError(
                f"train_size={self.train_size} and label_noise={self.label_noise} leave no right label to learn from; "
                "give a train_size above 0 and a label_noise below 1."
            )
        if self.noise_matrix is not None:
            object.__setattr__(self, "noise_matrix", load_noise_matrix(self.noise_matrix))
        if self.splits == 2 or self.seed_count % self.splits:
            raise UserError(
                f"splits={self.splits} does not fit {self.seed_count} seeds; give 1, or at least 3 splits of which the "
                "number of seeds is a multiple, for example 5 splits and 5 seeds."
            )
        self._check_distillation()
        for metric, margin in self.margins.items():
            if metric not in MARGINS or not 0 < margin < float("inf"):
                raise UserError(
                    f"The margin {metric}={margin:g} is not one above 0 for {', '.join(MARGINS)}; give for example "
                    "error=0.005, which is 0.5 points."
                )
        object.__setattr__(self, "margins", {**MARGINS, **self.margins})
        self.check_folder(self.folder)

    def _check_distillation(self) -> None:
        check_distillation(self.distil_temperature, self.distil_weight, "distil_")
        if self.student is not None and not self.distil:
            raise UserError(f"student={self.student!r} is the network of students; give distil=True with it.")
        if self.distil and (not self.teacher or find_method(self.teacher).grid[1].epsilon == 0):
            raise UserError(
                f"distil=True compares a smoothed teacher with a plain one, and methods={','.join(self.method_names)} "
                "names no label smoothing; add label-smoothing."
            )

    @property
    def teacher(self) -> str:
        """The method of the smoothed teacher; the other teacher is "plain"."""
        return main_method(self.method_names)

    def of_student(self) -> StudyConfig:
        """The config of the students' network, trained without a teacher."""
        if self.student is None:
            return self
        changes: dict[str, Any] = {"backbone": None, "make_network": self.student, "student": None}
        if isinstance(self.student, str):
            changes |= {"backbone": self.student, "make_network": None}
        if self.weights not in ("hub", "none"):
            changes["weights"] = "none"
        return dataclasses.replace(self, **changes)

    @property
    def seed_count(self) -> int:
        return self.seeds or (3 if self.quick else 5)

    @property
    def method_names(self) -> tuple[str, ...]:
        """The methods in the order of the report, "plain" first."""
        names = self.methods.split(",") if isinstance(self.methods, str) else self.methods
        return tuple(dict.fromkeys(["plain", *(name.strip() for name in names)]))

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return Path(self.out or Path("studies") / (data_stem(self.data) + ("-quick" if self.quick else "")))


class StudyOptions(TrainingKeywords, total=False):
    """The fields of :class:`StudyConfig` as keyword arguments."""

    make_network: Callable[[int], nn.Module] | None
    methods: str | Sequence[str]
    seeds: int | None
    tune: bool
    quick: bool
    splits: int
    train_size: float
    label_noise: float
    noise_matrix: StrPath | NoiseMatrix | None
    distil: bool
    student: str | Callable[[int], nn.Module] | None
    distil_temperature: float
    distil_weight: float
    margins: Mapping[str, float]
