"""Metrics that are a mean over examples: error, negative log-likelihood, Brier score, confidence gap."""

from __future__ import annotations

from labelsmooth.metrics.metric import metric
from labelsmooth.metrics.rows import Predictions, Rows
from labelsmooth.metrics.statistic import Statistic, mean_of


@metric
def error(rows: Rows) -> Statistic:
    r"""Share of predictions whose most probable class is not the label.

    .. math:: \frac1N \sum_i [\arg\max_k p_{ik} \ne y_i]

    Args:
        probabilities: (N, K) in [0, 1], rows summing to 1; (N, K, d1, ...) for dense predictions; (N,) for a binary
            question (the probability of class 1). NumPy array or tensor.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities, the same shapes; softmax (or sigmoid) is applied.
        ignore_index: positions with this label are left out.
        interval: a level such as 0.95, or an :class:`Interval`: an :class:`Estimate` is returned. Every
            metric here takes it; here the interval is Clopper and Pearson's exact one.

    Returns:
        A number in [0, 1]: a float for NumPy input, a zero-dimensional float64 tensor for tensors. Among equal
        probabilities the lowest class counts as predicted.

    Raises:
        ValueError: where shapes, ranges or row sums are wrong; the message names the row.

    Example:
        >>> import numpy as np
        >>> error(np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), np.array([0, 1, 1]))
        0.3333333333333333
    """
    wrong = 1.0 - rows.correct
    return mean_of(wrong, rows.weight, rate=wrong)


@metric
def nll(rows: Rows) -> Statistic:
    r"""Mean negative log-likelihood (log loss), in nats.

    .. math:: -\frac1N \sum_i \ln p_{i y_i}

    Args:
        probabilities, labels, ignore_index: as in :func:`error`.
        logits: in place of probabilities; the better choice here, since ln softmax does not underflow.
        interval: a level such as 0.95, for an :class:`Estimate` with bootstrap bounds.

    Returns:
        A number ≥ 0; inf where a label has probability 0. Nothing is clipped.

    Raises:
        ValueError: as in :func:`error`.

    Example:
        >>> import numpy as np
        >>> round(nll(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])), 6)
        0.164252

    Source: Good (1952).
    """
    return mean_of(rows.nll, rows.weight)


@metric
def brier(rows: Rows) -> Statistic:
    r"""Brier score: the squared distance between the probabilities and the one-hot label.

    .. math:: \frac1N \sum_i \sum_k (p_{ik} - [y_i = k])^2

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`error`.
        interval: a level such as 0.95, for an :class:`Estimate` with bootstrap bounds.

    Returns:
        A number in [0, 2]. For binary (N,) input it is (p - y)², in [0, 1]: half of what the same predictions give as
        two columns, which is how both are commonly defined.

    Raises:
        ValueError: as in :func:`error`.

    Example:
        >>> import numpy as np
        >>> round(brier(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])), 6)
        0.05

    Source: Brier (1950).
    """
    return mean_of(rows.squared_error, rows.weight)


@metric
def confidence_gap(rows: Rows) -> Statistic:
    r"""Mean confidence minus accuracy: above 0 the model is over-confident, below 0 under-confident.

    .. math:: \frac1N \sum_i \left(\max_k p_{ik} - [\arg\max_k p_{ik} = y_i]\right)

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`error`.
        interval: a level such as 0.95, for an :class:`Estimate` with bootstrap bounds.

    Returns:
        A number in [-1, 1]. Its absolute value is the ECE with a single bin.

    Raises:
        ValueError: as in :func:`error`.

    Example:
        >>> import numpy as np
        >>> round(confidence_gap(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])), 6)
        0.35
    """
    wrong = 1.0 - rows.correct
    return mean_of(rows.confidence - rows.correct, rows.weight, rate=wrong, offset=rows.confidence - 1.0)


def class_gap_statistic(rows: Predictions, scope: int) -> Statistic:
    """Mean p_k minus the share of the class k."""
    p, labelled = rows.of_class(scope)
    return mean_of(p - labelled, rate=1.0 - labelled, offset=p - 1.0)
