"""Influence values: one number per example whose mean is the metric and whose spread is the metric's standard error."""

from __future__ import annotations

from typing import Any, Literal, get_args

from .catalogue import statistic_of
from .inputs import Array, Floats, read
from .interval import per_example

WithInfluence = Literal["error", "nll", "brier", "ece", "ece_equal_width", "confidence_gap", "aurc"]


def influence(
    metric: WithInfluence,
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
        metric: "error", "nll", "brier", "ece", "ece_equal_width", "confidence_gap" or "aurc".
        probabilities: (N, K), (N, K, d1, ...) or (N,), as in :func:`labelsmooth.metrics.error`.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities.
        ignore_index: positions with this label are left out.
        **options: the metric's own: ``bins``, ``binning``, ``norm`` and ``scope`` of the ECE, whose edges
            count as fixed; ``score`` and ``p`` of the AURC.

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
    rows = read(probabilities, labels, logits, ignore_index)
    statistic = statistic_of(metric, rows, **options)
    if statistic.influence is None:
        raise ValueError(
            f"metric {metric!r} has no influence values; choose one of {', '.join(map(repr, get_args(WithInfluence)))}."
        )
    return per_example(rows, statistic.influence())
