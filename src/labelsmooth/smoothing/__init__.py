"""Smoothing policies: labels in, target distributions out."""

from labelsmooth.smoothing.uniform import Uniform

__all__ = ["Uniform"]
