"""Calibrators as JSON files: readable, exact, and never a pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from labelsmooth.calibrate.base import Calibrator
from labelsmooth.calibrate.catalogue import CATALOGUE
from labelsmooth.calibrate.logistic import questions
from labelsmooth.calibrate.steps import HistogramBinning, IsotonicCalibration
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath, whole_file
from labelsmooth.metrics.rows import Floats

LARGEST = 1e100  # of a learnt value
_FORMAT, _VERSION = "labelsmooth.calibrator", 1
_MOST_CLASSES = 1_000_000
_CLASSES = {entry.make.__name__: entry.make for entry in CATALOGUE.values()}


def save(calibrator: Calibrator, path: StrPath, *, overwrite: bool = False) -> None:
    """Write a fitted calibrator as JSON: its class, parameters and learnt values, to the last bit.

    Args:
        calibrator: a fitted calibrator.
        path: the file; written under a temporary name and renamed, so a reader never sees half of it.
        overwrite: replace a file that is there.

    Raises:
        FileExistsError: where the file exists and `overwrite` is false.
        NotFittedError: for an unfitted calibrator.

    Example:
        >>> import numpy as np, os, tempfile
        >>> from labelsmooth.calibrate import TemperatureScaling
        >>> fitted = TemperatureScaling().fit(np.array([-1.0, 0.5, 2.0, 0.2]), np.array([0, 1, 1, 0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(fitted, os.path.join(folder, "temperature.json"))
        ...     again = load(os.path.join(folder, "temperature.json"))
        >>> again.temperature_ == fitted.temperature_
        True
    """
    text = to_json(calibrator)
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; choose another name, or overwrite it with overwrite=True.")
    with whole_file(target) as file:
        file.write(text.encode())


def to_json(calibrator: Calibrator) -> str:
    """The text of a fitted calibrator's file."""
    calibrator._check_fitted()
    if type(calibrator).__name__ not in _CLASSES:
        raise TypeError(f"{type(calibrator).__name__} is not one of the calibrators that a file can hold.")
    record = {
        "format": _FORMAT,
        "version": _VERSION,
        "calibrator": type(calibrator).__name__,
        "parameters": calibrator.get_params(),
        "learnt": {name: getattr(calibrator, name) for name in ("n_classes_", "zero_", *_names(calibrator))},
    }
    return json.dumps(record, indent=1, allow_nan=False, default=lambda array: array.tolist()) + "\n"


def load(path: StrPath) -> Calibrator:
    """Read a calibrator that :func:`save` wrote.  Every value is validated: finite, of the right shape, in its range.

    Args:
        path: the file.

    Returns:
        A fitted calibrator of the class that was saved.

    Raises:
        UserError (a ValueError): for a file that is not such JSON, or of a later version, or with values that no fit
            gives; the message says which.
    """
    path = Path(path)
    return from_json(path.read_bytes(), path)


def from_json(text: str | bytes, path: object) -> Calibrator:
    """The calibrator of a file's text, validated; `path` is where it was read, for messages."""
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UserError(f"{path} is not a calibrator: it is not JSON ({problem}).") from problem
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise UserError(f"{path} is not a calibrator: its format is not {_FORMAT!r}.")
    if record.get("version") != _VERSION:
        raise UserError(f"{path} has version {record.get('version')!r}; this release reads version {_VERSION}.")
    name = record.get("calibrator")
    if not isinstance(name, str) or name not in _CLASSES:
        raise UserError(f"{path} holds a {name!r}; the calibrators are {', '.join(_CLASSES)}.")
    try:
        parameters, learnt = record["parameters"], record["learnt"]
        if not isinstance(parameters, dict) or not isinstance(learnt, dict):
            raise TypeError("its parameters and learnt values are not JSON objects")
        # JSON has no tuples; no parameter is a list.
        parameters = {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}
        return _fitted(_CLASSES[name](**parameters), learnt)
    except KeyError as problem:
        raise UserError(f"{path} is a damaged {name}: {problem} is missing.") from problem
    except (TypeError, AttributeError, ValueError, OverflowError, RecursionError) as problem:
        raise UserError(f"{path} is a damaged {name}: {problem}.") from problem


def _names(calibrator: Calibrator) -> tuple[str, ...]:
    if isinstance(calibrator, HistogramBinning):
        return ("edges_", "values_")
    return ("knots_",) if isinstance(calibrator, IsotonicCalibration) else tuple(calibrator._shapes(2))


def _fitted(calibrator: Calibrator, values: dict[str, Any]) -> Calibrator:
    """The calibrator with its validated values."""
    classes = values["n_classes_"]
    if isinstance(classes, bool) or not isinstance(classes, int) or not 2 <= classes <= _MOST_CLASSES:
        raise ValueError(f"n_classes_ is {classes!r}, not a whole number from 2 to {_MOST_CLASSES}")
    if isinstance(calibrator, HistogramBinning):
        maps = len(questions(classes))
        edges, heights = (_rows(values[name], name, maps) for name in ("edges_", "values_"))
        for edge, height in zip(edges, heights, strict=True):
            _check_map(edge, height[: len(edge)], height)
            if len(height) != len(edge) + 1:
                raise ValueError(f"{len(edge)} edges need {len(edge) + 1} values, not {len(height)}")
        calibrator.edges_, calibrator.values_ = edges, heights
    elif isinstance(calibrator, IsotonicCalibration):
        if calibrator.scope not in ("one-vs-rest", "top-label"):
            raise ValueError(f"scope is {calibrator.scope!r}")
        maps = 1 if calibrator.scope == "top-label" else len(questions(classes))
        pairs = [_rows(knots, "knots_", 2) for knots in _list(values["knots_"], "knots_", maps)]
        for x, y in pairs:
            if not len(x):
                raise ValueError("knots_ has a map without points")
            _check_map(x, y, y)
        calibrator.knots_ = [(x, y) for x, y in pairs]
    else:
        for name, shape in calibrator._shapes(classes).items():
            if isinstance(values[name], (str, bool)):
                raise ValueError(f"{name} is {values[name]!r}, not a number")
            value = np.asarray(values[name], dtype=np.float64)
            _check_value(name, value, shape)
            setattr(calibrator, name, value if shape else float(value))
    calibrator.zero_ = float(values["zero_"])
    if not 0 <= calibrator.zero_ < 0.5:
        raise ValueError(f"zero_ is {calibrator.zero_}, not from 0 to 0.5")
    calibrator.n_classes_ = classes
    calibrator.classes_ = np.arange(classes)
    return calibrator


def _check_value(name: str, value: Floats, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, not {shape}")
    if not (np.abs(value) <= LARGEST).all():  # NaN fails as well
        raise ValueError(f"{name} is not finite, or beyond {LARGEST:g}, where products with logits overflow")
    if name in ("temperature_", "uniform_") and not 1 / LARGEST < value < (1 if name == "uniform_" else np.inf):
        raise ValueError(f"{name} is {value}, not above 0" + (" and below 1" if name == "uniform_" else ""))
    if name == "weights_" and not (value.min() >= 0 and abs(value.sum() - 1) < 1e-6):
        raise ValueError(f"{name} are {value.tolist()}, not at least 0 with sum 1")


def _check_map(x: Floats, y: Floats, values: Floats) -> None:
    """Finite rising x, as many y, and values in [0, 1]."""
    if x.shape != y.shape or not (np.isfinite(x).all() and (np.diff(x) > 0).all()):
        raise ValueError("a map's scores are not finite and rising, or differ in number from its values")
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and values.max(initial=1) <= 1):
        raise ValueError("a map has values outside [0, 1]")


def _list(value: Any, name: str, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"{name} must have {length} entries")
    return value


def _rows(value: Any, name: str, length: int) -> list[Floats]:
    rows = [np.asarray(row, dtype=np.float64) for row in _list(value, name, length)]
    if any(row.ndim != 1 for row in rows):
        raise ValueError(f"{name} must hold lists of numbers")
    return rows
