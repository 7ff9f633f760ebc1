"""``config.json`` of a model's folder, read and validated: everything about a network but its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelsmooth.errors import UserError

__all__ = ["CALIBRATOR", "CONFIG", "FORMAT", "PREVIOUS_CALIBRATOR", "WEIGHTS", "read_config"]

FORMAT = 1
CONFIG, WEIGHTS, CALIBRATOR = "config.json", "model.safetensors", "calibrator.json"
PREVIOUS_CALIBRATOR = "calibrator.previous.json"  # what the last calibration replaced
LARGEST_SIDE = 8192  # pixels of an input


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
        found = config.get("format") if isinstance(config, dict) else None
        newer = isinstance(found, int) and found > FORMAT
        remedy = "update labelsmooth" if newer else "this is not the folder of a trained model"
        raise UserError(f"{path} has format {found!r}; this release reads format {FORMAT}: {remedy}.")
    wrong = _what_is_wrong(config)
    if wrong:
        raise UserError(f"{path} is damaged: {wrong}. Restore it or train the model again.")
    return config


def _what_is_wrong(config: dict[str, Any]) -> str:
    types = {"backbone": str, "classes": list, "input": dict, "calibrate": bool, "weights_sha256": str, "data": dict}
    for key, kind in types.items():
        if not isinstance(config.get(key), kind):
            return f"{key!r} is missing" if key not in config else f"{key!r} is {config[key]!r}"
    classes, spec = config["classes"], config["input"]
    if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        return f"'classes' must be a list of 2 names or more, not {str(classes)[:100]}"
    if len(set(classes)) < len(classes):
        return "'classes' has a name twice"
    if set(spec) != {"channels", "height", "width", "size"}:
        return f"'input' must have channels, height, width and size, not {', '.join(spec) or 'nothing'}"
    for key, value in spec.items():
        limit = 3 if key == "channels" else LARGEST_SIDE
        fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= limit
        if not fits and not (key == "size" and value is None):
            return f"'input' has {key} {value!r}; it must be a whole number from 1 to {limit}"
    if spec["size"] is not None and (spec["channels"] != 3 or spec["height"] != spec["width"]):
        return "'input' has a size for photos, so channels must be 3 and height the width"
    return ""
