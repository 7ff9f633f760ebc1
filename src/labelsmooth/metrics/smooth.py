"""Calibration errors without bins: Kolmogorov-Smirnov and smooth ECE."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labelsmooth.metrics.binning import sum_by
from labelsmooth.metrics.calibration_error import one_question
from labelsmooth.metrics.metric import Scope, calibration_metric
from labelsmooth.metrics.rows import Floats, Rows
from labelsmooth.metrics.statistic import Signed, Statistic, signed_of, weights_of

# Cells of the grid that smooth ECE lives on. A row is shared between its two neighbours, so the error is of second
# order in the width of a cell, 1/4096, and nothing beside a bandwidth of _LEAST or more.
CELLS = 4096
_LEAST = 1e-3


@calibration_metric
def ks(rows: Rows, scope: Scope = "top-label") -> Statistic:
    r"""Kolmogorov-Smirnov calibration error: the largest cumulative difference of confidence and accuracy.

    .. math:: \max_t \Big| \frac1N \sum_{i: \text{conf}_i \le t} (\text{conf}_i - \text{correct}_i) \Big|

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`ece`.
        scope: "top-label", or an integer k for p_k against y = k.
        interval: a level such as 0.95, for an :class:`Estimate`, its upward bias removed as for the ECE.

    Returns:
        A number in [0, 1], at most the ECE with any bins. Tied confidences enter together.

    Raises:
        ValueError: as in :func:`ece`, and for ``scope="class-wise"``.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> round(ks(p, np.array([0, 0, 1, 0])), 6)
        0.15

    Source: Gupta et al. (2021).
    """
    confidence, correct = one_question(rows, scope)
    process, difference = CumulativeGap(confidence), confidence - correct

    def weighted(counts: Floats) -> float:
        return float(np.abs(process(counts, difference)).max())

    ones = weights_of(rows)

    def signed() -> Signed:
        # The process at 200 points: enough to find where it is largest.
        ends = process.ends[np.unique(np.linspace(0, len(process.ends) - 1, 200).astype(np.int64))]
        cell = np.empty(rows.rows, dtype=np.int64)
        cell[process.order] = np.searchsorted(ends, np.arange(rows.rows))

        def distance(total: Floats) -> Floats:
            return np.asarray(np.abs(np.cumsum(total, axis=-1)).max(axis=-1))

        return signed_of(cell, len(ends), confidence, correct, ones, distance)

    return Statistic(weighted(ones), weighted, signed=signed)


@calibration_metric
def smooth_ece(rows: Rows, scope: Scope = "top-label", bandwidth: float | None = None) -> Statistic:
    r"""Smooth ECE: the gap smoothed by a Gaussian of bandwidth σ, with the σ at which error and bandwidth are equal.

    .. math:: \text{smECE}_\sigma = \int_0^1 \Big| \frac1N \sum_i K_\sigma(t, \text{conf}_i)
              (\text{conf}_i - \text{correct}_i) \Big| \, dt, \qquad \text{smECE} = \text{smECE}_{\sigma^*} = \sigma^*

    K is the Gaussian reflected at 0 and 1, which is the heat kernel of [0, 1]: in the cosine basis it multiplies the
    k-th coefficient by exp(-π²k²σ²/2), so every bandwidth costs one fast transform. smECE_σ falls as σ grows: the
    solution is unique.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`ece`.
        bandwidth: σ ≥ 0.001, or None for σ*.
        scope: "top-label", or an integer k for p_k against y = k.
        interval: a level such as 0.95, for an :class:`Estimate` at the σ* of the data, its bias removed as for the ECE.

    Returns:
        A number in [0, 1], at least 0.001 for σ*, which is as fine as it looks.

    Raises:
        ValueError: as in :func:`ece`, for ``scope="class-wise"``, or a bandwidth out of range.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> p = rng.random(20_000)
        >>> y = (rng.random(20_000) < 0.8 * p).astype(int)  # the gap is 0.2 p: 0.1 on average
        >>> round(smooth_ece(p, y, scope=1), 2)
        0.1

    Source: Błasiok and Nakkiran (2023).
    """
    if bandwidth is not None and not bandwidth >= _LEAST:
        raise ValueError(f"bandwidth must be at least {_LEAST:g}, not {bandwidth!r}.")
    confidence, correct = one_question(rows, scope)
    grid, difference = SmoothGrid(confidence), confidence - correct
    ones = weights_of(rows)
    whole = grid.cells(ones, difference)
    sigma = fixed_point(whole) if bandwidth is None else bandwidth

    def weighted(counts: Floats) -> float:
        return float(np.abs(smoothed(grid.cells(counts, difference), sigma)).sum())

    def signed() -> Signed:
        # Smoothed to σ the curve has no finer detail than that: cells and points of about σ / 3, at most 512.
        cells = 64
        while cells < 512 and cells * sigma < 3.0:
            cells *= 2
        filled, cell = np.unique(np.clip(confidence * cells, 0, cells - 1).astype(np.int64), return_inverse=True)
        width = CELLS // cells
        kernel = smoothed(np.repeat(np.eye(cells)[filled], width, axis=1) / width, sigma)
        kernel = kernel.reshape(len(filled), cells, width).mean(axis=2)

        def distance(total: Floats) -> Floats:
            return np.asarray(np.abs(total @ kernel).mean(axis=-1) * CELLS)

        return signed_of(cell, len(filled), confidence, correct, ones, distance)

    return Statistic(weighted(ones), weighted, signed=signed)


class CumulativeGap:
    """Σ_{conf_i ≤ t} counts · difference / Σ counts, at every distinct confidence t."""

    def __init__(self, confidence: Floats) -> None:
        self.order = np.argsort(confidence, kind="stable")
        ordered = confidence[self.order]
        self.ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))

    def __call__(self, counts: Floats, difference: Floats) -> Floats:
        total = np.cumsum((counts * difference)[self.order])[self.ends]
        return np.asarray(total / counts.sum())


class SmoothGrid:
    """Rows spread over the cells of [0, 1]: each between its two neighbours, the nearer taking the larger share."""

    def __init__(self, confidence: Floats) -> None:
        at = np.clip(confidence, 0.0, 1.0) * CELLS - 0.5
        left = np.floor(at).astype(np.int64)
        self.share = at - left
        self.lower, self.upper = np.clip(left, 0, CELLS - 1), np.clip(left + 1, 0, CELLS - 1)

    def cells(self, counts: Floats, difference: Floats) -> Floats:
        """Σ counts · difference / Σ counts per cell."""
        weight = counts * difference / counts.sum()
        right = weight * self.share
        return sum_by(self.lower, weight - right, CELLS) + sum_by(self.upper, right, CELLS)


def smoothed(cells: Floats, sigma: float) -> Floats:
    """Cells of [0, 1] convolved with a Gaussian that is reflected at both ends."""
    return _inverse(_spectrum(cells), sigma)


def fixed_point(cells: Floats) -> float:
    """The σ with Σ |smoothed(cells, σ)| = σ, at least _LEAST."""
    spectrum = _spectrum(cells)

    def excess(sigma: float) -> float:
        return float(np.abs(_inverse(spectrum, sigma)).sum()) - sigma

    low, high = _LEAST, 1.0
    above, below = excess(low), excess(high)
    if above <= 0.0:
        return low
    for _ in range(60):
        # The Illinois variant of false position: an end that stays gives up half of its weight.
        middle = (low * below - high * above) / (below - above)
        value = excess(middle)
        if abs(value) < 1e-10 or high - low < 1e-10:
            return middle
        if value > 0.0:
            low, above, below = middle, value, below / 2.0
        else:
            high, below, above = middle, value, above / 2.0
    return middle


def _spectrum(cells: Floats) -> npt.NDArray[np.complex128]:
    # The even extension has period 2; its Fourier coefficients are those of the cosine basis of the cells.
    return np.fft.rfft(np.concatenate([cells, cells[..., ::-1]], axis=-1))


def _inverse(spectrum: npt.NDArray[np.complex128], sigma: float) -> Floats:
    size = spectrum.shape[-1] - 1
    decay = np.exp(-0.5 * (np.pi * np.arange(size + 1) * sigma) ** 2)
    return np.fft.irfft(spectrum * decay, 2 * size)[..., :size]
