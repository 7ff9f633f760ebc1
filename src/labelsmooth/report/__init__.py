"""Reports of a finished study: tables for the terminal, one self-contained page for everyone else."""

from labelsmooth.report.html import write_report

__all__ = ["write_report"]
