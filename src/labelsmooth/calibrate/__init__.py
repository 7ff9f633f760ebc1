"""Calibrators: held-out logits and labels in, better probabilities out, with scikit-learn's fit and predict_proba."""

from .base import CalibrationModule, Calibrator, NotFittedError
from .beta import BetaCalibration
from .choose import METHODS as METHODS
from .choose import Choice, best
from .ensemble import EnsembleTemperatureScaling
from .files import load, save
from .fold import fold
from .histogram import HistogramBinning
from .identity import Identity
from .isotonic import IsotonicCalibration
from .linear import DirichletCalibration, MatrixScaling, VectorScaling
from .platt import PlattScaling
from .temperature import TemperatureScaling

__all__ = [
    "BetaCalibration",
    "CalibrationModule",
    "Calibrator",
    "Choice",
    "DirichletCalibration",
    "EnsembleTemperatureScaling",
    "HistogramBinning",
    "Identity",
    "IsotonicCalibration",
    "MatrixScaling",
    "NotFittedError",
    "PlattScaling",
    "TemperatureScaling",
    "VectorScaling",
    "best",
    "fold",
    "load",
    "save",
]
