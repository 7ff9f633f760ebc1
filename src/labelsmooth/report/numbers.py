"""How numbers are written everywhere: shares as 12.5%, their differences as +1.4 points, others with fixed digits."""

from __future__ import annotations

from labelsmooth.metrics.catalogue import CATALOGUE, Metric
from labelsmooth.study.records import METRICS

__all__ = ["change", "half_width", "interval", "metric", "p_value", "percent", "plural", "title", "value"]

SIGNED = ("confidence_gap", "nll_gap")  # differences in themselves
DIGITS = {
    "aurc": 4,
    "e_aurc": 4,
    "augrc": 4,
    "largest_logit": 1,
    "logit_gap": 1,
}  # of the others 3; of shares 1, in percent


def metric(name: str) -> Metric:
    """What the catalogue says of a metric, or a study of one of its own."""
    return CATALOGUE[name] if name in CATALOGUE else METRICS[name]


def title(name: str) -> str:
    """The heading of a metric."""
    return metric(name).title


def percent(share: float) -> str:
    """A share: 12.5%."""
    return f"{_fixed(100 * share, 1)}%"


def plural(count: int, noun: str) -> str:
    """A count and its noun: 1 seed, 1,234 rows."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def value(name: str, number: float) -> str:
    """A value of a metric: 1.9%, 0.178, or, of the confidence gap, +1.4 points."""
    return _number(name, number, signed=name in SIGNED) + _unit(name, name in SIGNED)


def interval(name: str, low: float, high: float) -> str:
    """The interval of a value: 1.2 to 2.6%. The value beside it says where these are points."""
    signed = name in SIGNED
    unit = "" if signed else _unit(name, False)
    return f"{_number(name, low, signed)} to {_number(name, high, signed)}{unit}"


def half_width(name: str, low: float, high: float) -> str:
    """Half an interval, in the unit of the value: ±0.7."""
    return f"±{_number(name, (high - low) / 2, signed=False)}"


def change(name: str, difference: float, low: float, high: float) -> tuple[str, str]:
    """A difference of two values and its interval: +1.4 points, +0.2 to +2.6."""
    number = f"{_number(name, difference, signed=True)}{_unit(name, difference=True)}"
    return number, f"{_number(name, low, signed=True)} to {_number(name, high, signed=True)}"


def p_value(p: float) -> str:
    """A p-value: 0.034, or < 0.001."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _unit(name: str, difference: bool) -> str:
    if metric(name).unit != "percent":
        return ""
    return " points" if difference else "%"


def _number(name: str, number: float, signed: bool) -> str:
    if metric(name).unit == "percent":
        return _fixed(100 * number, 1, signed)
    return _fixed(number, DIGITS.get(name, 3), signed)


def _fixed(number: float, digits: int, signed: bool = False) -> str:
    rounded = round(number, digits) + 0.0  # never -0.0
    return f"{rounded:{'+' * signed}.{digits}f}"
