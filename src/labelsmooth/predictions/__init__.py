"""Predictions of any model in files or data frames: read them, evaluate them, calibrate them."""

from labelsmooth.predictions.calibration import apply_file, evaluate_held_out, fit_file
from labelsmooth.predictions.chunks import Chunk, Source
from labelsmooth.predictions.columns import ColumnOptions
from labelsmooth.predictions.evaluate import Evaluation, evaluate, measure
from labelsmooth.predictions.read import open_predictions
from labelsmooth.predictions.sets import SetOptions, SetsEvaluation

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
