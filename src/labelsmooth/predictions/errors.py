"""The one error of this room: a sentence about a file of predictions."""

from __future__ import annotations


class PredictionError(ValueError):
    """A file of predictions cannot be used; the message names the file, the row and the remedy."""
