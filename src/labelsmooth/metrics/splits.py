"""The Brier score and the NLL split into calibration and refinement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .binning import check_binning, into_bins
from .inputs import read
from .interval import Estimate, Interval, percentile_estimate, resampled_counts
from .options import Binning
from .rows import Array, Floats, float64


@dataclass(frozen=True)
class BrierSplit:
    """The Brier score as calibration + refinement, and the refinement as uncertainty - resolution.

    calibration: what replacing every probability by its bin's frequency would gain; refinement: the Brier score that
    is left then; uncertainty: that of always predicting the frequencies of the classes; resolution: what telling the
    bins apart gains over that. Each a number, or an :class:`Estimate` where an interval was asked for.
    """

    brier: float | torch.Tensor | Estimate
    calibration: float | torch.Tensor | Estimate
    refinement: float | torch.Tensor | Estimate
    uncertainty: float | torch.Tensor | Estimate
    resolution: float | torch.Tensor | Estimate


def brier_split(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> BrierSplit:
    r"""Split the Brier score into calibration and refinement, class by class with bins of p_k.

    .. math:: \text{refinement} = \sum_k \sum_b \frac{n_{kb}}{N} a_{kb} (1 - a_{kb}), \qquad
              \text{calibration} = \text{Brier} - \text{refinement}, \qquad
              \text{uncertainty} = \sum_k \bar y_k (1 - \bar y_k)

    The sum is exact: the spread of p inside a bin counts as calibration, so with few bins some real resolution does,
    too, and the calibration part can be below 0.

    Args:
        probabilities, labels, logits, bins, binning, ignore_index: as in :func:`ece`.
        interval: a level such as 0.95, for an :class:`Estimate` of each part from the same resamples, the edges fixed.
            The parts have the bias of small bins: calibration upwards, refinement downwards.

    Returns:
        A :class:`BrierSplit`; halved for binary (N,) input, like :func:`brier`.

    Raises:
        ValueError: as in :func:`ece`.

    Example:
        >>> import numpy as np
        >>> split = brier_split(np.array([0.9, 0.9, 0.2, 0.2]), np.array([1, 0, 0, 0]), bins=2)
        >>> print(f"{split.calibration:.3f} + {split.refinement:.3f} = {split.brier:.3f}")
        0.100 + 0.125 = 0.225

    Source: Murphy (1973); Bröcker (2009).
    """
    check_binning(bins, binning)
    rows = read(probabilities, labels, logits, ignore_index)
    classes = [1] if rows.binary else range(rows.classes)
    questions = [rows.of_class(k) for k in classes]
    index = [into_bins(confidence, correct, bins, binning).index for confidence, correct in questions]
    square = rows.squared_error

    def parts(counts: Floats) -> Floats:
        """Brier score, refinement and uncertainty."""
        refinement = uncertainty = 0.0
        size = counts.sum()
        for at, (_, correct) in zip(index, questions, strict=True):
            total, right = np.bincount(at, counts), np.bincount(at, counts * correct)
            refinement += float((right * (1.0 - right / np.maximum(total, 1.0))).sum() / size)
            share = float(right.sum() / size)
            uncertainty += share * (1.0 - share)
        return np.array([(counts * square).sum() / size, refinement, uncertainty])

    def split(brier: float, refinement: float, uncertainty: float) -> list[float]:
        return [brier, brier - refinement, refinement, uncertainty, uncertainty - refinement]

    whole = split(*parts(np.ones(rows.rows)))
    if interval is None:
        return BrierSplit(*whole)
    settings = _percentile_settings(interval)
    draws = np.array([split(*parts(counts)) for counts in resampled_counts(rows, settings)])
    return BrierSplit(*(percentile_estimate(v, d, rows, settings) for v, d in zip(whole, draws.T, strict=True)))


@dataclass(frozen=True)
class NLLSplit:
    """The NLL as calibration + refinement: what the best temperature would gain, and the NLL that is left then.

    `temperature` is that best one. Each part is a number, or an :class:`Estimate` where an interval was asked for.
    """

    nll: float | Estimate
    calibration: float | Estimate
    refinement: float | Estimate
    temperature: float


def nll_split(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> NLLSplit:
    r"""Split the NLL into calibration and refinement, by the temperature that would be best on these rows.

    .. math:: \text{refinement} = \min_T \frac1N \sum_i -\ln \operatorname{softmax}(z_i / T)_{y_i}, \qquad
              \text{calibration} = \text{NLL} - \text{refinement}

    The refinement is what training should minimise: a temperature repairs the rest afterwards. One number is fitted on
    the rows themselves, which lowers the refinement by about 1 / (2N) nats.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`nll`.
        interval: a level such as 0.95, for an :class:`Estimate` of each part from the same resamples, the temperature
            fitted anew in each.

    Returns:
        An :class:`NLLSplit`, in nats; the temperature is sought between 0.05 and 20.

    Raises:
        ValueError: as in :func:`nll`, or where a label has probability 0.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(5_000, 4))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> split = nll_split(logits=2 * z, labels=y)
        >>> round(split.temperature, 1), split.calibration > 0.1
        (2.0, True)

    Source: Berta, Holzmüller, Jordan and Bach (2025).
    """
    rows = read(probabilities, labels, logits, ignore_index)
    z = rows.scores.double() if rows.are_logits else rows.scores.double().log()
    z = z - z.amax(dim=1, keepdim=True)
    of_label = z.gather(1, rows.labels[:, None])[:, 0]
    if bool(torch.isneginf(of_label).any()):
        raise ValueError("A label has probability 0, so that the NLL is infinite: it has no parts.")
    z = torch.where(torch.isneginf(z), -1e30, z)  # a masked class stays masked at every temperature

    def losses(inverse: float) -> Floats:
        """-ln p of the label of each row at a temperature of 1 / inverse, [M]."""
        return float64(torch.logsumexp(inverse * z, dim=1) - inverse * of_label)

    # The NLL is convex in the inverse temperature: thirds of an interval in its logarithm.
    low, high = math.log(0.05), math.log(20.0)
    while high - low > 1e-4:
        left, right = low + (high - low) / 3.0, high - (high - low) / 3.0
        if losses(math.exp(left)).mean() < losses(math.exp(right)).mean():
            high = right
        else:
            low = left
    best = (low + high) / 2.0
    nll, refinement = float(losses(1.0).mean()), float(losses(math.exp(best)).mean())
    if interval is None:
        return NLLSplit(nll, nll - refinement, refinement, math.exp(-best))
    settings = _percentile_settings(interval)
    # In a resample the best temperature is near: the least of 17 within a factor of e either way.
    table = np.stack([losses(1.0), *(losses(math.exp(best + step)) for step in np.linspace(-1.0, 1.0, 17))])
    means = np.array([table @ counts / counts.sum() for counts in resampled_counts(rows, settings)])
    drawn = np.stack([means[:, 0], means[:, 0] - means[:, 1:].min(axis=1), means[:, 1:].min(axis=1)])
    values = (nll, nll - refinement, refinement)
    parts = [percentile_estimate(value, draws, rows, settings) for value, draws in zip(values, drawn, strict=True)]
    return NLLSplit(parts[0], parts[1], parts[2], math.exp(-best))


def _percentile_settings(interval: float | Interval) -> Interval:
    settings = interval if isinstance(interval, Interval) else Interval(interval)
    if settings.method not in ("auto", "percentile"):
        raise ValueError(f"method must be 'auto' or 'percentile' for the parts of a score, not {settings.method!r}.")
    return settings
