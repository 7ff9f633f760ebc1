"""Tables as plain data: a page and the terminal show the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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


def is_above(value: float, high: float) -> bool:
    """Whether a value lies above its interval by more than a rounding."""
    return value > high + 1e-9
