"""The metrics as torchmetrics classes: states of fixed size that add up over batches and processes.

Needs torchmetrics, which ``import labelsmooth`` does not: ``from labelsmooth.metrics import streaming``. Predictions
are of the shapes that the functions take: (N, K), dense (N, K, d1, ...), or as the labels for yes-or-no questions and
multi-label ones, (N,) or (N, L).
"""

from __future__ import annotations

from .inputs import Floats, Predictions
from .streaming_base import Mean
from .streaming_bins import KS, CalibrationError, DebiasedECE, OverConfidence, SmoothECE, UnderConfidence
from .streaming_order import AURC, EAURC, RiskAtCoverage

__all__ = [
    "AURC",
    "EAURC",
    "KS",
    "NLL",
    "Brier",
    "CalibrationError",
    "ConfidenceGap",
    "DebiasedECE",
    "Error",
    "OverConfidence",
    "RiskAtCoverage",
    "SmoothECE",
    "UnderConfidence",
]


class Error(Mean):
    """:func:`labelsmooth.metrics.error`, streamed."""

    higher_is_better = False

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return 1.0 - rows.correct


class NLL(Mean):
    """:func:`labelsmooth.metrics.nll`, streamed."""

    higher_is_better = False

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return rows.nll


class Brier(Mean):
    """:func:`labelsmooth.metrics.brier`, streamed."""

    higher_is_better = False

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return rows.squared_error


class ConfidenceGap(Mean):
    """:func:`labelsmooth.metrics.confidence_gap`, streamed."""

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        return rows.confidence - rows.correct
