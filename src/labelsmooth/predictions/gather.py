"""Chunks of predictions gathered for the metrics: row by row while they are few, as sums of fixed size beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import UserError
from labelsmooth.metrics import BinaryCounts, ClassCounts, Difference, Interval, binary_counts, class_counts
from labelsmooth.metrics.cells import Cells, PairedCells
from labelsmooth.metrics.compare import cells_differences, differences
from labelsmooth.metrics.inputs import read_scores
from labelsmooth.metrics.rows import Predictions, Reduced
from labelsmooth.predictions.chunks import Chunk, Source
from labelsmooth.predictions.columns import Kind

LIMIT = 200_000
"""Rows up to which each is kept (32 bytes); beyond, a file of any length takes a few megabytes."""
_MOST_GROUPS = 1000


@dataclass
class RowsOrSums:
    """Predictions so far: rows, or, after :meth:`as_sums`, sums in cells."""

    parts: list[Reduced] = field(default_factory=list)
    cells: Cells | None = None

    def add(self, rows: Reduced) -> None:
        if self.cells is None:
            self.parts.append(rows)
        else:
            self.cells.add(rows)

    def as_sums(self) -> None:
        """Keep sums from here on."""
        if self.cells is None:
            self.cells = Cells()
            for rows in self.parts:
                self.cells.add(rows)
            self.parts.clear()

    def rows(self) -> Reduced:
        """All of them as rows, weighted where they are kept as sums."""
        return Reduced.join(self.parts) if self.cells is None else self.cells.rows()


Reading = tuple[Reduced, "npt.NDArray[np.int64]", "npt.NDArray[Any] | None"]
Piece = tuple[Reduced, "Reduced | None", "npt.NDArray[Any] | None"]


def reduced(source: Source, of_class: int | None = None) -> Iterator[Reading]:
    """Each chunk checked and reduced to what the metrics need, with its labels and groups.

    Of one class the question is whether the label is that class: its probability is the confidence.
    """
    first = 0
    for chunk in source.chunks:
        if chunk.correct is not None and of_class is not None:
            raise UserError(f"{source.name} has the confidence of the predicted class only, not of one class.")
        if chunk.correct is not None:
            yield _top_label(source.name, chunk, first), chunk.correct.astype(np.int64), chunk.groups
            first += len(chunk.correct)
            continue
        assert chunk.labels is not None
        try:
            rows = read_scores(chunk.scores, chunk.labels, source.kind, first_row=first)
            part = Reduced.join([rows]) if of_class is None else _question(source, rows, of_class)
        except UserError:
            raise
        except (ValueError, TypeError) as error:
            message = str(error).replace("pass them as logits=.", "give --logits.")
            raise UserError(f"{source.name}: {message}") from error
        yield part, chunk.labels, chunk.groups
        first += len(chunk.labels)
    if first == 0:
        raise UserError(f"{source.name} has no rows.")


def _question(source: Source, rows: Predictions, of_class: int) -> Reduced:
    if of_class >= rows.classes:
        raise UserError(f"{source.name} has the classes 0 to {rows.classes - 1}, not {of_class}.")
    unknown = np.full(rows.rows, np.nan)
    return Reduced(*rows.of_class(of_class), unknown, unknown)


def _top_label(name: str, chunk: Chunk, first: int) -> Reduced:
    """Confidences and correctness alone; what needs the other classes is NaN."""
    bad = np.flatnonzero(~((chunk.scores >= 0) & (chunk.scores <= 1)))
    if len(bad):
        raise UserError(
            f"{name}: row {first + bad[0]} has the confidence {chunk.scores[bad[0]]:g}, outside [0, 1]. Give --percent "
            "for percentages."
        )
    assert chunk.correct is not None
    unknown = np.full(len(chunk.scores), np.nan)
    return Reduced(chunk.scores, chunk.correct, unknown, unknown)


@dataclass
class Tally:
    """The rows with each label of the chunks that pass through; for `curves` the counts of each class, and of the
    thresholds where there are two."""

    kind: Kind
    curves: bool = False
    labelled: npt.NDArray[np.int64] | None = None  # [K]
    classes: ClassCounts | None = None
    binary: BinaryCounts | None = None

    def watch(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Pass the chunks on; each is counted when the next is asked for, and has been validated by then."""
        for chunk in chunks:
            yield chunk
            if chunk.labels is None or chunk.correct is not None or not len(chunk.scores):
                continue
            num_classes = chunk.scores.shape[1] if chunk.scores.ndim == 2 else 2
            labelled = np.bincount(chunk.labels, minlength=num_classes)
            self.labelled = labelled if self.labelled is None else self.labelled + labelled
            if not self.curves:
                continue
            are_logits = self.kind == "logits"
            probabilities, logits = (None, chunk.scores) if are_logits else (chunk.scores, None)
            classes = class_counts(probabilities, chunk.labels, logits=logits)
            self.classes = classes if self.classes is None else self.classes + classes
            if len(classes.labelled) == 2:
                binary = binary_counts(probabilities, chunk.labels, logits=logits)
                self.binary = binary if self.binary is None else self.binary + binary


