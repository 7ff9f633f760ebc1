"""Simulated logits and labels with a known calibration."""

import numpy as np
from scipy.special import log_softmax


def draw(n=2000, k=5, seed=0, scale=1.0):
    """Logits [n, k], and labels drawn from softmax(scale * logits)."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    return z, (scale * z + rng.gumbel(size=z.shape)).argmax(1)


def draw_unequal(n=1500, k=3, seed=0):
    """Logits whose best map has class-dependent scales and shifts."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    true = z * np.linspace(0.5, 1.5, k) + np.linspace(1.0, -1.0, k)
    return z, (true + rng.gumbel(size=z.shape)).argmax(1)


def nll(z, y, w=None):
    return np.average(-log_softmax(z, axis=1)[np.arange(len(y)), y], weights=w)
