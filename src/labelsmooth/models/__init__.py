"""A trained classifier and its folder: train, save, load, predict, evaluate on other data, calibrate, export."""

from labelsmooth.models.evaluate import calibrate, evaluate
from labelsmooth.models.export import export
from labelsmooth.models.folder import load, save_model, undo_calibration
from labelsmooth.models.held_out import HeldOut
from labelsmooth.models.model import Model
from labelsmooth.models.on_data import Part
from labelsmooth.models.predict import Prediction, abstain_below, keep_most_confident, predict
from labelsmooth.models.preprocess import Input, preprocess
from labelsmooth.models.records import Measured, Mistake, TrainConfig, TrainingRecord, load_training
from labelsmooth.models.train import train

__all__ = [
    "HeldOut",
    "Input",
    "Measured",
    "Mistake",
    "Model",
    "Part",
    "Prediction",
    "TrainConfig",
    "TrainingRecord",
    "abstain_below",
    "calibrate",
    "evaluate",
    "export",
    "keep_most_confident",
    "load",
    "load_training",
    "predict",
    "preprocess",
    "save_model",
    "train",
    "undo_calibration",
]
