"""Calibrators as JSON files: readable, exact, and never a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from labelsmooth.files import whole_file

from .base import Calibrator
from .catalogue import CATALOGUE

_FORMAT, _VERSION = "labelsmooth.calibrator", 1
_CLASSES = {entry.make.__name__: entry.make for entry in CATALOGUE.values()}


def save(calibrator: Calibrator, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
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
    calibrator._check_fitted()
    if type(calibrator).__name__ not in _CLASSES:
        raise TypeError(f"{type(calibrator).__name__} is not one of the calibrators that a file can hold.")
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; choose another name, or overwrite it with overwrite=True.")
    learnt = {k: _plain(v) for k, v in vars(calibrator).items() if k.endswith("_") and k != "classes_"}
    record = {
        "format": _FORMAT,
        "version": _VERSION,
        "calibrator": type(calibrator).__name__,
        "parameters": _plain(calibrator.get_params()),
        "learnt": learnt,
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    with whole_file(target) as file:
        file.write(text.encode())


def load(path: str | os.PathLike[str]) -> Calibrator:
    """Read a calibrator that :func:`save` wrote.

    Args:
        path: the file.

    Returns:
        A fitted calibrator of the class that was saved.

    Raises:
        ValueError: for a file that is not such JSON, or of a later version; the message says which.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} is not a calibrator: it is not JSON ({problem}).") from problem
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a calibrator: its format is not {_FORMAT!r}.")
    if record.get("version") != _VERSION:
        raise ValueError(f"{path} has version {record.get('version')!r}; this release reads version {_VERSION}.")
    cls = _CLASSES.get(record.get("calibrator", ""))
    if cls is None:
        raise ValueError(f"{path} holds a {record.get('calibrator')!r}; there are {', '.join(_CLASSES)}.")
    try:
        calibrator = cls(**_rich(record["parameters"]))
        for name, value in record["learnt"].items():
            setattr(calibrator, name, _rich(value))
        calibrator.n_classes_ = int(calibrator.n_classes_)
        calibrator.classes_ = np.arange(calibrator.n_classes_)
        calibrator._tensors()
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise ValueError(f"{path} is a damaged {cls.__name__}: {problem}.") from problem
    return calibrator


def _plain(value: Any) -> Any:
    """As JSON; arrays and tuples are marked so that they come back as what they were."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return {"tuple": [_plain(v) for v in value]}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return [_rich(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"array"}:
        return np.asarray(value["array"], dtype=np.float64)
    if set(value) == {"tuple"}:
        return tuple(_rich(v) for v in value["tuple"])
    return {k: _rich(v) for k, v in value.items()}
