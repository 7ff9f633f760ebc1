"""The options that a study and a single training share, their ranges, and their defaults by data and backbone."""

from __future__ import annotations

import math
import os
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

from labelsmooth.data import Columns, Dataset, DataSource, is_small
from labelsmooth.data.built_in import default_epochs
from labelsmooth.data.sources import source_name
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.training.network import SMALL_CNN
from labelsmooth.training.spec import check_range, check_whole


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingOptions:
    """What a study and a single training have in common.  None: the default for this kind of data, which the record
    then states.

    Args:
        data: "digits", "fashion-mnist", "cifar10", "pets", a folder of class folders, a table of paths and labels (a
            file or a data frame), or an ``.npz`` file.
        columns: of a table of paths and labels; by default they are found by their names.
        nested: in a folder, each folder that holds photos is a class, named by its path.
        out: the folder of the result.
        backbone: "small-cnn" or the name of a timm model; by default small-cnn for small images, resnet34 for photos.
        weights: for a timm model: "hub" (pretrained, downloaded by timm), "none", or a safetensors file.
        size: side of the square input in pixels, at least 8; 224 for photos.
        epochs: passes over the training part, at least 1.
        batch_size: examples in a batch, at least 2.
        learning_rate: the highest of the one-cycle schedule; 0.003 for small images, 0.0001 for a pretrained network.
        split_seed: of the split into training, validation and test part.
        data_dir: the folder of torchvision's data sets, or that which the paths of a table are relative to.
        skip_corrupt: leave out photos that cannot be used, and list them, instead of refusing the data.

    Raises:
        UserError: a value outside its range.
    """

    data: DataSource
    out: StrPath | None = None
    backbone: str | None = None
    weights: StrPath = "hub"
    size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    split_seed: int = 0
    columns: Columns = field(default_factory=Columns)
    nested: bool = False
    data_dir: StrPath | None = None
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        for name in ("data", "out", "weights", "data_dir"):  # as text, as records keep them
            if isinstance(value := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        for name, least in {"epochs": 1, "size": 8, "batch_size": 2, "split_seed": 0}.items():
            check_whole(name, getattr(self, name), least)
        check_range("learning_rate", self.learning_rate, 0, math.inf, open_ends=True)

    def __repr__(self) -> str:
        """The data, and what differs from the defaults."""
        given = ((entry.name, repr(getattr(self, entry.name)), _default(entry)) for entry in fields(self))
        changed = [(name, text) for name, text, default in given if name == "data" or text != default]
        shown = [f"{name}={text if len(text) < 80 else type(getattr(self, name)).__name__}" for name, text in changed]
        return f"{type(self).__name__}({', '.join(shown)})"

    def check_folder(self, folder: Path) -> None:
        """Raise a UserError if the folder of the result lies within the data, of which it would become a class."""
        data = Path(source_name(self.data))
        if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
            raise UserError(f"out {folder} lies within the data folder {data}; give an --out elsewhere.")


def _default(entry: Field[object]) -> str:
    return repr(entry.default if entry.default_factory is MISSING else entry.default_factory())


class TrainingKeywords(TypedDict, total=False):
    """The fields of :class:`TrainingOptions` as keyword arguments."""

    data: DataSource
    out: StrPath | None
    backbone: str | None
    weights: StrPath
    size: int | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    split_seed: int
    columns: Columns
    nested: bool
    data_dir: StrPath | None
    skip_corrupt: bool


def data_stem(data: DataSource) -> str:
    """The name of the data in the default folder of a result, for ``.`` that of the current folder."""
    path = Path(source_name(data).replace(" ", "-"))
    return path.stem or path.resolve().name


def settle(
    options: TrainingOptions, *, ema: float | None = None, precision: str = "auto", quick: bool = False
) -> dict[str, Any]:
    """The options with every default filled in: fields of a RunSpec, with ``weights`` as their source.

    Small images are trained from scratch on a small network, in float32; photos on a pretrained one.
    """
    name = source_name(options.data)
    small_images = not options.data.photos if isinstance(options.data, Dataset) else is_small(name)
    backbone = options.backbone or (SMALL_CNN if small_images else "resnet34")
    small = backbone == SMALL_CNN
    if small and options.weights not in ("hub", "none"):
        raise UserError(f"weights {options.weights} are for a timm model; {SMALL_CNN} has no weights to load.")
    native = small and small_images and options.size is None
    epochs = default_epochs(name) if small else 4
    return {
        "backbone": backbone,
        "weights": "none" if small else os.fspath(options.weights),
        "size": 0 if native else options.size or (64 if small else 224),  # 0: as the images are
        "epochs": options.epochs or (math.ceil(epochs / 2) if quick else epochs),
        "batch_size": options.batch_size or (64 if small else 32),
        "learning_rate": options.learning_rate or (3e-3 if small else 1e-3 if options.weights == "none" else 1e-4),
        "ema": ema if ema is not None else 0.0 if small or options.weights == "none" else 0.97,
        "precision": "32" if small and precision == "auto" else precision,
    }
