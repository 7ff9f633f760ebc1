"""Predictions on standard output: a table for people, CSV and JSON lines for programs, row by row."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelsmooth.errors import plural, shown
from labelsmooth.metrics.numbers import level, percent
from labelsmooth.models import Prediction


@dataclasses.dataclass
class Tally:
    """Counts predictions as they pass."""

    answered: int = 0
    abstained: int = 0
    failed: int = 0
    unlike: int = 0

    def count(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        for one in predictions:
            self.failed += one.error is not None
            self.abstained += one.abstained
            self.unlike += one.unlike
            self.answered += one.label is not None
            yield one

    @property
    def total(self) -> int:
        return self.answered + self.abstained + self.failed

    def __str__(self) -> str:
        parts = [f"{plural(self.total, 'image')}: {self.answered:,} answered"]
        parts += [f"{self.abstained:,} abstained"] if self.abstained else []
        parts += [f"{self.failed:,} could not be read"] if self.failed else []
        parts += [f"{self.unlike:,} unlike the training images"] if self.unlike else []
        return ", ".join(parts) + "."


def print_json(predictions: Iterable[Prediction]) -> None:
    """One JSON object a line, as soon as it is predicted."""
    for one in predictions:
        top = [{"class": name, "probability": p} for name, p in one.top]
        print(json.dumps({**dataclasses.asdict(one), "top": top}), flush=True)


def print_csv(predictions: Iterable[Prediction], top: int, sets: bool) -> None:
    """path, label, confidence, abstained, error, unlike, typicality, with sets the classes of each, separated by "; ",
    and class_1, probability_1, ... up to the top K."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = [f"{name}_{k}" for k in range(1, top + 1) for name in ("class", "probability")] if top > 1 else []
    columns = ["path", "label", "confidence", "abstained", "error", "unlike", "typicality", *["classes"] * sets]
    writer.writerow([*columns, *names])
    for one in predictions:
        row = [one.path, one.label, one.confidence, str(one.abstained).lower(), one.error]
        row += [str(one.unlike).lower(), one.typicality]
        row += ["; ".join(one.classes or ())] if sets else []
        further = [cell for pair in one.top for cell in pair] if top > 1 else []
        row += further + [None] * (len(names) - len(further))
        writer.writerow([_harmless(cell) if isinstance(cell, str) else cell for cell in row])
        sys.stdout.flush()


def _harmless(text: str) -> str:
    """A cell that a spreadsheet does not read as a formula; the name of a file may be bytes that are not text."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def print_table(predictions: Iterable[Prediction], console: Console, sets: float | None) -> None:
    """All of them in one table; ``sets`` is the probability that a set holds the label."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("Image", overflow="fold")
    table.add_column("Prediction", overflow="fold")
    table.add_column("Confidence", justify="right", no_wrap=True)
    if sets is not None:
        table.add_column(f"{level(sets)} set", overflow="fold")
    for one in predictions:
        if one.error is not None:
            table.add_row(shown(one.path), Text(shown(one.error), style="red"), "")
            continue
        names = [shown(name) for name, _ in one.top]
        prediction = Text("abstains" + (": " if len(names) > 1 else ""), style="yellow") if one.abstained else Text()
        prediction.append("" if one.abstained and len(names) == 1 else "\n".join(names), style="")
        if one.unlike:
            prediction.append("\nunlike the training images", style="yellow")
        cells = [] if one.classes is None else [Text("\n".join(map(shown, one.classes)))]
        table.add_row(Text(shown(one.path)), prediction, "\n".join(percent(p) for _, p in one.top), *cells)
    console.print(table)
