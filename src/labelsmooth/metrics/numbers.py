"""How numbers are written everywhere: shares as 12.5%, their differences as +1.4 points, others with fixed digits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labelsmooth.metrics.catalogue import CATALOGUE, Metric

SIGNED = ("confidence_gap", "nll_gap")  # differences in themselves
# Of the others 3; of shares 1, in percent.
DIGITS = {"aurc": 4, "e_aurc": 4, "augrc": 4, "largest_logit": 1, "logit_gap": 1}
MOST_DIGITS = 6  # for an end close to 0; one that is closer counts as 0


def title(metric: str | Metric) -> str:
    """The heading of a metric."""
    return _of(metric).title


def percent(share: float) -> str:
    """A share: 12.5%."""
    return f"{_fixed(100 * share, 1)}%"


def level(share: float) -> str:
    """A share that was chosen, without digits that it does not have: 90%, 99.5%."""
    return f"{100 * share:g}%"


def lowered(title: str) -> str:
    """A title for use inside a sentence: its first letter in lower case, unless the title is an abbreviation."""
    return title if title.isupper() else title[:1].lower() + title[1:]


def capitalized(words: str) -> str:
    """The words with their first letter in upper case and the rest unchanged."""
    return words[:1].upper() + words[1:]


def joined(words: Sequence[str]) -> str:
    """Words joined by commas and a final "and": "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def value(metric: str | Metric, number: float) -> str:
    """A value of a metric (or of one of the catalogue, by its name): 1.9%, 0.178, or, of a confidence gap, +1.4 points.

    Example:
        >>> value("error", 0.0192), value("nll", 0.1784), value("confidence_gap", 0.014)
        ('1.9%', '0.178', '+1.4 points')
    """
    return estimate(metric, number, 0.0, 0.0)[0]


def estimate(metric: str | Metric, number: float, low: float, high: float) -> tuple[str, str]:
    """A value and its interval: 1.9%, 1.2 to 2.6%.

    Where the interval excludes 0, they have the digits that it takes for no end to be written as 0; so has a
    :func:`change`.

    Example:
        >>> estimate("error", 0.0192, 0.012, 0.026), estimate("confidence_gap", 0.006, 0.0003, 0.012)
        (('1.9%', '1.2 to 2.6%'), ('+0.60 points', '+0.03 to +1.20'))
    """
    signed = _of(metric).name in SIGNED
    text, ends = _written(metric, signed, number, low, high)
    unit = _unit(metric, signed)
    return f"{text}{unit}", f"{ends}{'' if signed else unit}"


def bound(metric: str | Metric, end: float) -> str:
    """One end of an interval by itself: 2.6%."""
    return estimate(metric, end, end, end)[0]


def with_half(metric: str | Metric, number: float, low: float, high: float) -> tuple[str, str]:
    """A value and half of its interval, in the unit of the value: 1.9%, ±0.7."""
    return value(metric, number), f"±{_number(metric, (high - low) / 2, False, _digits(metric))}"


def size(metric: str | Metric, number: float) -> str:
    """The size of a difference, with the digits that it was given: 0.5 points, 1 point, 0.01."""
    text = f"{100 * number if _of(metric).percent else number:g}{_unit(metric, difference=True)}"
    return "1 point" if text == "1 points" else text


def change(metric: str | Metric, difference: float, low: float, high: float) -> tuple[str, str]:
    """A difference of two values and its interval: +1.4 points, +0.2 to +2.6."""
    text, ends = _written(metric, True, difference, low, high)
    return f"{text}{_unit(metric, difference=True)}", ends


def p_value(p: float) -> str:
    """A p-value: 0.034, or < 0.001."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _of(metric: str | Metric) -> Metric:
    return CATALOGUE[metric] if isinstance(metric, str) else metric


def _unit(metric: str | Metric, difference: bool) -> str:
    if not _of(metric).percent:
        return ""
    return " points" if difference else "%"


def _written(metric: str | Metric, signed: bool, number: float, low: float, high: float) -> tuple[str, str]:
    digits = _digits(metric, low, high)
    text, *ends = (_number(metric, n, signed, digits) for n in (number, low, high))
    return text, " to ".join(ends)


def _number(metric: str | Metric, number: float, signed: bool, digits: int) -> str:
    return _fixed(100 * number if _of(metric).percent else number, digits, signed)


def _digits(metric: str | Metric, low: float = 0.0, high: float = 0.0) -> int:
    """The digits of a metric, or more, up to six, where an end of an interval without 0 would be written as 0."""
    metric = _of(metric)
    usual = 1 if metric.percent else DIGITS.get(metric.name, 3)
    nearest = max(low, -high) * (100 if metric.percent else 1)  # to 0; below 0 if the interval has it
    return math.ceil(-math.log10(nearest)) if 10.0**-MOST_DIGITS <= nearest < 0.5 * 10.0**-usual else usual


def _fixed(number: float, digits: int, signed: bool = False) -> str:
    rounded = round(number, digits) + 0.0  # never -0.0
    return f"{rounded:{'+' * signed}.{digits}f}"
