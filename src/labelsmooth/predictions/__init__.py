"""Predictions of any model in files or data frames: read them, evaluate them, calibrate them."""

from .calibration import apply_file, evaluate_held_out, fit_file
from .chunks import Chunk, Source
from .columns import ColumnOptions
from .evaluate import Evaluation, evaluate, measure
from .read import open_predictions
from .sets import SetOptions, SetsEvaluation

__all__ = [
    "Chunk",
    "ColumnOptions",
    "Evaluation",
    "SetOptions",
    "SetsEvaluation",
    "Source",
    "apply_file",
    "evaluate",
    "evaluate_held_out",
    "fit_file",
    "measure",
    "open_predictions",
]
