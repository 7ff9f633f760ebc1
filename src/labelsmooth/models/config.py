"""``config.json`` of a model's folder, read and validated: everything about a network but its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelsmooth.errors import UserError

FORMAT = 1
CONFIG, WEIGHTS, CALIBRATOR = "config.json", "model.safetensors", "calibrator.json"
LARGEST_SIDE = 8192  # pixels of an input


def previous(name: str) -> str:
    """The name under which a calibration keeps a file that it replaces."""
    stem, suffix = name.split(".")
    return f"{stem}.previous.{suffix}"


def read_config(folder: Path) -> dict[str, Any]:
    """The checked content of ``config.json``."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} is not a model's folder: it has no {CONFIG}. Give the folder that 'labelsmooth train' wrote."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it or train the model again.") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        format = config.get("format") if isinstance(config, dict) else None
        newer = isinstance(format, int) and format > FORMAT
        remedy = "update labelsmooth" if newer else "this is not the folder of a trained model"
        raise UserError(f"{path} has format {format!r}; this release reads format {FORMAT}: {remedy}.")
    problem = _problem(config)
    if problem:
        raise UserError(f"{path} is damaged: {problem}. Restore it or train the model again.")
    return config


def _problem(config: dict[str, Any]) -> str:
    """What is wrong with the content; "" if nothing is."""
    types = {"backbone": str, "classes": list, "input": dict, "calibrate": bool, "weights_sha256": str, "data": dict}
    for key, kind in types.items():
        if not isinstance(config.get(key), kind):
            return f"{key!r} is missing" if key not in config else f"{key!r} is {config[key]!r}"
    classes, spec = config["classes"], config["input"]
    if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        return f"'classes' must be a list of 2 names or more, not {str(classes)[:100]}"
    if len(set(classes)) < len(classes):
        return "'classes' has a name twice"
    unreadable = [name for name in classes if not name or any("\ud800" <= c <= "\udfff" for c in name)]
    if unreadable:
        return f"'classes' has the name {unreadable[0]!r}, which is not text"
    if set(spec) != {"channels", "height", "width", "size"}:
        return f"'input' must have channels, height, width and size, not {', '.join(spec) or 'nothing'}"
    for key, value in spec.items():
        limit = 3 if key == "channels" else LARGEST_SIDE
        fits = _is_whole(value) and 1 <= value <= limit
        if not fits and not (key == "size" and value is None):
            return f"'input' has {key} {value!r}; it must be a whole number from 1 to {limit}"
    if spec["size"] is not None and (spec["channels"] != 3 or spec["height"] != spec["width"]):
        return "'input' has a size for photos, so channels must be 3 and height the width"
    return _problem_of_data(config["data"]) or (
        "" if isinstance(config.get("calibrated", {}), dict) else "'calibrated' must be an object"
    )


def _problem_of_data(data: dict[str, Any]) -> str:
    """What is wrong with the description of the training data; "" if nothing is.  Every entry is optional."""
    if not isinstance(data.get("fingerprint", ""), str):
        return "'data' has a fingerprint that is not text"
    if not _is_whole(data.get("split_seed", 0)):
        return f"'data' has split_seed {data['split_seed']!r}; it must be a whole number of at least 0"
    limits = data.get("limits")
    if limits is not None and not (isinstance(limits, list) and len(limits) == 3 and all(map(_is_whole, limits))):
        return f"'data' has limits {limits!r}; they must be three whole numbers of at least 0"
    fractions = data.get("fractions", [0.6, 0.2, 0.2])
    numbers = isinstance(fractions, list) and all(isinstance(share, int | float) for share in fractions)
    if not (numbers and len(fractions) == 3 and min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-6):
        return f"'data' has fractions {fractions!r}; they must be three shares that sum to 1"
    return ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
