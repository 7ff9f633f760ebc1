"""Selective prediction: the risk that remains when the least confident predictions are handed back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.interval import per_example
from labelsmooth.metrics.metric import Score, selective_metric
from labelsmooth.metrics.rows import Array, Floats, Predictions, Reduced, Rows
from labelsmooth.metrics.statistic import Statistic, weights_of
from labelsmooth.metrics.ties import TieGroups, area, pseudo_values, risk_at, weighted_area


def confidence_score(logits: Array, score: Score = "p-norm", p: float = 2.0) -> Array:
    r"""A confidence for each row of logits, by which to keep or hand back its prediction.

    .. math:: \text{max-probability: } \max_k \operatorname{softmax}(z)_k \qquad \text{max-logit: } \max_k z_k \qquad
              \text{p-norm: } \max_k \tilde z_k / \|\tilde z\|_p, \quad \tilde z = z - \operatorname{mean}(z)

    Label smoothing shrinks the largest logit most where it is right, which spoils the order of the first two; dividing
    by the norm of the row restores it.

    Args:
        logits: (N, K).
        score: "max-probability", "max-logit" or "p-norm" (centred, so a shift of a row changes nothing).
        p: the norm's exponent, ≥ 1, best chosen on validation data (:func:`choose_score`): on networks trained without
            smoothing a fixed p is often worse than the largest probability.

    Returns:
        (N,), in the kind that came in; larger is more confident. Not a probability but for "max-probability".

    Example:
        >>> import numpy as np
        >>> confidence_score(np.array([[3.0, 0.0, 0.0], [9.0, 5.0, 1.0]])).round(3)
        array([0.816, 0.707])

    Source: Cattelan and Silva (2023); after label smoothing: Xia et al. (2025).
    """
    z = logits if isinstance(logits, torch.Tensor) else torch.from_numpy(np.array(logits))
    if z.ndim != 2 or not z.is_floating_point():
        raise ValueError(f"logits must be floating point of shape (N, K), not {z.dtype} of {tuple(z.shape)}.")
    value = _scores(z, score, p)
    return value if isinstance(logits, torch.Tensor) else value.numpy()


@selective_metric
def aurc(rows: Rows, score: Score = "max-probability", p: float = 2.0) -> Statistic:
    r"""Area under the risk-coverage curve: the mean error of the n most confident predictions, over n = 1 ... N.

    .. math:: \frac1N \sum_{n=1}^{N} \frac1n \sum_{j \le n} e_{(j)} \;=\; \frac1N \sum_j e_{(j)} (H_N - H_{j-1})

    with e_(j) = 1 where the j-th most confident prediction is wrong and H_n the harmonic numbers.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`error`.
        score: what orders the predictions, as in :func:`confidence_score`; all but "max-probability" need logits.
        p: the exponent of "p-norm".
        interval: a level such as 0.95, for an :class:`Estimate` with bootstrap bounds.

    Returns:
        A number in [0, 1], lower is better. Equal confidences have no order of their own: the value is the expected
        one over all orders of the tied, so it does not depend on the order of the rows.

    Raises:
        ValueError: as in :func:`error`.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> round(aurc(p, np.array([0, 0, 1])), 6)  # one error, in the least confident place: (0 + 0 + 1/3) / 3
        0.111111

    Source: Geifman and El-Yaniv (2017).
    """
    rows, groups, wrong = _ordered(rows, score, p)
    weighted = weighted_area(groups, wrong)
    value = area(groups)

    def influence() -> Floats:
        # Pseudo-values estimate with the jackknife's bias correction; the metric is reported without it.
        values = pseudo_values(groups, wrong)
        return np.asarray(values - values.mean() + value)

    return Statistic(value, weighted, influence, rows=rows)


@selective_metric
def e_aurc(rows: Rows, score: Score = "max-probability", p: float = 2.0) -> Statistic:
    r"""Excess AURC: the AURC minus that of the same errors all in the least confident places.

    .. math:: \text{AURC} - \frac1N \sum_{j = N-E+1}^{N} (H_N - H_{j-1}), \qquad E = \text{the number of errors}

    It is about the order of the confidences alone. The subtracted term is the exact finite one; with the error rate r
    it tends to r + (1 - r) ln(1 - r), which is what Geifman et al. subtract.

    Args and Raises:
        as in :func:`aurc`.

    Returns:
        A number ≥ 0; 0 where every error is less confident than every right answer.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> e_aurc(p, np.array([0, 0, 1]))
        0.0

    Source: Geifman, Uziel and El-Yaniv (2019).
    """
    rows, groups, wrong = _ordered(rows, score, p)
    weighted = weighted_area(groups, wrong)
    sorted_right = TieGroups.of(-wrong, wrong, rows.weight)
    ideal = weighted_area(sorted_right, wrong)
    value = area(groups) - area(sorted_right)
    return Statistic(value, lambda counts: weighted(counts) - ideal(counts), rows=rows)


def check_coverage(coverage: float) -> None:
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage must be above 0 and at most 1, not {coverage!r}.")


@selective_metric
def risk_at_coverage(rows: Rows, coverage: float, score: Score = "max-probability", p: float = 2.0) -> Statistic:
    r"""Error among the share `coverage` of predictions that are most confident: the first n = ⌈coverage · N⌉.

    .. math:: \frac1n \sum_{j \le n} e_{(j)}

    Args:
        coverage: in (0, 1]; 1 gives the error.
        probabilities, labels, logits, score, p, ignore_index, interval: as in :func:`aurc`.

    Returns:
        A number in [0, 1]; where the cut is inside a group of equal confidences, the expected one over their orders.

    Raises:
        ValueError: as in :func:`error`, or for a coverage outside (0, 1].

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> risk_at_coverage(p, np.array([0, 0, 1]), coverage=0.66)
        0.0

    Source: Geifman and El-Yaniv (2017).
    """
    check_coverage(coverage)
    rows, groups, wrong = _ordered(rows, score, p)

    def weighted(counts: Floats) -> float:
        return risk_at(groups.counted(counts, wrong), coverage)

    return Statistic(risk_at(groups, coverage), weighted, rows=rows)


@selective_metric
def augrc(rows: Rows, score: Score = "max-probability", p: float = 2.0) -> Statistic:
    r"""Area under the generalised risk-coverage curve: the mean share of all predictions that are kept and wrong.

    .. math:: \frac{1}{N^2} \sum_j e_{(j)} (N - j + \tfrac12) \;=\; (1 - \text{AUROC})\, a (1 - a) + \tfrac12 (1 - a)^2

    with e_(j) = 1 where the j-th most confident prediction is wrong and a the accuracy. Unlike in the AURC, the most
    confident predictions do not weigh more than the others.

    Args:
        probabilities, labels, logits, score, p, ignore_index, interval: as in :func:`aurc`.

    Returns:
        A number in [0, 1/2], lower is better; tied confidences share their ranks.

    Raises:
        ValueError: as in :func:`aurc`.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> round(augrc(p, np.array([0, 0, 1])), 6)  # (1/2) / 9
        0.055556

    Source: Traub et al. (2024).
    """
    rows, groups, wrong = _ordered(rows, score, p)

    def weighted(counts: Floats) -> float:
        drawn = groups.counted(counts, wrong)
        size = float(drawn.size.sum())
        return float(drawn.errors @ (size - drawn.above - drawn.size / 2.0)) / size**2

    return Statistic(weighted(weights_of(rows)), weighted, rows=rows)


@selective_metric
def failure_auroc(rows: Rows, score: Score = "max-probability", p: float = 2.0) -> Statistic:
    r"""AUROC of failure prediction: how often a right prediction is more confident than a wrong one.

    .. math:: P(\text{conf}_{right} > \text{conf}_{wrong}) + \tfrac12 P(\text{conf}_{right} = \text{conf}_{wrong})

    Args:
        probabilities, labels, logits, score, p, ignore_index, interval: as in :func:`aurc`.

    Returns:
        A number in [0, 1], higher is better, 0.5 for confidences that say nothing; NaN where all or no predictions are
        right. It does not depend on how many errors there are: models of different accuracy have different ones to
        find.

    Raises:
        ValueError: as in :func:`aurc`.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> failure_auroc(p, np.array([0, 1, 0]))
        0.5

    Source: Hendrycks and Gimpel (2017).
    """
    rows, groups, wrong = _ordered(rows, score, p)

    def weighted(counts: Floats) -> float:
        drawn = groups.counted(counts, wrong)
        right = drawn.size - drawn.errors
        pairs = float(right.sum() * drawn.errors.sum())
        ordered = float(drawn.errors @ (np.cumsum(right) - right / 2.0))
        return ordered / pairs if pairs > 0.0 else math.nan

    return Statistic(weighted(weights_of(rows)), weighted, rows=rows)


@dataclass(frozen=True)
class ScoreChoice:
    """A confidence score chosen on validation data: `score` and `p` as :func:`aurc` takes them, and the two AURCs."""

    score: Score
    p: float
    aurc: float
    aurc_of_max_probability: float


def choose_score(logits: Array, labels: Array, *, ignore_index: int | None = None) -> ScoreChoice:
    """Choose the exponent of the p-norm score on validation data, or the largest probability where no p is better.

    Args:
        logits: (N, K) of validation data: a score chosen on the test data looks better than it is.
        labels: (N,).
        ignore_index: positions with this label are left out.

    Returns:
        A :class:`ScoreChoice`. Of p = 1 ... 10 the one with the lowest AURC is taken if its AURC is lower than that of
        the largest probability by more than one standard error of the paired difference; otherwise
        "max-probability".

    Raises:
        ValueError: as in :func:`aurc`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(500, 4))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> choose_score(z, y).score
        'max-probability'

    Source: Cattelan and Silva (2023).
    """
    rows = read(None, labels, logits, ignore_index)
    plain = aurc.statistic(rows)
    statistics = {p: aurc.statistic(rows, "p-norm", float(p)) for p in range(1, 11)}
    best = min(statistics, key=lambda p: statistics[p].value)
    assert plain.influence is not None
    influence = statistics[best].influence
    assert influence is not None
    difference = per_example(rows, influence() - plain.influence())
    error = float(difference.std(ddof=1)) / rows.examples**0.5 if rows.examples > 1 else math.inf
    if statistics[best].value < plain.value - error:
        return ScoreChoice("p-norm", float(best), statistics[best].value, plain.value)
    return ScoreChoice("max-probability", 2.0, plain.value, plain.value)


def _ordered(rows: Rows, score: Score, p: float) -> tuple[Rows, TieGroups, Floats]:
    """The rows with the order that a score gives them, their groups of equal rank, and which of them are wrong."""
    rows = ranked(rows, score, p)
    return rows, groups_of(rows), 1.0 - rows.correct


def ranked(rows: Rows, score: Score, p: float) -> Rows:
    """The rows with the order that a score gives them; they may have it already."""
    if score == "max-probability" or (isinstance(rows, Reduced) and rows.order is not None):
        return rows
    if not isinstance(rows, Predictions) or not rows.are_logits:
        raise ValueError(f"score={score!r} is a function of logits: give logits= in place of probabilities.")
    order = _scores(rows.scores, score, p).cpu().double().numpy()
    return Reduced(rows.confidence, rows.correct, rows.nll, rows.squared_error, example=rows.example, order=order)


def groups_of(rows: Rows) -> TieGroups:
    """The rows in order of falling confidence, or of what takes its place."""
    order = rows.order if isinstance(rows, Reduced) and rows.order is not None else rows.confidence
    return TieGroups.of(order, 1.0 - rows.correct, rows.weight)


def _scores(z: torch.Tensor, score: str, p: float) -> torch.Tensor:
    if score == "max-probability":
        return torch.softmax(z, dim=1).amax(dim=1)
    if score == "max-logit":
        return z.amax(dim=1)
    if score != "p-norm":
        raise ValueError(f"score must be 'max-probability', 'max-logit' or 'p-norm', not {score!r}.")
    if not 1.0 <= p < math.inf:
        raise ValueError(f"p must be at least 1 and finite, not {p!r}: for p=inf nearly every row has the score 1.")
    if bool(torch.isneginf(z).any()):
        raise ValueError("score='p-norm' has no value for rows with masked classes (-inf logits).")
    centred = z - z.mean(dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(centred, ord=p, dim=1)
    # A row of equal logits knows nothing, which is the least that a confidence can say.
    return torch.where(norm > 0, centred.amax(dim=1) / norm.clamp(min=torch.finfo(z.dtype).tiny), 0.0)
