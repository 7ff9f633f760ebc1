"""Rows of a CSV or Parquet file in chunks: the columns p0, p1, ... or z0, z1, ..., label, and one to group by."""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import UserError

_CHUNK = 16_384
# Fields of a chunk: the text of wide rows takes a hundred bytes each.
_FIELDS = 1 << 20


@dataclass(frozen=True)
class Columns:
    """Where things are in a table: the scores, in the order of the classes, and what they are."""

    kind: str
    scores: tuple[str, ...]
    label: str | None
    by: str | None


def find_columns(path: Path, names: list[str], kind: str | None, by: str | None, labels: bool) -> Columns:
    """Read the header: p0 ... are probabilities, z0 ... logits; where both are there, `kind` says which."""
    found = {}
    for one, letter in (("probabilities", "p"), ("logits", "z")):
        numbers = sorted(int(m[1]) for m in (re.fullmatch(rf"{letter}(\d+)", name) for name in names) if m)
        if numbers:
            if numbers != list(range(len(numbers))):
                missing = next(k for k in range(len(numbers) + 1) if k not in numbers)
                raise UserError(
                    f"{path}: column {letter}{missing} is missing among {letter}0 ... {letter}{numbers[-1]}."
                )
            found[one] = tuple(f"{letter}{k}" for k in numbers)
    if kind is None and len(found) == 2:
        raise UserError(f"{path} holds both p0 ... and z0 ...: say --probabilities or --logits.")
    chosen = kind or next(iter(found), None)
    if chosen is None or chosen not in found:
        wanted = "p0, p1, ... (probabilities) or z0, z1, ... (logits)" if kind is None else f"{kind}"
        raise UserError(f"{path} has no columns of {wanted}; its columns are {', '.join(names[:12])}.")
    if labels and "label" not in names:
        raise UserError(f"{path} has no column 'label'; its columns are {', '.join(names[:12])}.")
    if by is not None and by not in names:
        raise UserError(f"{path} has no column {by!r} to group by; its columns are {', '.join(names[:12])}.")
    return Columns(chosen, found[chosen], "label" if "label" in names else None, by)


Chunk = tuple[npt.NDArray[Any], "npt.NDArray[np.int64] | None", "npt.NDArray[Any] | None"]


def csv_chunks(path: Path, kind: str | None, by: str | None, labels: bool) -> tuple[str, Iterator[Chunk]]:
    """What a CSV file holds, and its rows in chunks: (scores [n, K], labels [n], groups [n])."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = next(csv.reader(file), [])
    columns = find_columns(path, [name.strip() for name in names], kind, by, labels)
    return columns.kind, _readable(path, _csv_rows(path, [name.strip() for name in names], columns))


def _chunk_rows(columns: int) -> int:
    return max(1, min(_CHUNK, _FIELDS // columns))


def _readable(path: Path, rows: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks; where the file cannot be read any further, a sentence."""
    try:
        yield from rows
    except UserError:
        raise
    except UnicodeDecodeError as problem:
        raise UserError(f"{path} is not text in UTF-8: {problem}.") from problem
    except (csv.Error, OSError, ValueError) as problem:  # pyarrow's own errors are the last two
        said = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise UserError(f"{path} is damaged; it may be truncated ({said}).") from problem


def _csv_rows(path: Path, names: list[str], columns: Columns) -> Iterator[Chunk]:
    at = [names.index(name) for name in columns.scores]
    label = None if columns.label is None else names.index(columns.label)
    by = None if columns.by is None else names.index(columns.by)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(reader)
        first, most = 0, _chunk_rows(len(names))
        block: list[list[str]] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise UserError(
                    f"{path}: row {first + len(block)} (line {reader.line_num}) has {len(row)} fields, the header "
                    f"{len(names)}; the file may be truncated."
                )
            block.append(row)
            if len(block) == most:
                yield _parsed(path, block, first, at, label, by, names)
                first, block = first + len(block), []
        if block:
            yield _parsed(path, block, first, at, label, by, names)


def _parsed(
    path: Path, block: list[list[str]], first: int, at: list[int], label: int | None, by: int | None, names: list[str]
) -> Chunk:
    scores = np.empty((len(block), len(at)))
    labels = None if label is None else np.empty(len(block), dtype=np.int64)
    for i, row in enumerate(block):
        try:
            scores[i] = [row[j] for j in at]
        except ValueError:
            bad = next(j for j in at if not _is_number(row[j]))
            raise UserError(f"{path}: row {first + i}, column {names[bad]}: {row[bad]!r} is not a number.") from None
        if labels is not None and label is not None:
            try:
                labels[i] = int(row[label])
            except ValueError:
                raise UserError(f"{path}: row {first + i}: the label {row[label]!r} is not a whole number.") from None
    return scores, labels, None if by is None else np.array([row[by] for row in block])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parquet_chunks(path: Path, kind: str | None, by: str | None, labels: bool) -> tuple[str, Iterator[Chunk]]:
    """What a Parquet file holds, and its rows in chunks, read group by group."""
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as problem:
        raise UserError(f"{path}: reading Parquet needs pyarrow: pip install 'labelsmooth[parquet]'.") from problem
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as problem:  # pyarrow's own errors are these
        raise UserError(f"{path} is not a whole Parquet file: {problem}") from problem
    columns = find_columns(path, list(file.schema_arrow.names), kind, by, labels)
    return columns.kind, _readable(path, _parquet_rows(path, file, columns))


def _parquet_rows(path: Path, file: Any, columns: Columns) -> Iterator[Chunk]:
    wanted = [*columns.scores, *[name for name in (columns.label, columns.by) if name is not None]]
    first = 0
    for batch in file.iter_batches(batch_size=_chunk_rows(len(wanted)), columns=wanted):
        table = {name: batch.column(name) for name in wanted}
        for name, column in table.items():
            if column.null_count:
                row = first + column.is_null().to_pylist().index(True)
                raise UserError(f"{path}: row {row}, column {name} is empty.")
        scores = np.stack([table[name].to_numpy(zero_copy_only=False) for name in columns.scores], axis=1)
        labels = None if columns.label is None else table[columns.label].to_numpy(zero_copy_only=False)
        groups = None if columns.by is None else np.array([str(v) for v in table[columns.by].to_pylist()])
        yield scores, labels, groups
        first += len(scores)
