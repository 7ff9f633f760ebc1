"""The exact description of one training run, whose hash names its folder; the ranges of settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from labelsmooth.errors import UserError
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing.registry import POLICIES

# Increased when the meaning of a RunSpec changes, so that runs of an older recipe are not reused.
RECIPE = 3
# Fields that a RunSpec has got since, with the value that older runs had; they do not change the names of those.
LATER: dict[str, object] = {"train_size": 1.0, "label_noise": 0.0, "noise_matrix": None, "distillation": None}
Balance: TypeAlias = Literal["none", "weights", "sampling"]
MOST = 1e6  # of settings that the literature does not bound


@dataclass(frozen=True)
class Settings:
    """The loss and the regularisers of a training run.  The defaults are the baseline, plain cross-entropy.

    Args:
        epsilon: amount of label smoothing, in [0, 1]; in [-1, 0] for the policy "negative".
        smoothing: name of the policy that spreads epsilon, from ``labelsmooth train --help``.
        penalty: name of a penalty, in place of smoothing; "" is none.
        strength: of the penalty; None is the value of its paper.
        weight_decay: decoupled (AdamW), at least 0, on weights but not on biases and norms.
        dropout: probability before the last layer, in [0, 1].
        mixup: alpha of the Beta distribution of the shares, at least 0; 0.2 is usual, 0 mixes nothing.
        balance: for classes of uneven size: "weights" gives each class the same total weight in the loss
            (scikit-learn's "balanced"), "sampling" draws each class equally often.  Both make rare classes more
            probable than they are.
        patience: epochs without a lower NLL of half of the validation part until training stops; 0 trains to the end.

    Raises:
        UserError: an unknown name, or a value outside its range.
    """

    epsilon: float = 0.0
    smoothing: str = "uniform"
    penalty: str = ""
    strength: float | None = None
    weight_decay: float = 0.0
    dropout: float = 0.0
    mixup: float = 0.0
    balance: Balance = "none"
    patience: int = 0

    def __post_init__(self) -> None:
        if self.smoothing not in POLICIES:
            raise UserError(f"There is no policy {self.smoothing!r}; choose among {', '.join(POLICIES)}.")
        if self.penalty and self.penalty not in PENALTIES:
            raise UserError(f"There is no penalty {self.penalty!r}; choose among {', '.join(PENALTIES)}.")
        if self.strength is not None and not self.penalty:
            raise UserError(f"strength={self.strength} belongs to a penalty; name the penalty too.")
        if self.penalty and self.smoothing != "uniform":
            raise UserError(f"smoothing={self.smoothing!r} is not used beside a penalty; give one of the two.")
        if self.balance not in get_args(Balance):
            raise UserError(f"balance={self.balance!r} is unknown; choose among {', '.join(get_args(Balance))}.")
        if self.balance == "weights" and self.penalty:
            raise UserError(f"balance='weights' is not for the penalty {self.penalty}; give balance='sampling'.")
        negative = POLICIES[self.smoothing].epsilon < 0
        check_range("epsilon", self.epsilon, -1 if negative else 0, 0 if negative else 1)
        check_range("dropout", self.dropout, 0, 1)
        check_range("weight_decay", self.weight_decay, 0, MOST)
        check_range("mixup", self.mixup, 0, MOST)
        check_whole("patience", self.patience, 0)

    def changes(self) -> dict[str, Any]:
        """What differs from the baseline.  Runs are named by this: a setting added later, left at its default, does
        not change the names of older runs."""
        baseline = dataclasses.asdict(Settings())
        return {key: value for key, value in dataclasses.asdict(self).items() if value != baseline[key]}


@dataclass(frozen=True)
class Distillation:
    """What a student learns beside its labels: its teacher's probabilities for the training part.

    Args:
        teacher: the teacher's run, on the same training part.
        temperature: T, above 0, of the teacher's and the student's probabilities.
        weight: of the teacher against the labels, in [0, 1].

    Raises:
        UserError: a value outside its range.
    """

    teacher: RunSpec
    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        check_distillation(self.temperature, self.weight)


@dataclass(frozen=True)
class RunSpec:
    """Everything that determines the numbers of one training run; equal specs give equal runs on one device."""

    data: str  # fingerprint of the images and labels
    split_seed: int
    limits: tuple[int, int, int] | None  # the most examples of training, validation and test part
    backbone: str
    weights: str  # "none", "hub", or the fingerprint of a file
    size: int
    epochs: int
    batch_size: int
    learning_rate: float
    settings: Settings
    seed: int
    freeze_epochs: int = 1  # those of the epochs that fit a pretrained network's new head alone
    ema: float = 0.0  # decay of the running average of the weights, which predicts; 0: no average
    precision: str = "32"  # "auto", "32", "bf16" or "16"
    train_size: float = 1.0  # share of the training part
    label_noise: float = 0.0  # share of its labels that are wrong
    noise_matrix: tuple[tuple[float, ...], ...] | None = None  # which labels are wrong, and how; None: symmetric noise
    distillation: Distillation | None = None  # of a student

    def __post_init__(self) -> None:
        if self.distillation and self.settings != Settings():
            raise UserError(f"A student is trained with the baseline's settings, not with {self.settings.changes()}.")

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the run's folder."""
        spec = {**dataclasses.asdict(self), "settings": self.settings.changes(), "recipe": RECIPE}
        if self.distillation:
            spec["distillation"]["teacher"] = self.distillation.teacher.id
        for name, default in LATER.items():
            if spec[name] == default:
                del spec[name]
        text = json.dumps(spec, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RateTest:
    """The learning rate that a range test chose, and the smoothed training loss at each rate that it tried."""

    chosen: float
    rates: list[float]
    losses: list[float]


def check_distillation(temperature: float, weight: float, prefix: str = "") -> None:
    """Raise a UserError for a temperature or a weight outside its range; ``prefix`` begins their names."""
    check_range(f"{prefix}temperature", temperature, 0, MOST, open_ends=True)
    check_range(f"{prefix}weight", weight, 0, 1)


def check_whole(name: str, value: int | None, least: int) -> None:
    """Raise a UserError unless a value is a whole number of at least ``least``, or None."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}.")
    if value < least:
        raise UserError(f"{name}={value} is too small; give at least {least}.")


def check_range(name: str, value: float | None, low: float, high: float, *, open_ends: bool = False) -> None:
    """Raise a UserError unless a value lies in [low, high], in (low, high) with ``open_ends``, or is None."""
    if value is None:
        return
    if not isinstance(value, int | float):
        raise UserError(f"{name}={value!r} must be a number.")
    if (low < value < high) if open_ends else (low <= value <= high):
        return
    left, right = "()" if open_ends else "[]"
    raise UserError(f"{name}={value} must lie in {left}{low:g}, {high:g}{right}.")
