"""Calibrators: held-out logits and labels in, better probabilities out, with scikit-learn's fit and predict_proba."""

from labelsmooth.calibrate.affine import DirichletCalibration, MatrixScaling, VectorScaling, fold
from labelsmooth.calibrate.base import CalibrationModule, Calibrator, Identity, NotFittedError
from labelsmooth.calibrate.catalogue import CATALOGUE, Entry, Name, check_name
from labelsmooth.calibrate.choose import CANDIDATES, Choice, best
from labelsmooth.calibrate.files import load, save
from labelsmooth.calibrate.logistic import BetaCalibration, PlattScaling
from labelsmooth.calibrate.mixtures import EnsembleTemperatureScaling, StructuredMatrixScaling, StructuredVectorScaling
from labelsmooth.calibrate.sets import PredictionSets, SetSummary
from labelsmooth.calibrate.steps import HistogramBinning, IsotonicCalibration
from labelsmooth.calibrate.temperature import TemperatureScaling

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
