"""Reports: tables for the terminal, pictures, and self-contained pages of a study, a trained model or predictions."""

from labelsmooth.report.evaluation import write_evaluation
from labelsmooth.report.html import write_report
from labelsmooth.report.plots import (
    gap_sentence,
    plot_before_after,
    plot_histogram,
    plot_reliability,
    plot_reliability_grid,
    plot_risk_coverage,
)
from labelsmooth.report.training import write_training

__all__ = [
    "gap_sentence",
    "plot_before_after",
    "plot_histogram",
    "plot_reliability",
    "plot_reliability_grid",
    "plot_risk_coverage",
    "write_evaluation",
    "write_report",
    "write_training",
]
