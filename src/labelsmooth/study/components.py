"""Variance components: how far means over seeds and test examples would move with other seeds and other examples.

A difference d[s, i] of two methods, for seed s and test example i, is read as the sum of its mean and three independent
parts, of the seed, of the example, and of the two together (a crossed design, Searle, Casella and McCulloch 1992):

    d[s, i] = mean + a[s] + b[i] + e[s, i],    Var(mean of S x N) = Var(a) / S + Var(b) / N + Var(e) / (S N)

The variance between the seeds' means is Var(a) + Var(e) / N.  The variance between the examples' means is
Var(b) + Var(e) / S, from which the interaction is subtracted, so that it is counted once.

A few seeds say little about the seeds' part.  Every method was trained with the same seeds, so the part that two
methods do not share is estimated from all of them: the residuals of means by (method, seed) after effects of methods
and of seeds.  Each method's own variance is moderated towards that of all, the more the more alike they look (Smyth
2004).  A method that certainly varies more than the others is left out, and compared by its own variance alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
SMALLEST = np.log(1e-14)  # of the p-values that are told apart
UNLIKE = 0.02  # level of the test of like variances


@dataclass(frozen=True)
class Design:
    """How the runs of a method differ.

    Attributes:
        splits: how many splits of the data the seeds are spread over, seed s on split s modulo splits.
        ratio: test examples for each training example, where every split has a test part of its own.  Training parts
            overlap, so means of R splits vary together, and their variance is multiplied by 1 / R + ratio in place of
            1 / R (the corrected resampled t test, Nadeau and Bengio 2003).
        same_test: whether all runs are measured on the same test examples.
    """

    splits: int = 1
    ratio: float = 0.0
    same_test: bool = True

    def units(self, seeds: int) -> int:
        """How many independent repetitions S seeds are: seeds on one split, or else splits."""
        return self.splits if self.splits > 1 else seeds

    def share(self, seeds: int) -> float:
        """The variance of the mean over that of one unit."""
        return 1 / self.units(seeds) + (self.ratio if self.splits > 1 else 0.0)


@dataclass(frozen=True)
class Means:
    """C means, and the independent parts of the variance of each.

    Attributes:
        mean: [C].
        variance: [C, P], of the mean.
        freedom: [C, P], the degrees of freedom with which each part is known.
    """

    mean: Floats
    variance: Floats
    freedom: Floats

    @property
    def error(self) -> Floats:
        """The standard errors, [C]."""
        return np.asarray(np.sqrt(self.variance.sum(-1)))

    def half_width(self, level: ArrayLike) -> Floats:
        r"""Half of the interval that misses its mean with a probability of at most ``level``, [C].

        .. math:: h(\alpha)^2 = \sum_p t_{\nu_p}(\alpha)^2 \, V_p

        It holds whatever the shares of the parts (Banerjee 1960), where Satterthwaite's approximation misses too often
        when a part with few degrees of freedom dominates.
        """
        quantile = _quantile(self.freedom, np.asarray(level, float)[..., None])
        # A part with a variance of 0 counts for nothing, even where its quantile is infinite.
        return np.asarray(np.sqrt(np.where(self.variance > 0, quantile**2 * self.variance, 0.0).sum(-1)))

    def p_value(self) -> Floats:
        """The smallest level at which the interval excludes 0, [C]."""
        size = np.abs(self.mean)
        low, high = np.full(size.shape, SMALLEST), np.zeros(size.shape)
        for _ in range(45):
            middle = (low + high) / 2
            covers = self.half_width(np.exp(middle)) >= size
            low, high = np.where(covers, middle, low), np.where(covers, high, middle)
        return np.asarray(np.where(size == 0, 1.0, np.where(self.error == 0, 0.0, np.exp(high))))


def _quantile(freedom: Floats, level: Floats) -> Floats:
    from scipy.special import stdtrit

    return np.asarray(-stdtrit(freedom, level / 2))


def unit_means(values: Floats, design: Design) -> Floats:
    """The mean of each unit, [U], from values [S, N]: of each seed, or of the seeds of each split."""
    by_seed = values.mean(-1)
    if design.splits == 1:
        return np.asarray(by_seed)
    return np.array([by_seed[split :: design.splits].mean() for split in range(design.splits)])


def between_examples(values: Floats) -> tuple[float, float]:
    """The variances of the example, Var(b), and of the interaction of seed and example, Var(e), from [S, N]."""
    seeds, examples = values.shape
    if examples < 2:
        return 0.0, 0.0
    by_example = float(values.mean(0).var(ddof=1))
    if seeds < 2:
        return by_example, 0.0
    residual = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    interaction = float((residual**2).sum() / ((seeds - 1) * (examples - 1)))
    return max(by_example - interaction / seeds, 0.0), interaction


@dataclass(frozen=True)
class Spread:
    """The variance between units that is each method's own.

    Attributes:
        variance: [M], of one unit, moderated over the methods that are alike.
        pooled: their average before moderation.
        freedom: the degrees of freedom with which each is known.
        alike: [M]; False for a method that varies by more than chance makes it (see :func:`vary_alike`).  It says
            nothing about the others, and they nothing about it.
    """

    variance: Floats
    pooled: float
    freedom: float
    alike: NDArray[np.bool_]


def moderated(means: Floats, alike: NDArray[np.bool_] | None = None) -> Spread:
    r"""Each method's own variance between units, moderated over the methods.

    .. math:: \tilde v_m = \frac{d_0 \bar v + (U - 1) v_m}{d_0 + U - 1}

    The prior's degrees of freedom :math:`d_0` are those under which the logarithms of the methods' variances would
    spread as they do: infinite where they spread no more than chance makes them.

    Args:
        means: [M, U], by method and unit.
        alike: [M], which methods vary alike; by default those that :func:`vary_alike` finds in these means alone.

    Source: Smyth (2004), section 6.2.
    """
    alike = vary_alike([means]) if alike is None else alike
    variance, pooled, freedom = _moderated(means[alike])
    everyone = np.zeros(len(means))
    everyone[alike] = variance
    return Spread(everyone, pooled, freedom, alike)


def vary_alike(tables: Sequence[Floats]) -> NDArray[np.bool_]:
    """Which methods do not vary more than the others, [M]; the most unlike is taken out, and the rest tested again.

    A few seeds say little about a variance, but a method whose seeds vary much does so in most metrics.  Each table has
    an F test of the method against the others, and their p-values are combined by the Cauchy test, which holds whatever
    the correlation of the tables.

    Args:
        tables: means [M, U] by method and unit, in different metrics.

    Source: Liu and Xie (2020), "Cauchy combination test".
    """
    kept = np.arange(len(tables[0]))
    while len(kept) > 2 and tables[0].shape[1] > 1:
        p_values = np.clip([_more_variable(means[kept]) for means in tables], 1e-15, 1 - 1e-15)
        combined = 0.5 - np.arctan(np.tan((0.5 - p_values) * np.pi).mean(0)) / np.pi
        worst = int(np.argmin(combined))
        if len(kept) * combined[worst] > UNLIKE:
            break
        kept = np.delete(kept, worst)
    return np.isin(np.arange(len(tables[0])), kept)


def _more_variable(means: Floats) -> Floats:
    """The p-value of each method's varying more than the others, [M], from [M, U]."""
    from scipy.special import fdtrc

    count, freedom = len(means), means.shape[1] - 1
    outside = [np.delete(means, m, 0) for m in range(count)]
    # x_m minus the mean of the others has the variance v_m + v / (M - 1).
    own = np.array([(means[m] - rest.mean(0)).var(ddof=1) for m, rest in enumerate(outside)]) * (1 - 1 / count)
    others = np.array([_residual(rest)[1] for rest in outside])
    return np.asarray(fdtrc(freedom, (count - 2) * freedom, own / np.maximum(others, 1e-300)))


