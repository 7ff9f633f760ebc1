"""Predictions that the metric tests share."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

Sample = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """A maker of (probabilities, labels): labels drawn from softmax(z), probabilities softmax(sharpness z)."""

    def make(n: int = 400, k: int = 5, sharpness: float = 1.7, seed: int = 0, decimals: int | None = None) -> Sample:
        rng = np.random.default_rng(seed)
        z = 1.5 * rng.normal(size=(n, k))
        true = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        labels = (true.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=k - 1)
        p = np.exp(sharpness * z)
        p /= p.sum(1, keepdims=True)
        if decimals is not None:  # ties
            p = np.round(p, decimals) + 1e-9
            p /= p.sum(1, keepdims=True)
            p = np.round(p, decimals + 3)
            p[:, -1] += 1.0 - p.sum(1)
            p = np.abs(p)
        return p, labels.astype(np.int64)

    return make
