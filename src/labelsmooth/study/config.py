"""The configuration of a study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from labelsmooth.study.methods import DEFAULT_METHODS, check_methods
from labelsmooth.training.spec import check_ranges

__all__ = ["StudyConfig", "StudyOptions"]


@dataclass(frozen=True)
class StudyConfig:
    """What a study is asked to do.  None is the default for this kind of data; the record states it.

    Args:
        data: "digits", "fashion-mnist", "cifar10", "pets", a folder of class folders, or an ``.npz`` file.
        methods: names from ``labelsmooth study --methods list``, in a sequence or in one string separated by commas; by
            default weight decay, early stopping, dropout, label smoothing and all of them together.  "plain", the
            reference of every comparison, is always among them.
        seeds: how many trainings of each method, at least 1; comparisons of methods need at least 2.
        epochs: passes over the training part.
        backbone: "small-cnn", or the name of any timm model.
        weights: for a timm model: "hub" (pretrained, downloaded by timm), "none", or a safetensors file.
        size: side of the square input in pixels, for photos.
        batch_size: examples in a batch.
        learning_rate: the highest of the one-cycle schedule, by default 0.003 for small images, 0.0001 for a
            pretrained network.
        tune: choose each method's strength from its grid by validation NLL.
        quick: at most 6,000 training, 2,000 validation and 2,000 test examples, half the epochs, 3 seeds.
        data_dir: where torchvision's data sets lie or are downloaded to.
        skip_corrupt: leave out photos that cannot be used, and list them, instead of refusing the data.
        out: the folder of the study; a study that is there already goes on where it stopped.
        split_seed: the seed of the train / validation / test split.

    Raises:
        UserError: a value outside its range.
    """

    data: str | os.PathLike[str] = "digits"
    methods: str | Sequence[str] = DEFAULT_METHODS
    seeds: int | None = None
    epochs: int | None = None
    backbone: str | None = None
    weights: str | os.PathLike[str] = "hub"
    size: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    tune: bool = False
    quick: bool = False
    data_dir: str | os.PathLike[str] | None = None
    out: str | os.PathLike[str] | None = None
    split_seed: int = 0
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        check_methods(self.method_names)
        check_ranges(self, seeds=1)

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
        return Path(self.out or Path("studies") / (Path(self.data).stem + ("-quick" if self.quick else "")))


class StudyOptions(TypedDict, total=False):
    """The fields of :class:`StudyConfig` as keyword arguments."""

    data: str | os.PathLike[str]
    methods: str | Sequence[str]
    seeds: int | None
    epochs: int | None
    backbone: str | None
    weights: str | os.PathLike[str]
    size: int | None
    batch_size: int | None
    learning_rate: float | None
    tune: bool
    quick: bool
    data_dir: str | os.PathLike[str] | None
    out: str | os.PathLike[str] | None
    split_seed: int
    skip_corrupt: bool
