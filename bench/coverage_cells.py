"""What the sections of all_coverage.py are made of: a cell that is simulated, and a line of the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """How often a statement held in a cell: at the `nominal` rate, and at least (or at most) at its `bar`.

    A line of a number that is no rate has its own standard error, `error`.
    """

    cell: str
    quantity: str
    nominal: float
    observed: float
    repeats: int
    bar: float
    at_most: bool = False
    error: float | None = None

    @property
    def standard_error(self) -> float:
        if self.error is not None:
            return self.error
        rate = min(max(self.observed, 0.5 / self.repeats), 1.0 - 0.5 / self.repeats)
        return (rate * (1.0 - rate) / self.repeats) ** 0.5

    @property
    def fails(self) -> bool:
        beyond = self.observed - self.bar if self.at_most else self.bar - self.observed
        return beyond > 2.0 * self.standard_error

    @staticmethod
    def heading() -> str:
        return f"{'cell':58}{'quantity':26}{'nominal':>8}{'observed':>10}{'± s.e.':>8}{'repeats':>9}"

    def __str__(self) -> str:
        mark = "  <- beyond the bar" if self.fails else ""
        numbers = f"{self.nominal:>8.3f}{self.observed:>10.3f}{self.standard_error:>8.3f}{self.repeats:>9}"
        return f"{self.cell:58}{self.quantity:26}{numbers}{mark}"

    def record(self) -> dict[str, object]:
        fields = {key: value for key, value in dataclasses.asdict(self).items() if key != "error"}
        return {
            **fields,
            "standard_error": round(self.standard_error, 4),
            "fails": self.fails,
        }


@dataclass(frozen=True)
class Cell:
    """A setting that is drawn `repeats` times; `count` returns the lines, and must be a function of a module."""

    name: str
    count: Callable[..., list[Line]]
    options: tuple[object, ...]

    def run(self) -> list[Line]:
        return self.count(self.name, *self.options)
