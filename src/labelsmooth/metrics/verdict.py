"""The verdict on a model's calibration, as data: what the intervals of the gap and of the ECE allow to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import plural
from labelsmooth.metrics import numbers
from labelsmooth.metrics.interval import Estimate

Status = Literal["calibrated", "over-confident", "under-confident", "miscalibrated", "too few rows"]
FEWEST_EXAMPLES = 20
"""Below this many examples there is no verdict."""
FEW_ERRORS, WIDEST_GAP, WIDEST_GAP_FEW_ERRORS = 5, 0.05, 0.01
"""A model counts as calibrated only where its confidence gap is known to be at most 5 points, or at most 1 point where
fewer than 5 answers are wrong and fewer than 5 are expected to be."""


@dataclass(frozen=True)
class Verdict:
    """Whether a model is calibrated, and the two intervals that say so.

    "over-confident" and "under-confident" mean that the interval of the confidence gap excludes 0; "miscalibrated" that
    it does not, but the lower end of the ECE is above 0: confidence and accuracy differ in both directions.
    "too few rows" stands for fewer than 20 examples, and for an interval of the gap that reaches beyond 5 points, or
    beyond 1 point where fewer than 5 answers are wrong and, by the confidences, fewer than 5 are expected to be.
    ``guess_error`` is that of always naming the most frequent class, None where it is not known.
    """

    status: Status
    gap: Estimate
    ece: Estimate
    error: Estimate
    of_class: str | None = None
    guess_error: float | None = None

    @property
    def guessing(self) -> bool:
        """Whether the error may be that of always naming the most frequent class."""
        return self.guess_error is not None and no_better_than_guessing(self.error.high, self.guess_error)

    @property
    def sentence(self) -> str:
        """The verdict in words, in percentage points."""
        if not self.guessing:
            return self._of_calibration()
        error, guess = numbers.percent(self.error.value), numbers.percent(self.guess_error or 0.0)
        return (
            f"Not significantly better than guessing: the error is {error}, that of always naming the most frequent "
            f"class {guess}. {self._of_calibration()}"
        )

    def _of_calibration(self) -> str:
        gap, ece = self.gap, self.ece
        confidence, accuracy = "mean confidence", "accuracy"
        if self.of_class is not None:
            confidence, accuracy = f"the mean probability of {self.of_class}", "its share of the labels"
        value, ends = numbers.estimate("confidence_gap", gap.value, gap.low, gap.high)
        interval = f"{numbers.level(gap.level)} interval {ends} points"
        if self.status == "over-confident" or self.status == "under-confident":
            side = "above" if gap.value > 0 else "below"
            word = self.status.capitalize()
            return f"{word}: {confidence} is {value[1:]} {side} {accuracy} ({interval})."
        if self.status == "miscalibrated":
            return (
                f"Miscalibrated: {confidence} and {accuracy} agree on average (gap {value}, {interval}), but the "
                f"calibration error over bins of confidence is at least {numbers.bound('ece', ece.low)}."
            )
        if self.status == "too few rows":
            examples = plural(gap.examples, "example")
            return f"Too few rows to tell: with {examples}, {confidence} minus {accuracy} is {value} ({interval})."
        return (
            f"No sign of miscalibration: {confidence} minus {accuracy} is {value} ({interval}), and the "
            f"calibration error is below {numbers.bound('ece', ece.high)}."
        )


def guess_error(labelled: Sequence[int] | npt.NDArray[np.int64]) -> float:
    """The error of always naming the most frequent class, from how many rows have each label."""
    return 1.0 - float(max(labelled)) / float(sum(labelled))


def no_better_than_guessing(high: float, guess_error: float) -> bool:
    """Whether an error with an interval up to `high` may be that of always naming the most frequent class.

    False where all labels are of one class: then no model can be better.
    """
    return 0.0 < guess_error <= high


def verdict(
    estimates: Mapping[str, Estimate], of_class: str | None = None, guess_error: float | None = None
) -> Verdict:
    """The verdict that a summary allows.

    Args:
        estimates: what :func:`labelsmooth.metrics.summary` returns; "error", "confidence_gap" and "ece" are read.
        of_class: the class whose probability the estimates are about, for the sentence.
        guess_error: the error of always naming the most frequent class, where that is known: the verdict then says of a
            model that it may do no better.

    Returns:
        A :class:`Verdict`.

    Example:
        >>> import numpy as np
        >>> from labelsmooth import metrics
        >>> p, y = np.full(50, 0.97), np.ones(50, dtype=int)
        >>> metrics.verdict(metrics.summary(p, y)).status  # 50 right answers at 0.97 happen by chance in 22% of samples
        'too few rows'
    """
    gap, ece = estimates["confidence_gap"], estimates["ece"]
    status: Status = "calibrated"
    if gap.examples < FEWEST_EXAMPLES:
        status = "too few rows"
    elif gap.low > 0.0:
        status = "over-confident"
    elif gap.high < 0.0:
        status = "under-confident"
    elif ece.low > 0.0:
        status = "miscalibrated"
    else:
        wrong, expected = estimates["error"].value, estimates["error"].value - gap.value
        rarer = min(max(wrong, expected), max(1.0 - wrong, 1.0 - expected))  # of wrong and right answers
        few = rarer * gap.examples < FEW_ERRORS
        if max(-gap.low, gap.high) > (WIDEST_GAP_FEW_ERRORS if few else WIDEST_GAP):
            status = "too few rows"
    return Verdict(status, gap, ece, estimates["error"], of_class, guess_error)
