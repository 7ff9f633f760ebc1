"""Many numbers from one reading: every metric with its interval, and the influence of every example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from labelsmooth.metrics.catalogue import SUMMARY, factory_of
from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.interval import Estimate, Factory, Interval, estimates, per_example
from labelsmooth.metrics.metric import Binning, Norm, Scope, Score
from labelsmooth.metrics.rows import Array, Floats, Rows

WithInfluence = Literal["error", "nll", "brier", "ece", "ece_equal_width", "confidence_gap", "aurc"]


def summary(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    ignore_index: int | None = None,
    interval: float | Interval = 0.95,
) -> dict[str, Estimate]:
    """Error, NLL, Brier, ECE, smooth ECE, KS, confidence gap, AURC and E-AURC, each with its interval.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`labelsmooth.metrics.error`.
        bins, binning: of the ECE.
        interval: a level or an :class:`Interval`.

    Returns:
        :class:`Estimate` by name.

    Raises:
        ValueError: as in the metrics.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> p = rng.uniform(0.5, 1.0, 500)
        >>> estimates = summary(p, (rng.random(500) < p).astype(int))
        >>> estimates["ece"].low, estimates["error"].low < 0.25 < estimates["error"].high
        (0.0, True)
    """
    rows = read(probabilities, labels, logits, ignore_index)
    return summarise(rows, interval, bins, binning)


def summarise(
    rows: Rows,
    interval: float | Interval = 0.95,
    bins: int = 15,
    binning: Binning = "equal-mass",
    names: Sequence[str] = SUMMARY,
) -> dict[str, Estimate]:
    """:func:`summary` of validated rows, of other metrics if they are named."""
    named = factories(bins, binning, names)
    return dict(zip(named, estimates(rows, list(named.values()), interval), strict=True))


def factories(bins: int = 15, binning: Binning = "equal-mass", names: Sequence[str] = SUMMARY) -> dict[str, Factory]:
    """What makes the statistics of a summary, by name."""
    options = {"ece": {"bins": bins, "binning": binning}}
    return {name: factory_of(name, **options.get(name, {})) for name in names}


def influence(
    metric: WithInfluence,
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    ignore_index: int | None = None,
    **options: int | float | Binning | Norm | Scope | Score,
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
        probabilities, labels, logits, ignore_index: as in :func:`labelsmooth.metrics.error`.
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
    statistic = factory_of(metric, **options)(rows)
    if statistic.influence is None:
        raise ValueError(
            f"metric {metric!r} has no influence values; choose one of {', '.join(map(repr, get_args(WithInfluence)))}."
        )
    return per_example(rows, statistic.influence())