def _residual(means: Floats) -> tuple[Floats, float]:
    """Sums of squares [M] after effects of methods and of units, and their mean square."""
    methods, units = means.shape
    residual = means - means.mean(1, keepdims=True) - means.mean(0) + means.mean()
    squares = (residual**2).sum(1)
    return squares, float(squares.sum() / max((methods - 1) * (units - 1), 1))


def _moderated(means: Floats) -> tuple[Floats, float, float]:
    """Variances [M], their average before moderation, and degrees of freedom."""
    from scipy.special import polygamma

    methods, units = means.shape
    if methods < 2 or units < 2:
        return np.zeros(methods), 0.0, 1.0
    freedom = units - 1
    squares, pooled = _residual(means)
    most = float((methods - 1) * freedom)
    if methods == 2 or not pooled:
        return np.full(methods, pooled), pooled, most
    logarithms = np.log(np.maximum(squares, 1e-12 * squares.max()))
    excess = float(logarithms.var(ddof=1)) - float(polygamma(1, freedom / 2))
    if excess <= 0:
        return np.full(methods, pooled), pooled, most
    prior = 2 * _inverse_trigamma(excess)
    # A residual holds 1 - 2 / M of the method's own variance, and 1 / M of the average.
    own = np.maximum((squares / freedom - pooled / methods) / (1 - 2 / methods), 0.0)
    return (prior * pooled + freedom * own) / (prior + freedom), pooled, min(prior + freedom, most)


def _inverse_trigamma(value: float) -> float:
    """Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step < 1e-8 * x:
            break
    return x


def stacked(rows: Sequence[tuple[float, Sequence[tuple[float, float]]]]) -> Means:
    """Means from rows of (mean, parts), each part a variance with its degrees of freedom."""
    parts = np.array([row[1] for row in rows], float).reshape(len(rows), -1, 2)
    return Means(np.array([row[0] for row in rows], float), parts[..., 0], parts[..., 1])


def single(values: Floats, design: Design) -> Means:
    """One mean over [S, N] by itself, with the variance between its own units.

    The units' part is not known, and left out, where there is one unit: the mean is then that of this training.
    """
    units = unit_means(values, design)
    seeds, examples = values.shape
    example, interaction = between_examples(values)
    if len(units) < 2:
        parts = [((example + interaction / seeds) / examples, max(examples - 1, 1))]
    else:
        shared = example / examples if design.same_test else 0.0
        parts = [(float(units.var(ddof=1)) * design.share(seeds), len(units) - 1), (shared, max(examples - 1, 1))]
    return stacked([(float(values.mean()), parts)])
