"""A study is data: what was asked for, and the exact description of each training run, whose hash names its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsmooth.study.errors import StudyError
from labelsmooth.study.methods import DEFAULT_METHODS, Settings, check_methods

__all__ = ["RunSpec", "StudyConfig", "check_ranges"]

# Raised when the meaning of a RunSpec changes, so that runs of an older recipe are not taken for new ones.
RECIPE = 2


@dataclass(frozen=True)
class StudyConfig:
    """What a study is asked to do.  None means: the default for this kind of data, which the record then states.

    Args:
        data: "digits", "fashion-mnist", "cifar10", "pets", a folder of class folders, or an ``.npz`` file.
        methods: names from ``labelsmooth study --methods list``, by default the rivals of the article and smoothing;
            "plain", the reference of every comparison, is always among them.
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
        StudyError: a value outside its range.
    """

    data: str = "digits"
    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: int | None = None
    epochs: int | None = None
    backbone: str | None = None
    weights: str = "hub"
    size: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    tune: bool = False
    quick: bool = False
    data_dir: Path | None = None
    out: Path | None = None
    split_seed: int = 0
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        check_methods(self.methods)
        check_ranges(self, seeds=1)

    @property
    def seed_count(self) -> int:
        return self.seeds or (3 if self.quick else 5)

    @property
    def method_names(self) -> tuple[str, ...]:
        """The methods in the order of the report, "plain" first."""
        return ("plain", *dict.fromkeys(name for name in self.methods if name != "plain"))

    @property
    def folder(self) -> Path:
        return self.out or Path("studies") / (Path(self.data).stem + ("-quick" if self.quick else ""))


def check_ranges(config: Any, **least: int) -> None:
    """Raise a StudyError unless what every training is given is in its range, and the fields named are not too small;
    None is a default."""
    for name, smallest in {"epochs": 1, "size": 8, "batch_size": 2, **least}.items():
        value = getattr(config, name)
        if value is not None and value < smallest:
            raise StudyError(f"{name}={value} is too small; give at least {smallest}.")
    if config.learning_rate is not None and not 0 < config.learning_rate < float("inf"):
        raise StudyError(f"learning_rate={config.learning_rate} must be above 0 and finite, for example 0.003.")


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the numbers of one training run; equal specs give equal runs on one device."""

    data: str  # fingerprint of the images and labels
    split_seed: int
    limits: tuple[int, int, int] | None  # most examples in training, validation, test
    backbone: str
    weights: str  # "none", "hub", or the fingerprint of a file
    size: int
    epochs: int
    batch_size: int
    learning_rate: float
    settings: Settings
    seed: int
    freeze_epochs: int = 1  # of the epochs, those spent on fitting a pretrained network's new head alone
    ema: float = 0.0  # decay of the running average of the weights that predicts; 0: the weights themselves
    precision: str = "32"  # "auto", "32", "bf16" or "16"

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the run's folder."""
        spec = {**dataclasses.asdict(self), "settings": self.settings.changes(), "recipe": RECIPE}
        text = json.dumps(spec, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
