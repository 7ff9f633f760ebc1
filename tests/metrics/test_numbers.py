"""How numbers are written: by the unit of the metric, without a negative zero."""

from __future__ import annotations

import pytest

from labelsmooth.metrics.numbers import change, half_width, interval, p_value, percent, plural, size, value
from labelsmooth.study.records import METRICS


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(-0.0001), "0.0%"),
        (plural(1, "seed"), "1 seed"),
        (plural(1234, "row"), "1,234 rows"),
        (value("aurc", 0.01234), "0.0123"),
        (value(METRICS["nll_gap"], 0.5), "+0.500"),
        (interval("error", 0.012, 0.026), "1.2 to 2.6%"),
        (interval("confidence_gap", -0.012, 0.026), "-1.2 to +2.6"),
        (half_width("nll", 0.1, 0.3), "±0.100"),
        (size("error", 0.005), "0.5 points"),
        (size("nll", 0.01), "0.01"),
        (change("ece", -0.01, -0.02, 0.0), ("-1.0 points", "-2.0 to +0.0")),
        (p_value(0.0001), "< 0.001"),
    ],
)
def test_numbers(written: object, expected: object) -> None:
    assert written == expected
