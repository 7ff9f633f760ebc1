"""The Brier score and the NLL split into calibration and refinement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch

from labelsmooth.errors import plural
from labelsmooth.metrics import pointwise
from labelsmooth.metrics.binning import check_binning, into_bins
from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.interval import (
    Estimate,
    Interval,
    estimates,
    per_example,
    percentile_estimate,
    resampled_counts,
    with_two_errors,
)
from labelsmooth.metrics.metric import Binning
from labelsmooth.metrics.rows import POOL, Array, Floats, Predictions, Reduced, float64


def _short(split: BrierSplit | NLLSplit, *names: str) -> str:
    parts = {name: getattr(split, name) for name in names}
    texts = (f"{name}={part if isinstance(part, Estimate) else format(part, '.4g')}" for name, part in parts.items())
    return f"{type(split).__name__}({', '.join(texts)})"


@dataclass(frozen=True, repr=False)
class BrierSplit:
    """The Brier score as calibration + refinement, and the refinement as uncertainty - resolution.

    calibration: what replacing every probability by its bin's frequency would gain; refinement: the Brier score that
    is left then; uncertainty: that of always predicting the frequencies of the classes; resolution: what telling the
    bins apart gains over that. Each a number, or an :class:`Estimate` where an interval was asked for.
    """

    brier: float | Estimate
    calibration: float | Estimate
    refinement: float | Estimate
    uncertainty: float | Estimate
    resolution: float | Estimate

    def __repr__(self) -> str:
        return _short(self, "brier", "calibration", "refinement")


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
            Small bins bias the values, calibration upwards and refinement downwards, but not the intervals: a value
            may lie above or below its own.

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
    parts = _BrierParts(rows, bins, binning)
    whole = parts.split(np.ones(rows.rows))
    if interval is None:
        return BrierSplit(*whole)
    settings = _settings(interval)
    draws = [np.array([parts.split(counts, parts.counts) for counts in resampled_counts(rows, settings)]).T]
    if settings.method == "auto":
        rng = np.random.default_rng([settings.seed, 1])
        parts.add_errors(rng)
        drawn = with_two_errors(rows, settings, rng, len(parts.square) - rows.rows)
        draws.append(np.array([parts.split(counts, parts.counts) for counts in drawn]).T)
    ends = [percentile_estimate(v, list(d), rows.examples, settings) for v, *d in zip(whole, *draws, strict=True)]
    ends[0] = estimates(rows, [pointwise.brier.statistic], settings)[0]
    return BrierSplit(*ends)


class _BrierParts:
    """The bins of every question, and the parts of the Brier score under counts of the rows."""

    def __init__(self, rows: Predictions, bins: int, binning: Binning) -> None:
        questions = [rows.of_class(k) for k in ([1] if rows.binary else range(rows.classes))]
        binned = [into_bins(confidence, correct, bins, binning) for confidence, correct in questions]
        starts = np.cumsum([0, *(len(b.count) for b in binned[:-1])])
        self.bin = np.stack([b.index + start for b, start in zip(binned, starts, strict=True)])  # [Q, M]
        self.yes = np.stack([correct for _, correct in questions])
        self.square = rows.squared_error
        self.counts = np.concatenate([b.count for b in binned])
        self._p = np.stack([confidence for confidence, _ in questions])

    def split(self, counts: Floats, sizes: Floats | None = None) -> list[float]:
        """All five parts. With the `sizes` of the bins before resampling [B], those of a resample without the bias
        of small bins: n a (1 - a) loses a n-th of its mean when n rows are drawn, and again when they are resampled."""
        weight = np.broadcast_to(counts, self.bin.shape)
        total = np.bincount(self.bin.ravel(), weight.ravel(), len(self.counts)).astype(np.float64)
        right = np.bincount(self.bin.ravel(), (weight * self.yes).ravel(), len(self.counts))
        size, share = counts.sum(), (self.yes @ counts) / counts.sum()
        within, between = right * (1.0 - right / np.maximum(total, 1.0)), share * (1.0 - share)
        if sizes is not None:
            within, between = within * _unbiased(total) * _unbiased(sizes), between * _unbiased(size) ** 2
        brier, refinement = float((counts * self.square).sum() / size), float(within.sum() / size)
        uncertainty = float(between.sum())
        return [brier, brier - refinement, refinement, uncertainty, uncertainty - refinement]

    def add_errors(self, rng: np.random.Generator) -> None:
        """Add rows that are wrong: copies of rows drawn evenly, whose label is another class, drawn by probability."""
        questions, rows = self._p.shape
        at = rng.integers(0, rows, POOL)
        p = self._p[:, at]
        if questions == 1:
            label = p < 0.5
        else:
            chance = np.where(np.arange(questions)[:, None] == p.argmax(axis=0), 0.0, p + 1e-12)
            drawn = (np.cumsum(chance / chance.sum(axis=0), axis=0) < rng.random(POOL)).sum(axis=0)
            label = np.arange(questions)[:, None] == np.minimum(drawn, questions - 1)
        self.bin, self.yes = np.hstack([self.bin, self.bin[:, at]]), np.hstack([self.yes, label])
        self.square = np.concatenate([self.square, ((p - label) ** 2).sum(axis=0)])


def _unbiased(size: Floats | float) -> Floats:
    return np.asarray(size / np.maximum(size - 1.0, 1.0))


@dataclass(frozen=True, repr=False)
class NLLSplit:
    """The NLL as calibration + refinement: what the best temperature would gain, and the NLL that is left then.

    `temperature` is that best one. Each part is a number, or an :class:`Estimate` where an interval was asked for.
    """

    nll: float | Estimate
    calibration: float | Estimate
    refinement: float | Estimate
    temperature: float

    def __repr__(self) -> str:
        return _short(self, "nll", "calibration", "refinement", "temperature")


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
        interval: a level such as 0.95, for an :class:`Estimate` of each part. That of the calibration comes from the
            signed root of the likelihood ratio, and reaches 0 where the best temperature may be 1.

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
    settings = _settings(interval)
    of_nll = estimates(rows, [pointwise.nll.statistic], settings)[0]
    at_best = losses(math.exp(best))
    top = float64(torch.softmax(math.exp(best) * z, dim=1).amax(dim=1))
    tempered = Reduced(top, rows.correct, at_best, rows.squared_error, example=rows.example)
    of_refinement = estimates(tempered, [pointwise.nll.statistic], settings)[0]
    return NLLSplit(of_nll, _gain(losses(1.0) - at_best, rows, settings), of_refinement, math.exp(-best))


def _gain(gain: Floats, rows: Predictions, settings: Interval) -> Estimate:
    """What the best temperature gains, G, from the rows' gains [M].

    The signed root ±(2G)^½, with the sign of ln T, is normal where G itself is not: where the model is calibrated G is
    χ² / 2N, and never below 0. Its variance is that of the rows' gains over 2G, and at least 1 / N, its value for a
    calibrated model: without an error the rows' gains say too little.
    """
    value = max(float(gain.mean()), 0.0)
    root = math.sqrt(2.0 * value)
    spread = float(per_example(rows, gain).std()) / root if root > 0.0 else 1.0
    far = NormalDist().inv_cdf(0.5 + settings.level / 2.0) * max(spread, 1.0) / math.sqrt(rows.examples)
    low, high = max(root - far, 0.0) ** 2 / 2.0, (root + far) ** 2 / 2.0
    return Estimate(
        value, low, high, settings.level, f"signed likelihood root, {plural(rows.examples, 'example')}", rows.examples
    )


def _settings(interval: float | Interval) -> Interval:
    settings = interval if isinstance(interval, Interval) else Interval(interval)
    if settings.method not in ("auto", "percentile"):
        raise ValueError(f"method must be 'auto' or 'percentile' for the parts of a score, not {settings.method!r}.")
    return settings
