"""Calibrators: held-out logits and labels in, better probabilities out, with scikit-learn's fit and predict_proba."""

from .affine import DirichletCalibration, MatrixScaling, VectorScaling, fold
from .base import CalibrationModule, Calibrator, Identity, NotFittedError
from .catalogue import CATALOGUE, Entry, Name, check_name
from .choose import CANDIDATES, Choice, best
from .files import load, save
from .logistic import BetaCalibration, PlattScaling
from .mixtures import EnsembleTemperatureScaling, StructuredMatrixScaling, StructuredVectorScaling
from .sets import PredictionSets, SetSummary
from .steps import HistogramBinning, IsotonicCalibration
from .temperature import TemperatureScaling

__all__ = [
    "CANDIDATES",
    "CATALOGUE",
    "BetaCalibration",
    "CalibrationModule",
    "Calibrator",
    "Choice",
    "DirichletCalibration",
    "EnsembleTemperatureScaling",
    "Entry",
    "HistogramBinning",
    "Identity",
    "IsotonicCalibration",
    "MatrixScaling",
    "Name",
    "NotFittedError",
    "PlattScaling",
    "PredictionSets",
    "SetSummary",
    "StructuredMatrixScaling",
    "StructuredVectorScaling",
    "TemperatureScaling",
    "VectorScaling",
    "best",
    "check_name",
    "fold",
    "load",
    "save",
]
