"""A trained model's folder: save it, load it, predict, measure it on other data, calibrate it, export it."""

from labelsmooth.models.evaluate import calibrate, evaluate
from labelsmooth.models.export import export
from labelsmooth.models.folder import check_backbone, load, save_model
from labelsmooth.models.model import Input, Model
from labelsmooth.models.on_data import Part, Progress
from labelsmooth.models.predict import Prediction, abstain_below, keep_most_confident, predict

__all__ = [
    "Input",
    "Model",
    "Part",
    "Prediction",
    "Progress",
    "abstain_below",
    "calibrate",
    "check_backbone",
    "evaluate",
    "export",
    "keep_most_confident",
    "load",
    "predict",
    "save_model",
]
