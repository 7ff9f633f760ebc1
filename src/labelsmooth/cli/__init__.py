"""The command ``labelsmooth``: options in, reports out; what a command does can be called from Python too (Typer)."""

from . import models, predictions, study, train  # noqa: F401  (each adds its commands)
from .app import app

__all__ = ["app"]
