"""Files of predictions: read them, evaluate them, calibrate them."""

from .calibration import apply_file, fit_file
from .errors import PredictionError
from .evaluate import Evaluation, evaluate, pictures

__all__ = ["Evaluation", "PredictionError", "apply_file", "evaluate", "fit_file", "pictures"]
