"""A table of photos: a CSV, Parquet or JSON-lines file, or a data frame, with a path and a label in each row."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from labelsmooth.data.dataset import class_count, too_few
from labelsmooth.data.folder import FOREIGN, part_of
from labelsmooth.data.loading import PARTS, Listing, PhotoFile
from labelsmooth.data.photos import Source
from labelsmooth.data.problems import Problems, listed
from labelsmooth.errors import UserError, shown
from labelsmooth.predictions.tables import Frame, read_columns

# Names of columns that are found without being given; any case, and with blanks or hyphens for underscores.
NAMES = {
    "path": [
        *("path", "file", "filename", "file_name", "filepath", "file_path"),
        *("image", "image_path", "image_file", "image_name", "img", "photo"),
    ],
    "label": ["label", "class", "target", "category", "class_name", "label_name", "y"],
    "split": ["split", "part", "subset", "partition"],
}


@dataclass(frozen=True)
class Columns:
    """The columns of a table of photos, by name.

    Args:
        path: of the files; by default the column named path, file, filename, image or the like.
        label: of the classes; by default the column named label, class, target, category or y.
        split: of the part of each photo, train, validation or test; by default split, part or subset, where there is
            one.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None


class Labelled(NamedTuple):
    """A photo with the names of its class and of its part, "" for none."""

    source: Source
    name: str
    label: str
    part: str = ""


def scan_table(table: Path | Frame, folder: Path | None, columns: Columns, problems: Problems) -> Listing:
    """List the photos of a table.

    Args:
        table: the file, or the data frame.
        folder: that the paths are relative to; by default that of the file, and the current one for a data frame.

    Raises:
        UserError: the table cannot be read, or its columns are not found.
    """
    title = shown(table.name) if isinstance(table, Path) else "the data frame"
    base = folder or (table.parent if isinstance(table, Path) else Path())
    cells = read_columns(table)
    names = {role: find_column(role, list(cells), getattr(columns, role), title) for role in NAMES}
    guessed = [f"{role}s from column {name}" for role, name in names.items() if name and not getattr(columns, role)]
    notes = [f"Read {', '.join(guessed)} of {title}."] if guessed else []
    texts = [
        [as_text(cell) for cell in cells[name]] if name else [""] * len(cells[str(names["path"])])
        for name in names.values()
    ]
    rows: dict[str, tuple[str, str]] = {}  # label and part by path
    contradictory = set()
    for number, (path, *row) in enumerate(zip(*texts, strict=True), 1):
        label, part = row
        if part_of(part) == "unlabelled":
            rows[path] = "", part
        elif not path or not label:
            problems.add("rows", f"row {number}", f"no {'label' if path else 'path'}")
        elif rows.setdefault(path, (label, part)) != (label, part):
            problems.add("rows", path, " and ".join(" ".join(row).strip() for row in (rows[path], (label, part))))
            contradictory.add(path)
    photos = [
        Labelled(base / path, path, *row)
        for path, row in rows.items()
        if path not in contradictory and (part_of(row[1]) == "unlabelled" or _is_there(base / path, path, problems))
    ]
    return list_labelled(photos, f"column {names['split']} of {title}", notes, problems)


def list_labelled(photos: Sequence[Labelled], where: str, notes: list[str], problems: Problems) -> Listing:
    """The listing of labelled photos, with the classes in alphabetical order, or in that of numbers.

    Args:
        photos: the photos.
        where: their parts are written, for messages.
        notes: what the user should know already.

    Raises:
        UserError: the name of a part is not known.
    """
    names = Counter(photo.part for photo in photos)
    kinds = {name: part_of(name) for name in names}
    unknown = [name for name in names if name and not kinds[name]]
    if unknown or (len(names) > 1 and "" in names):
        values = listed((repr(name) for name in names), ", ")
        raise UserError(
            f"The {where} has the values {values}; give train, validation (or val) or test in every row, or rename the "
            "column if it means something else."
        )
    if left := sum(count for name, count in names.items() if kinds[name] == "unlabelled"):
        notes.append(f"{left} rows are not used: their part has no labels.")
    held_out = {"validation", "test"} & set(kinds.values())
    if "train" not in kinds.values() or not held_out:  # one part only: its photos are divided
        kinds = {name: kind if kind == "unlabelled" else "train" for name, kind in kinds.items()}
    elif "test" not in held_out:
        notes.append("There is no test part: the validation part is the test part.")
        kinds = {name: "test" if kind == "validation" else kind for name, kind in kinds.items()}
    used = [photo for photo in photos if kinds[photo.part] != "unlabelled"]
    counts = Counter(photo.label for photo in used)
    whole = all(re.fullmatch(r"-?[0-9]+", label) for label in counts)
    classes = tuple(sorted(counts, key=lambda label: (int(label) if whole else 0, label)))
    if len(classes) < 2 and problems.to_train:
        problems.add("structure", class_count(classes))
        problems.raise_all()
    if few := too_few(classes, [counts[label] for label in classes]):
        problems.add("counts", few)
    number = {label: index for index, label in enumerate(classes)}
    files = [
        PhotoFile(photo.source, photo.name, number[photo.label], part)
        for part in PARTS
        for photo in used
        if kinds[photo.part] == part
    ]
    return Listing(classes, files, notes, parts_named=len({file.part for file in files}) > 1)


def find_column(role: str, names: list[str], given: str | None, table: str) -> str | None:
    """The column with this role, as given or found by its name; None if there is no column of parts.

    There must be one such column, unless it is that of the parts; else a UserError is raised.
    """
    option = f"--{role}-column"
    columns = listed(map(repr, names), ", ")
    if given is not None:
        if given not in names:
            raise UserError(f"{table} has no column {given!r}; its columns are {columns}. Correct {option}.")
        return given
    candidates = [name for name in names if re.sub(r"[\s-]+", "_", name.lower()) in NAMES[role]]
    if len(candidates) == 1 or (role == "split" and not candidates):
        return candidates[0] if candidates else None
    if candidates:
        raise UserError(f"{table} has several columns of {role}s, {', '.join(candidates)}; choose one with {option}.")
    raise UserError(f"{table} has no column named like a {role}; its columns are {columns}. Name it with {option}.")


def as_text(cell: object) -> str:
    """A cell as text: "" for a missing one, "3" for 3.0."""
    if cell is None or cell != cell:  # NaN
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _is_there(path: Path, name: str, problems: Problems) -> bool:
    if os.path.isfile(path) and path.suffix.lower() not in FOREIGN:
        return True
    if os.path.isfile(path):
        problems.add("format", name, f"{path.suffix[1:].upper()} is not read")
    elif os.path.exists(path):
        problems.add("unreadable", name, "not a regular file")
    else:
        problems.add("missing", name)
    return False
