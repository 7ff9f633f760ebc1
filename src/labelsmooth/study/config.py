"""The configuration of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labelsmooth.study.methods import DEFAULT_METHODS, check_methods
from labelsmooth.training.spec import check_ranges

__all__ = ["StudyConfig"]


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
        UserError: a value outside its range.
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
