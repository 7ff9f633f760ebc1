"""The methods under study: each a one-line change to the same baseline."""

from __future__ import annotations

from dataclasses import dataclass

from labelsmooth.study.errors import StudyError

__all__ = ["CALIBRATORS", "METHODS", "Method", "Settings", "settings_of", "unknown_methods"]

CALIBRATORS = ("none", "temperature", "platt", "isotonic")


@dataclass(frozen=True)
class Settings:
    """All that a method may change in a training run.  The defaults are the baseline, plain cross-entropy."""

    epsilon: float = 0.0  # label smoothing, in [0, 1]
    weight_decay: float = 0.0  # decoupled (AdamW), on weights but not on biases and norms
    dropout: float = 0.0  # probability, before the last layer
    patience: int = 0  # epochs without a better validation NLL until training stops; 0 trains to the end


@dataclass(frozen=True)
class Method:
    """A recipe.  ``grid`` holds a weak, the default and a strong setting, from which ``--tune`` chooses."""

    name: str
    title: str
    grid: tuple[Settings, Settings, Settings]

    @property
    def default(self) -> Settings:
        return self.grid[1]


def _grid(
    epsilon: tuple[float, float, float] = (0.0, 0.0, 0.0),
    weight_decay: tuple[float, float, float] = (0.0, 0.0, 0.0),
    dropout: tuple[float, float, float] = (0.0, 0.0, 0.0),
    patience: tuple[int, int, int] = (0, 0, 0),
) -> tuple[Settings, Settings, Settings]:
    weak, default, strong = (Settings(*s) for s in zip(epsilon, weight_decay, dropout, patience, strict=True))
    return weak, default, strong


_EPSILON = (0.05, 0.1, 0.2)
_DECAY = (0.01, 0.1, 1.0)
_DROPOUT = (0.1, 0.3, 0.5)
_PATIENCE = (15, 10, 5)

METHODS = {
    method.name: method
    for method in (
        Method("plain", "Plain cross-entropy", _grid()),
        Method("weight-decay", "Weight decay", _grid(weight_decay=_DECAY)),
        Method("early-stopping", "Early stopping", _grid(patience=_PATIENCE)),
        Method("dropout", "Dropout", _grid(dropout=_DROPOUT)),
        Method("label-smoothing", "Label smoothing", _grid(epsilon=_EPSILON)),
        Method("all", "All together", _grid(_EPSILON, _DECAY, _DROPOUT, _PATIENCE)),
    )
}


def unknown_methods(names: tuple[str, ...]) -> None:
    """Raise a StudyError unless every name is a method."""
    for name in names:
        if name not in METHODS:
            raise StudyError(f"There is no method {name!r}; choose among {', '.join(METHODS)}.")


def settings_of(name: str, strength: int = 1) -> Settings:
    """A method's settings at strength 0 (weak), 1 (default) or 2 (strong)."""
    return METHODS[name].grid[strength]
