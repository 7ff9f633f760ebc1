"""Expected calibration error: how far confidence is from accuracy, bin by bin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from labelsmooth.metrics.binning import Binned, check_binning, into_bins
from labelsmooth.metrics.metric import Binning, Norm, Scope, calibration_metric
from labelsmooth.metrics.rows import ByClass, Floats, Predictions, Rows
from labelsmooth.metrics.statistic import Signed, Statistic, signed_of


@calibration_metric
def ece(
    rows: Rows | ByClass, bins: int = 15, binning: Binning = "equal-mass", norm: Norm = "l1", scope: Scope = "top-label"
) -> Statistic:
    r"""Expected calibration error: the mean distance between confidence and accuracy over bins of confidence.

    With n_b predictions in bin b, of mean confidence c_b and accuracy a_b:

    .. math:: \text{l1: } \sum_b \frac{n_b}{N} |c_b - a_b| \qquad
              \text{l2: } \Big(\sum_b \frac{n_b}{N} (c_b - a_b)^2\Big)^{1/2} \qquad \text{max: } \max_b |c_b - a_b|

    Args:
        probabilities: (N, K), (N, K, d1, ...), or (N,) for a binary question (the probability of class 1).
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities.
        bins: how many bins, ≥ 1.
        binning: "equal-mass" (edges are quantiles, ties share a bin, so there may be fewer bins) or "equal-width".
            Bins are closed on the right; 0.0 is in the first bin and 1.0 in the last.
        norm: "l1" is the ECE, "l2" its root-mean-square form, "max" the maximum calibration error (MCE).
        scope: "top-label" compares the largest probability with being right; an integer k compares p_k with y = k
            (for binary input ``scope=1`` is the calibration of "yes"); "class-wise" takes every class, and the norm
            over bins and classes together, classes weighted equally: for l1 that is the mean over classes.
        ignore_index: positions with this label are left out.
        interval: a level such as 0.95, for an :class:`Estimate`. The edges count as fixed: the interval is for the
            binned calibration error of the population, with the upward bias of the value removed.

    Returns:
        A number in [0, 1]. It is biased upwards: a perfectly calibrated model of N examples scores about
        (2B / πN)^½ times the root of mean p(1-p), not 0.

    Raises:
        ValueError: as in :func:`error`; or for an option out of its range.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> round(ece(p, np.array([0, 0, 1, 0]), bins=2), 6)
        0.15

    Source: Naeini, Cooper and Hauskrecht (2015); Guo et al. (2017). Class-wise: Nixon et al. (2019).
    """
    check_options(bins, binning, norm)
    questions = _Questions(rows, bins, binning, scope)
    share, classes = questions.share, len(questions.binned)

    def distance(total: Floats) -> Floats:
        return binned_distance(total, share, norm, classes)

    return questions.statistic(
        distance,
        lambda: _influence(questions.binned, questions.pairs, norm, distance(questions.gaps)),
        separable=norm == "l1",
    )


@calibration_metric
def debiased_ece(
    rows: Rows | ByClass, bins: int = 15, binning: Binning = "equal-mass", scope: Scope = "top-label"
) -> Statistic:
    r"""The l2 calibration error without its upward bias: each bin's sampling variance is taken off its squared gap.

    .. math:: \max\Big(0, \sum_b \frac{n_b}{N} \Big[(c_b - a_b)^2 - \frac{a_b (1 - a_b)}{n_b - 1}\Big]\Big)^{1/2}

    Args:
        probabilities, labels, logits, bins, binning, scope, ignore_index: as in :func:`ece`.
        interval: a level such as 0.95, for an :class:`Estimate`: that of the binned l2 error itself.

    Returns:
        A number in [0, 1]: 0 where the gaps are no larger than chance makes them. A bin of one row has no variance to
        estimate and counts for nothing.

    Raises:
        ValueError: as in :func:`ece`.

    Example:
        >>> import numpy as np
        >>> p = np.tile([0.8, 0.2], (1000, 1))
        >>> round(debiased_ece(p, (np.arange(1000) >= 700).astype(int)), 3)
        0.099

    Source: Kumar, Liang and Ma (2019).
    """
    questions = _Questions(rows, bins, binning, scope)
    share, classes, count = questions.share, len(questions.binned), questions.count
    right = questions.correct / np.maximum(count, 1.0)
    known = count > 1
    variance = np.where(known, right * (1.0 - right) / np.maximum(count - 1.0, 1.0), 0.0)

    def distance(total: Floats) -> Floats:
        gap = total / np.where(share > 0, share, 1.0)
        square = np.where(known, share * (gap**2 - variance), 0.0).sum(axis=-1) / classes
        return np.asarray(np.sqrt(np.maximum(square, 0.0)))

    return questions.statistic(distance)


@calibration_metric
def over_confidence(
    rows: Rows | ByClass, bins: int = 15, binning: Binning = "equal-mass", scope: Scope = "top-label"
) -> Statistic:
    r"""The part of the ECE from bins whose confidence is above their accuracy.

    .. math:: \sum_b \frac{n_b}{N} \max(c_b - a_b, 0)

    Together with :func:`under_confidence` it is the l1 :func:`ece`; the difference of the two is the
    :func:`confidence_gap`. Arguments and Raises as there; for "class-wise" the mean over classes.

    Returns:
        A number in [0, 1], biased upwards like the ECE.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> y = np.array([0, 0, 1, 0])
        >>> round(over_confidence(p, y, bins=2), 6), round(under_confidence(p, y, bins=2), 6)
        (0.075, 0.075)
    """
    return _one_sided(_Questions(rows, bins, binning, scope), 1.0)


@calibration_metric
def under_confidence(
    rows: Rows | ByClass, bins: int = 15, binning: Binning = "equal-mass", scope: Scope = "top-label"
) -> Statistic:
    r"""The part of the ECE from bins whose confidence is below their accuracy: Σ n_b / N max(a_b - c_b, 0).

    Arguments, returned value and errors as for :func:`over_confidence`.

    Example:
        >>> import numpy as np
        >>> under_confidence(np.array([[0.6, 0.4], [0.6, 0.4]]), np.array([0, 0]))
        0.4
    """
    return _one_sided(_Questions(rows, bins, binning, scope), -1.0)


def check_options(bins: int, binning: str, norm: str) -> None:
    """Raise ValueError for an option out of its range."""
    check_binning(bins, binning)
    if norm not in ("l1", "l2", "max"):
        raise ValueError(f"norm must be 'l1', 'l2' or 'max', not {norm!r}.")


def scoped_rows(rows: Rows, scope: Scope) -> list[tuple[Floats, Floats]]:
    """(confidence, correct) of each question that the scope asks."""
    if scope == "top-label":
        return [(rows.confidence, rows.correct)]
    if not isinstance(rows, Predictions):
        raise ValueError(
            f"scope must be 'top-label' for reduced rows, not {scope!r}: they hold no class's probabilities."
        )
    if scope == "class-wise":
        return [rows.of_class(k) for k in range(rows.classes)]
    if isinstance(scope, (int, np.integer)) and not isinstance(scope, bool) and 0 <= scope < rows.classes:
        return [rows.of_class(int(scope))]
    raise ValueError(f"scope must be 'top-label', 'class-wise' or a class in 0 to {rows.classes - 1}, not {scope!r}.")


def one_question(rows: Rows, scope: Scope) -> tuple[Floats, Floats]:
    """(confidence, correct) of a scope that is a single question."""
    if scope == "class-wise":
        raise ValueError("scope='class-wise' is one question per class: ask for scope=k, one class at a time.")
    ((confidence, correct),) = scoped_rows(rows, scope)
    return confidence, correct


def _one_sided(questions: _Questions, sign: float) -> Statistic:
    def distance(total: Floats) -> Floats:
        return np.asarray(np.maximum(sign * total, 0.0).sum(axis=-1) / len(questions.binned))

    return questions.statistic(distance)


class _Questions:
    """The bins of each question of a scope, one after the other, [B] in all."""

    def __init__(self, rows: Rows | ByClass, bins: int, binning: Binning, scope: Scope) -> None:
        check_binning(bins, binning)
        if isinstance(rows, ByClass):
            self.pairs = [(question.confidence, question.correct) for question in rows.questions]
            self.weights = [question.weight for question in rows.questions]
        else:
            self.pairs = scoped_rows(rows, scope)
            self.weights = [rows.weight] * len(self.pairs)
        self.binned = [
            into_bins(confidence, correct, bins, binning, weight)
            for (confidence, correct), weight in zip(self.pairs, self.weights, strict=True)
        ]
        self.size = float(self.binned[0].count.sum())
        self.count = np.concatenate([b.count for b in self.binned])
        self.correct = np.concatenate([b.correct for b in self.binned])
        self.share = self.count / self.size
        self.gaps = (np.concatenate([b.confidence for b in self.binned]) - self.correct) / self.size

    def statistic(
        self,
        distance: Callable[[Floats], Floats],
        influence: Callable[[], Floats] | None = None,
        separable: bool = False,
    ) -> Statistic:
        """A distance of Σ (confidence - correct) / N of each bin [..., B]."""
        sums: list[_BinSums] = []  # only resamples need the rows in the order of their bins

        def weighted(counts: Floats) -> float:
            if not sums:
                sums.extend(_BinSums(b, c - r) for b, (c, r) in zip(self.binned, self.pairs, strict=True))
            return float(distance(np.concatenate([part(counts) for part in sums]) / counts.sum()))

        return Statistic(float(distance(self.gaps)), weighted, influence, lambda: self.signed(distance, separable))

    def signed(self, distance: Callable[[Floats], Floats], separable: bool) -> Signed:
        """The bins cut into cells of like confidence: a bin of 0.01 and 0.99 has less noise than one of 0.5."""
        bins = len(self.count)
        first = np.cumsum([0, *(len(b.count) for b in self.binned[:-1])])
        index = np.concatenate([b.index + start for b, start in zip(self.binned, first, strict=True)])
        confidence, correct = (np.concatenate(columns) for columns in zip(*self.pairs, strict=True))
        weight = np.concatenate(
            [np.ones(len(c)) if w is None else w for w, (c, _) in zip(self.weights, self.pairs, strict=True)]
        )
        key = index * (len(_LIKE) + 1) + np.searchsorted(_LIKE, confidence)
        cells, cell = np.unique(key, return_inverse=True)
        group = cells // (len(_LIKE) + 1)
        starts = np.searchsorted(group, np.unique(group))
        filled = np.unique(group)

        def of_bins(total: Floats) -> Floats:
            summed = np.zeros((*total.shape[:-1], bins))
            summed[..., filled] = np.add.reduceat(total, starts, axis=-1)
            return np.asarray(distance(summed))

        signed = signed_of(cell, len(cells), confidence, correct, weight, of_bins, questions=len(self.pairs))
        return replace(signed, group=group if separable else None)


# Edges of cells of like confidence.
_LIKE = np.array([0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99, 0.997])


def binned_distance(total: Floats, share: Floats, norm: str, classes: int) -> Floats:
    """The norm of Σ (confidence - correct) / M per bin [..., D], with the bins' shares of the rows [D]."""
    if norm == "l1":
        return np.asarray(np.abs(total).sum(axis=-1) / classes)
    gap = np.abs(total) / np.where(share > 0, share, 1.0)
    if norm == "max":
        return np.asarray(gap.max(axis=-1))
    return np.asarray(np.sqrt((share * gap**2).sum(axis=-1) / classes))


