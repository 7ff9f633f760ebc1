"""Influence values: one number per example whose mean is the metric and whose spread is the metric's standard error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .binning import Binned, Binning, into_bins
from .calibration_error import Norm, Scope, check_options, combine, distance, scoped_rows
from .inputs import Array, Floats, Predictions, read
from .selective import TieGroups, area, pseudo_values

Metric = Literal["error", "nll", "brier", "ece", "confidence_gap", "aurc"]


def influence(
    metric: Metric,
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    ignore_index: int | None = None,
    **options: Any,
) -> Floats:
    r"""Per-example values ψ with mean ψ = the metric and variance(ψ) / N = its first-order variance.

    ψ_i is the metric plus example i's influence function, the derivative of the metric with respect to that
    example's weight (the infinitesimal jackknife). For a mean it is the example's own value; for the others

    .. math::
        \text{ECE, l1: } \psi_i = \operatorname{sign}(c_b - a_b) \,(\text{conf}_i - \text{correct}_i), \quad b = b(i)
        \qquad
        \text{AURC: } \psi_i = e_i \ln\tfrac{1}{G(c_i)} + \bar e - \frac1N \sum_{j: c_j \le c_i} \frac{e_j}{G(c_j)}

    (G(c) the share of predictions at least as confident as c; the exact jackknife of the finite sum is what is
    computed, ties included). Differences of ψ between two models on the same examples give paired standard errors, and
    averages of ψ over groups of examples give clustered ones.

    Args:
        metric: "error", "nll", "brier", "ece", "confidence_gap" or "aurc".
        probabilities: (N, K), (N, K, d1, ...) or (N,), as in :func:`labelsmooth.metrics.error`.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities.
        ignore_index: positions with this label are left out.
        **options: the metric's own: ``bins``, ``binning``, ``norm`` and ``scope`` of the ECE. Edges count as fixed.

    Returns:
        float64 NumPy array [N] (examples; a dense example's positions are averaged into it). Where a bin's gap is
        exactly 0 the ECE has a corner and no derivative: there the sign is taken as 0.

    Raises:
        ValueError: for an unknown metric or option, or inputs as in the metric itself.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
        >>> psi = influence("brier", p, np.array([0, 1, 0]))
        >>> psi.round(2)
        array([0.02, 1.28, 0.32])
        >>> round(float(psi.std(ddof=1) / len(psi) ** 0.5), 3)  # the standard error of the Brier score
        0.38

    Source: Hampel (1974); Jaeckel (1972). AURC as an expectation of -ln G: Zhou et al. (2024).
    """
    if metric not in _VALUES:
        raise ValueError(f"metric must be one of {', '.join(map(repr, _VALUES))}, not {metric!r}.")
    rows = read(probabilities, labels, logits, ignore_index)
    try:
        values = _VALUES[metric](rows, **options)
    except TypeError as problem:
        raise ValueError(f"{metric} does not take these options: {sorted(options)}.") from problem
    return per_example(rows, values)


def per_example(rows: Predictions, values: Floats) -> Floats:
    """Row values [M] as example values [N] of the same mean: an example counts for as many rows as it has."""
    if rows.example is None:
        return values
    mean = values.mean()
    # The derivative of Σ_rows ψ / M with respect to an example's weight, M itself included.
    deviation = np.bincount(rows.example, weights=values - mean, minlength=rows.examples)
    return np.asarray(mean + deviation * (rows.examples / rows.rows), dtype=np.float64)


def _error(rows: Predictions) -> Floats:
    return 1.0 - rows.correct


def _nll(rows: Predictions) -> Floats:
    return rows.nll


def _brier(rows: Predictions) -> Floats:
    return rows.squared_error


def _confidence_gap(rows: Predictions) -> Floats:
    return rows.confidence - rows.correct


def _ece(
    rows: Predictions,
    bins: int = 15,
    binning: Binning = "equal-mass",
    norm: Norm = "l1",
    scope: Scope = "top-label",
) -> Floats:
    check_options(bins, binning, norm)
    values: list[float] = []
    each: list[Floats] = []
    for confidence, correct in scoped_rows(rows, scope):
        binned = into_bins(confidence, correct, bins, binning)
        values.append(distance(binned, norm))
        each.append(_ece_values(binned, confidence - correct, norm))
    total = combine(values, norm)
    if norm == "l1":
        return np.asarray(np.mean(each, axis=0))
    if norm == "max":
        return each[int(np.argmax(values))]
    # The mean of squares, then its root: d√Q = dQ / 2√Q. At Q = 0 there is no derivative; ψ is the value itself.
    squares: Floats = np.mean(each, axis=0)
    if total == 0.0:
        return np.zeros(rows.rows)
    return np.asarray(total + (squares - total**2) / (2.0 * total))


def _ece_values(binned: Binned, difference: Floats, norm: str) -> Floats:
    """ψ of Σ share·|gap|, of Σ share·gap² (before the root), or of the largest |gap|."""
    gap = binned.gap[binned.index]
    if norm == "l1":
        return np.asarray(np.sign(gap) * difference)
    if norm == "l2":
        # Q = Σ S_b² / W_b with S_b = mean(difference in b) and W_b = share of b.
        return 2.0 * gap * difference - gap**2
    worst = int(np.argmax(np.abs(binned.gap)))
    value = float(binned.gap[worst])
    inside = binned.index == worst
    scale = binned.count.sum() / binned.count[worst]
    return np.asarray(abs(value) + np.where(inside, np.sign(value) * (difference - value) * scale, 0.0))


def _aurc(rows: Predictions) -> Floats:
    wrong = 1.0 - rows.correct
    groups = TieGroups.of(rows.confidence, wrong)
    values = pseudo_values(groups, wrong)
    # Pseudo-values estimate with the jackknife's bias correction; the metric is reported without it.
    return np.asarray(values - values.mean() + area(groups))


_VALUES: dict[str, Callable[..., Floats]] = {
    "error": _error,
    "nll": _nll,
    "brier": _brier,
    "ece": _ece,
    "confidence_gap": _confidence_gap,
    "aurc": _aurc,
}
