"""Reports: tables for the terminal, and self-contained pages of a study or of one trained model."""

from labelsmooth.report.html import write_report
from labelsmooth.report.training import write_training

__all__ = ["write_report", "write_training"]
