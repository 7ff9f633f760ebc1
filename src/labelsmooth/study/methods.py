"""The methods under study: each a one-line change to the same baseline."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from labelsmooth.errors import UserError
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing.registry import POLICIES
from labelsmooth.training.spec import Settings

__all__ = ["CALIBRATORS", "DEFAULT_METHODS", "METHODS", "Method", "find_method"]

CALIBRATORS = ("none", "temperature", "platt", "isotonic")
"""The calibrators that a study fits to every method, by name."""


Grid = tuple[Settings, Settings, Settings]


@dataclass(frozen=True)
class Method:
    """A recipe.  ``grid`` holds a weak, the default and a strong setting, from which ``--tune`` chooses."""

    name: str
    title: str
    line: str
    paper: str
    grid: Grid


def _scaled(settings: Settings, key: str, value: float) -> Grid:
    """Half the default, the default, and twice the default (at most 1 for an epsilon)."""
    strong = min(2 * value, 1.0) if key == "epsilon" else 2 * value
    weaker: dict[str, Any] = {key: value / 2}
    stronger: dict[str, Any] = {key: strong}
    return replace(settings, **weaker), settings, replace(settings, **stronger)


def _grid(key: str, *values: float) -> Grid:
    changes: list[dict[str, Any]] = [{key: value} for value in values]
    weak, default, strong = (Settings(**change) for change in changes)
    return weak, default, strong


_PLAIN = Settings()
_DECAY = _grid("weight_decay", 0.01, 0.1, 1.0)
_STOPPING = _grid("patience", 15, 10, 5)
_DROPOUT = _grid("dropout", 0.1, 0.3, 0.5)
_SMOOTHING = _grid("epsilon", 0.05, 0.1, 0.2)
_MIXUP = _grid("mixup", 0.1, 0.2, 0.4)


def _together(strength: int) -> Settings:
    changes = (grid[strength].changes() for grid in (_DECAY, _STOPPING, _DROPOUT, _SMOOTHING))
    return Settings(**{key: value for change in changes for key, value in change.items()})


_RIVALS = (
    Method("plain", "Plain cross-entropy", "the baseline", "", (_PLAIN, _PLAIN, _PLAIN)),
    Method("weight-decay", "Weight decay", "decoupled weight decay", "Loshchilov & Hutter 2019", _DECAY),
    Method("early-stopping", "Early stopping", "keep the epoch of the best validation NLL", "Prechelt 1998", _STOPPING),
    Method("dropout", "Dropout", "dropout before the last layer", "Srivastava et al. 2014", _DROPOUT),
    Method("label-smoothing", "Label smoothing", POLICIES["uniform"].line, POLICIES["uniform"].paper, _SMOOTHING),
    Method("all", "All together", "all of the above", "", (_together(0), _together(1), _together(2))),
)
_MIXING = Method("mixup", "Mixup", "mix each image and its label with another's", "Zhang et al. 2018", _MIXUP)
_POLICIES = tuple(
    Method(
        policy.name,
        f"Smoothing: {policy.name}",
        policy.line,
        policy.paper,
        _scaled(Settings(epsilon=policy.epsilon, smoothing=policy.name), "epsilon", policy.epsilon),
    )
    for policy in POLICIES.values()
    if policy.name != "uniform"  # label-smoothing itself
)
_PENALTIES = tuple(
    Method(
        penalty.name,
        f"Penalty: {penalty.name}",
        penalty.line,
        penalty.paper,
        _scaled(Settings(penalty=penalty.name), "strength", penalty.strength),
    )
    for penalty in PENALTIES.values()
)

METHODS = {method.name: method for method in (*_RIVALS, _MIXING, *_POLICIES, *_PENALTIES)}
"""The methods of a study, by name."""
DEFAULT_METHODS = tuple(method.name for method in _RIVALS)
"""The names of the methods of a study without ``methods``."""


def find_method(name: str) -> Method:
    """A method by its name, or with a strength of one's own as NAME:VALUE, such as "dropout:0.5".

    An epsilon below 0 is that of the policy "negative".

    Raises:
        UserError: no such method, or a strength that it does not take.

    Example:
        >>> find_method("label-smoothing:0.05").title
        'Label smoothing 0.05'
    """
    base, separator, value = name.partition(":")
    if base not in METHODS:
        raise UserError(f"There is no method {base!r}; choose among {', '.join(METHODS)}.")
    method = METHODS[base]
    if not separator:
        return method
    weak, default, strong = (asdict(settings) for settings in method.grid)
    keys = [key for key in default if weak[key] != strong[key]]
    if len(keys) != 1:
        raise UserError(f"The method {base} has no single strength, so {name!r} is not one; give {base!r} alone.")
    try:
        number = type(weak[keys[0]])(value)
    except ValueError:
        raise UserError(
            f"The strength of {name!r} is not a number; give for example {base}:{strong[keys[0]]:g}."
        ) from None
    changes: dict[str, Any] = {keys[0]: number}
    if base == "label-smoothing" and number < 0:
        changes["smoothing"] = "negative"
    settings = replace(method.grid[1], **changes)
    return Method(name, f"{method.title} {number:g}", method.line, method.paper, (settings, settings, settings))
