"""Selective prediction: the risk that remains when the least confident predictions are handed back."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from .inputs import Array, Floats, Predictions, Rows, Value, read
from .interval import Interval, measured
from .statistic import Statistic
from .tie_groups import TieGroups, area, pseudo_values, risk_at, weighted_area

Score = Literal["max-probability", "max-logit", "p-norm"]


def confidence_score(logits: Array, score: Score = "p-norm", p: float = 2.0) -> Array:
    r"""A confidence for each row of logits, by which to keep or hand back its prediction.

    .. math:: \text{max-probability: } \max_k \operatorname{softmax}(z)_k \qquad \text{max-logit: } \max_k z_k \qquad
              \text{p-norm: } \max_k \tilde z_k / \|\tilde z\|_p, \quad \tilde z = z - \operatorname{mean}(z)

    Label smoothing shrinks the largest logit most where it is right, which spoils the order of the first two; dividing
    by the norm of the row restores it.

    Args:
        logits: (N, K).
        score: "max-probability", "max-logit" or "p-norm" (centred, so a shift of a row changes nothing).
        p: the norm's exponent, ≥ 1, or inf; best chosen on held-out data by its AURC.

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


def aurc(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    score: Score = "max-probability",
    p: float = 2.0,
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> Value:
    r"""Area under the risk-coverage curve: the mean error of the n most confident predictions, over n = 1 ... N.

    .. math:: \frac1N \sum_{n=1}^{N} \frac1n \sum_{j \le n} e_{(j)} \;=\; \frac1N \sum_j e_{(j)} (H_N - H_{j-1})

    with e_(j) = 1 where the j-th most confident prediction is wrong and H_n the harmonic numbers.

    Args:
        probabilities: (N, K), (N, K, d1, ...) or (N,), as in :func:`error`.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities.
        score: what orders the predictions, as in :func:`confidence_score`; all but "max-probability" need logits.
        p: the exponent of "p-norm".
        ignore_index: positions with this label are left out.
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
    rows = read(probabilities, labels, logits, ignore_index)
    return measured(rows, aurc_statistic(rows, score, p), interval)


def e_aurc(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    score: Score = "max-probability",
    p: float = 2.0,
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> Value:
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
    rows = read(probabilities, labels, logits, ignore_index)
    return measured(rows, e_aurc_statistic(rows, score, p), interval)


def risk_at_coverage(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    coverage: float,
    logits: Array | None = None,
    score: Score = "max-probability",
    p: float = 2.0,
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> Value:
    r"""Error among the share `coverage` of predictions that are most confident: the first n = ⌈coverage · N⌉.

    .. math:: \frac1n \sum_{j \le n} e_{(j)}

    Args:
        probabilities: (N, K), (N, K, d1, ...) or (N,), as in :func:`error`.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        coverage: in (0, 1]; 1 gives the error.
        logits, score, p, ignore_index, interval: as in :func:`aurc`.

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
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage must be above 0 and at most 1, not {coverage!r}.")
    rows = read(probabilities, labels, logits, ignore_index)
    groups = groups_by_score(rows, score, p)

    def weighted(counts: Floats) -> float:
        return risk_at(groups.counted(counts, 1.0 - rows.correct), coverage)

    return measured(rows, Statistic(risk_at(groups, coverage), weighted), interval)


def aurc_statistic(rows: Rows, score: Score = "max-probability", p: float = 2.0) -> Statistic:
    wrong = 1.0 - rows.correct
    groups = groups_by_score(rows, score, p)
    weighted = weighted_area(groups, wrong)
    value = area(groups)

    def influence() -> Floats:
        # Pseudo-values estimate with the jackknife's bias correction; the metric is reported without it.
        values = pseudo_values(groups, wrong)
        return np.asarray(values - values.mean() + value)

    return Statistic(value, weighted, influence)


def e_aurc_statistic(rows: Rows, score: Score = "max-probability", p: float = 2.0) -> Statistic:
    wrong = 1.0 - rows.correct
    groups = groups_by_score(rows, score, p)
    weighted = weighted_area(groups, wrong)
    sorted_right = TieGroups.of(-wrong, wrong, rows.weight)
    ideal = weighted_area(sorted_right, wrong)
    value = area(groups) - area(sorted_right)
    return Statistic(value, lambda counts: weighted(counts) - ideal(counts))


def groups_by_score(rows: Rows, score: Score, p: float) -> TieGroups:
    wrong = 1.0 - rows.correct
    if score == "max-probability":
        return TieGroups.of(rows.confidence, wrong, rows.weight)
    if not isinstance(rows, Predictions) or not rows.are_logits:
        raise ValueError(f"score={score!r} is a function of logits: give logits= in place of probabilities.")
    return TieGroups.of(_scores(rows.scores, score, p).cpu().double().numpy(), wrong)


def _scores(z: torch.Tensor, score: str, p: float) -> torch.Tensor:
    if score == "max-probability":
        return torch.softmax(z, dim=1).amax(dim=1)
    if score == "max-logit":
        return z.amax(dim=1)
    if score != "p-norm":
        raise ValueError(f"score must be 'max-probability', 'max-logit' or 'p-norm', not {score!r}.")
    if not (p >= 1.0 or p == math.inf):
        raise ValueError(f"p must be at least 1, or inf, not {p!r}.")
    if bool(torch.isneginf(z).any()):
        raise ValueError("score='p-norm' has no value for rows with masked classes (-inf logits).")
    centred = z - z.mean(dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(centred, ord=p, dim=1)
    # A row of equal logits knows nothing, which is the least that a confidence can say.
    return torch.where(norm > 0, centred.amax(dim=1) / norm.clamp(min=torch.finfo(z.dtype).tiny), 0.0)
