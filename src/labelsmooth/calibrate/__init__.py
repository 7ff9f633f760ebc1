"""Calibrators: held-out logits and labels in, better probabilities out, with scikit-learn's fit and predict_proba."""

from .base import Calibrator, NotFittedError
from .isotonic import IsotonicCalibration
from .platt import PlattScaling
from .temperature import TemperatureScaling

__all__ = ["Calibrator", "IsotonicCalibration", "NotFittedError", "PlattScaling", "TemperatureScaling"]
