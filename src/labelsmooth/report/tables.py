"""Tables as plain data: a page and the terminal show the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labelsmooth.metrics import Estimate
from labelsmooth.metrics.numbers import estimate
from labelsmooth.models.records import Measured

Tone = Literal["", "better", "worse"]
MARKS: dict[str, str] = {"better": "▼ ", "worse": "▲ ", "inconclusive": "○ ", "equivalent": "≈ ", "identical": "= "}


@dataclass(frozen=True)
class Cell:
    """A number or a word; `small` is its interval, `best` marks the best of a row."""

    text: str
    small: str = ""
    best: bool = False
    tone: Tone = ""


@dataclass(frozen=True)
class Row:
    """Cells under a title; `meaning` explains the title, `main` marks the row that the page is about."""

    title: str
    cells: list[Cell]
    meaning: str = ""
    main: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings, the first of which is that of the titles; `note` says how to read it."""

    columns: list[str]
    rows: list[Row]
    note: str = ""


@dataclass(frozen=True)
class Card:
    """A headline number of a page."""

    title: str
    text: str
    small: str
    word: str = ""
    tone: Tone = ""


def is_above(e: Estimate | Measured) -> bool:
    """Whether a value lies above its interval by more than a rounding."""
    return e.value > e.high + 1e-9


def marked(metric: str, e: Estimate | Measured, mark: str) -> tuple[str, str]:
    """The value of a metric, with a mark where it lies above its interval, which a note explains; and the interval."""
    text, ends = estimate(metric, e.value, e.low, e.high)
    return text + f" {mark}" * is_above(e), ends
