"""The exact description of one training run, whose hash names its folder, and the ranges of what it is given."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from labelsmooth.errors import UserError

__all__ = ["RunSpec", "Settings", "check_ranges"]

# Raised when the meaning of a RunSpec changes, so that runs of an older recipe are not taken for new ones.
RECIPE = 2


@dataclass(frozen=True)
class Settings:
    """All that a method may change in a training run.  The defaults are the baseline, plain cross-entropy."""

    epsilon: float = 0.0  # label smoothing
    smoothing: str = "uniform"  # the policy that epsilon belongs to, by its name in smoothing.registry
    penalty: str = ""  # by its name in penalty.registry
    strength: float | None = None  # of the penalty; None: its paper's
    weight_decay: float = 0.0  # decoupled (AdamW), on weights but not on biases and norms
    dropout: float = 0.0  # probability, before the last layer
    mixup: float = 0.0  # alpha of the Beta distribution of the shares; 0: no mixing
    patience: int = 0  # epochs without a better validation NLL until training stops; 0 trains to the end

    def changes(self) -> dict[str, Any]:
        """What differs from the baseline.  Runs are named by this, so that a setting added later, left at its
        default, leaves older runs their names."""
        baseline = dataclasses.asdict(Settings())
        return {key: value for key, value in dataclasses.asdict(self).items() if value != baseline[key]}


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


def check_ranges(config: Any, **least: int) -> None:
    """Raise a UserError unless what every training is given is in its range, and the fields named are not too small;
    None is a default."""
    for name, smallest in {"epochs": 1, "size": 8, "batch_size": 2, **least}.items():
        value = getattr(config, name)
        if value is not None and value < smallest:
            raise UserError(f"{name}={value} is too small; give at least {smallest}.")
    if config.learning_rate is not None and not 0 < config.learning_rate < float("inf"):
        raise UserError(f"learning_rate={config.learning_rate} must be above 0 and finite, for example 0.003.")