@dataclass
class Gathering:
    """A file's predictions, those of each of its groups, and another model's of the same examples."""

    whole: RowsOrSums = field(default_factory=RowsOrSums)
    groups: dict[str, RowsOrSums] = field(default_factory=dict)
    other: RowsOrSums | None = None
    paired: PairedCells | None = None  # of both models, once sums are kept
    count: int = 0

    def add(self, one: Reduced, two: Reduced | None) -> None:
        self.count += one.rows
        if self.paired is not None and two is not None:
            self.paired.add(one, two)
            return
        self.whole.add(one)
        if self.other is not None and two is not None:
            self.other.add(two)

    def as_sums(self) -> None:
        """Keep sums from here on."""
        if self.other is not None and self.paired is None:
            self.paired = PairedCells()
            for one, two in zip(self.whole.parts, self.other.parts, strict=True):
                self.paired.add(one, two)
            self.whole, self.other = (RowsOrSums(cells=cells) for cells in self.paired.both)
        for kept in (self.whole, *self.groups.values()):
            kept.as_sums()

    def differences(self, interval: Interval) -> dict[str, Difference]:
        """The file minus the other model in every metric; empty without another one."""
        if self.paired is not None:
            return cells_differences(self.paired, interval)
        return {} if self.other is None else differences(self.whole.rows(), self.other.rows(), interval)


def gather(source: Source, other: Source | None = None, limit: int = LIMIT, of_class: int | None = None) -> Gathering:
    """Read everything, once."""
    gathering = Gathering(other=None if other is None else RowsOrSums())
    if other is None:
        pieces: Iterator[Piece] = ((rows, None, group) for rows, _, group in reduced(source, of_class))
    else:
        pieces = _aligned(source, other, of_class)
    for one, two, group in pieces:
        if gathering.count + one.rows > limit:
            gathering.as_sums()
        gathering.add(one, two)
        for name in () if group is None else np.unique(group):
            _group(gathering, source.name, str(name)).add(one.select(group == name))
    gathering.groups = dict(sorted(gathering.groups.items()))
    return gathering


def _group(gathering: Gathering, file: str, name: str) -> RowsOrSums:
    if name not in gathering.groups:
        if len(gathering.groups) == _MOST_GROUPS:
            raise UserError(
                f"{file}: the column to group by has more than {_MOST_GROUPS} values; group by one that has few."
            )
        gathering.groups[name] = RowsOrSums(cells=None if gathering.whole.cells is None else Cells())
    return gathering.groups[name]


def _aligned(first: Source, second: Source, of_class: int | None) -> Iterator[Piece]:
    """Pieces of both files of the same rows; their labels must agree, and their lengths."""
    left, right = reduced(first, of_class), reduced(second, of_class)
    one, two, count = next(left, None), next(right, None), 0
    while one is not None and two is not None:
        size = min(len(one[1]), len(two[1]))
        differ = np.flatnonzero(one[1][:size] != two[1][:size])
        if len(differ):
            i = int(differ[0])
            raise UserError(
                f"row {count + i} has the label {one[1][i]} in {first.name} and {two[1][i]} in {second.name}: "
                "they must be the same examples in the same order."
            )
        head = slice(0, size)
        yield one[0].select(head), two[0].select(head), None if one[2] is None else one[2][head]
        count += size
        one, two = _rest(one, size) or next(left, None), _rest(two, size) or next(right, None)
    if one is not None or two is not None:
        counts = [
            count + sum(len(piece[1]) for piece in ([] if held is None else [held, *more]))
            for held, more in ((one, left), (two, right))
        ]
        raise UserError(
            f"{first.name} has {counts[0]} rows and {second.name} {counts[1]}: they must be the same examples."
        )


def _rest(piece: Reading, size: int) -> Reading | None:
    """What is left of a chunk after its first rows."""
    if len(piece[1]) == size:
        return None
    tail = slice(size, None)
    return piece[0].select(tail), piece[1][tail], None if piece[2] is None else piece[2][tail]
