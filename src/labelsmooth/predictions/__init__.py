"""Files of predictions: read them, evaluate them, calibrate them."""

from .calibration import apply_file, fit_file
from .errors import PredictionError
from .evaluate import Evaluation, evaluate, measure
from .gather import Source

__all__ = ["Evaluation", "PredictionError", "Source", "apply_file", "evaluate", "fit_file", "measure"]
