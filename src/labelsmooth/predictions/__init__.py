"""Files of predictions: read them, evaluate them, calibrate them."""

from .calibration import apply_file, fit_file
from .evaluate import Evaluation, evaluate, measure
from .gather import Source

__all__ = ["Evaluation", "Source", "apply_file", "evaluate", "fit_file", "measure"]
