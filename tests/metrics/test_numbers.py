"""How numbers are written: by the unit of the metric, without a negative zero."""

from __future__ import annotations

import math

import pytest

from labelsmooth.errors import plural
from labelsmooth.metrics.numbers import (
    bound,
    change,
    estimate,
    p_value,
    percent,
    size,
    value,
    with_half,
)
from labelsmooth.study.records import METRICS


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (plural(1, "seed"), "1 seed"),
        (plural(1234, "row"), "1,234 rows"),
        (percent(-0.0001), "0.0%"),
        (value("aurc", 0.01234), "0.0123"),
        (value(METRICS["nll_gap"], 0.5), "+0.500"),
        (estimate("confidence_gap", 0.014, -0.012, 0.026), ("+1.4 points", "-1.2 to +2.6")),
        (estimate("error", 0.0192, 0.012, 0.026), ("1.9%", "1.2 to 2.6%")),
        (with_half("nll", 0.2, 0.1, 0.3), ("0.200", "±0.100")),
        (size("error", 0.005), "0.5 points"),
        (size("nll", 0.01), "0.01"),
        (change("ece", -0.01, -0.02, 0.0), ("-1.0 points", "-2.0 to +0.0")),
        (p_value(0.0001), "< 0.001"),
    ],
)
def test_numbers(written: object, expected: object) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (change("nll", 0.01, 0.0004, 0.02), ("+0.0100", "+0.0004 to +0.0200")),
        (change("error", -0.006, -0.012, -0.00042), ("-0.60 points", "-1.20 to -0.04")),
        (change("aurc", 0.001, 0.00096e-2, 0.002), ("+0.001000", "+0.000010 to +0.002000")),
        (estimate("confidence_gap", 0.002, 0.0001, 0.004), ("+0.20 points", "+0.01 to +0.40")),
        (estimate("ece", 0.006, 0.0004, 0.012), ("0.60%", "0.04 to 1.20%")),
        (bound("ece", 0.0004), "0.04%"),
        # Not where the interval has 0, or an end that is 0 but for rounding, or is not finite.
        (change("nll", 0.01, -0.0004, 0.02), ("+0.010", "+0.000 to +0.020")),
        (change("nll", 0.01, 0.0, 0.02), ("+0.010", "+0.000 to +0.020")),
        (change("nll", 0.01, 1e-12, 0.02), ("+0.010", "+0.000 to +0.020")),
        (estimate("nll", math.inf, 0.01, math.inf), ("inf", "0.010 to inf")),
        (estimate("failure_auroc", math.nan, math.nan, math.nan), ("nan", "nan to nan")),
    ],
)
def test_no_end_of_an_interval_without_zero_is_written_as_zero(written: object, expected: object) -> None:
    assert written == expected