class _BinSums:
    """Σ counts · values per bin, for many counts: rows are put in the order of their bins once."""

    def __init__(self, binned: Binned, values: Floats) -> None:
        # NumPy sorts short integers by counting them.
        small = binned.index.astype(np.uint16) if len(binned.count) < 1 << 16 else binned.index
        self.order = np.argsort(small, kind="stable")
        self.values = values[self.order]
        self.filled = binned.count > 0
        rows = np.bincount(binned.index, minlength=len(binned.count))
        self.starts = (np.cumsum(rows) - rows)[self.filled]

    def __call__(self, counts: Floats) -> Floats:
        total = np.zeros(self.filled.shape[0])
        total[self.filled] = np.add.reduceat(counts[self.order] * self.values, self.starts)
        return np.asarray(total)


def _influence(binned: list[Binned], questions: list[tuple[Floats, Floats]], norm: str, value: Floats) -> Floats:
    """ψ per row with the edges fixed: derivatives of Σ |S_b|, of (Σ S_b² / W_b)^½, of max |S_b / W_b|."""
    rows, classes, total = binned[0].index.shape[0], len(binned), float(value)
    if norm == "max":
        which = int(np.argmax([np.abs(b.gap).max() for b in binned]))
        binned, questions = [binned[which]], [questions[which]]
    psi = np.zeros(rows)
    for b, (confidence, correct) in zip(binned, questions, strict=True):
        gap, difference = b.gap[b.index], confidence - correct
        if norm == "l1":
            psi += np.sign(gap) * difference / classes
        elif norm == "l2":
            psi += (2.0 * gap * difference - gap**2) / classes
        else:
            worst = int(np.argmax(np.abs(b.gap)))
            scale = rows / b.count[worst]
            psi += total + np.where(b.index == worst, np.sign(gap) * (difference - gap) * scale, 0.0)
    if norm != "l2":
        return psi
    # The mean of squares, then its root: d√Q = dQ / 2√Q. At Q = 0 there is no derivative.
    return np.zeros(rows) if total == 0.0 else np.asarray(total + (psi - total**2) / (2.0 * total))
