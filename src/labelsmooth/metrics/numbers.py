"""How numbers are written everywhere: shares as 12.5%, their differences as +1.4 points, others with fixed digits."""

from __future__ import annotations

from collections.abc import Sequence

from labelsmooth.metrics.catalogue import CATALOGUE, Metric

SIGNED = ("confidence_gap", "nll_gap")  # differences in themselves
# Of the others 3; of shares 1, in percent.
DIGITS = {"aurc": 4, "e_aurc": 4, "augrc": 4, "largest_logit": 1, "logit_gap": 1}


def title(metric: str | Metric) -> str:
    """The heading of a metric."""
    return _of(metric).title


def percent(share: float) -> str:
    """A share: 12.5%."""
    return f"{_fixed(100 * share, 1)}%"


def level(share: float) -> str:
    """A share that was chosen, without digits that it does not have: 90%, 99.5%."""
    return f"{100 * share:g}%"


def plural(count: int, noun: str) -> str:
    """A count and its noun: 1 seed, 1,234 rows."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def lowered(title: str) -> str:
    """A title within a sentence: its first letter in lower case, unless it is an abbreviation."""
    return title if title.isupper() else title[:1].lower() + title[1:]


def capitalized(words: str) -> str:
    """Words at the start of a sentence; all but the first letter stay as they are."""
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
    signed = _of(metric).name in SIGNED
    return _number(metric, number, signed) + _unit(metric, signed)


def interval(metric: str | Metric, low: float, high: float) -> str:
    """The interval of a value: 1.2 to 2.6%. The value beside it says where these are points."""
    signed = _of(metric).name in SIGNED
    return f"{_number(metric, low, signed)} to {_number(metric, high, signed)}{'' if signed else _unit(metric, False)}"


def half_width(metric: str | Metric, low: float, high: float) -> str:
    """Half an interval, in the unit of the value: ±0.7."""
    return f"±{_number(metric, (high - low) / 2, signed=False)}"


def size(metric: str | Metric, number: float) -> str:
    """The size of a difference, with the digits that it was given: 0.5 points, 1 point, 0.01."""
    text = f"{100 * number if _of(metric).percent else number:g}{_unit(metric, difference=True)}"
    return "1 point" if text == "1 points" else text


def change(metric: str | Metric, difference: float, low: float, high: float) -> tuple[str, str]:
    """A difference of two values and its interval: +1.4 points, +0.2 to +2.6."""
    number = f"{_number(metric, difference, signed=True)}{_unit(metric, difference=True)}"
    return number, f"{_number(metric, low, signed=True)} to {_number(metric, high, signed=True)}"


def p_value(p: float) -> str:
    """A p-value: 0.034, or < 0.001."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _of(metric: str | Metric) -> Metric:
    return CATALOGUE[metric] if isinstance(metric, str) else metric


def _unit(metric: str | Metric, difference: bool) -> str:
    if not _of(metric).percent:
        return ""
    return " points" if difference else "%"


def _number(metric: str | Metric, number: float, signed: bool) -> str:
    metric = _of(metric)
    return _fixed(100 * number, 1, signed) if metric.percent else _fixed(number, DIGITS.get(metric.name, 3), signed)


def _fixed(number: float, digits: int, signed: bool = False) -> str:
    rounded = round(number, digits) + 0.0  # never -0.0
    return f"{rounded:{'+' * signed}.{digits}f}"
