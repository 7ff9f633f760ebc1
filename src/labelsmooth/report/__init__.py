"""Reports: tables for the terminal, pictures, and self-contained pages of a study, a trained model or predictions."""

from labelsmooth.report.card import write_card
from labelsmooth.report.evaluation import write_evaluation
from labelsmooth.report.notebook import LiveCurves, load_ipython_extension
from labelsmooth.report.plots import (
    plot_by_rank,
    plot_histogram,
    plot_reliability,
    plot_reliability_grid,
    plot_risk_coverage,
)
from labelsmooth.report.predictions import write_predictions
from labelsmooth.report.study import write_study
from labelsmooth.report.sweep import write_sweep
from labelsmooth.report.training import write_training

__all__ = [
    "LiveCurves",
    "load_ipython_extension",
    "plot_by_rank",
    "plot_histogram",
    "plot_reliability",
    "plot_reliability_grid",
    "plot_risk_coverage",
    "write_card",
    "write_evaluation",
    "write_predictions",
    "write_study",
    "write_sweep",
    "write_training",
]
