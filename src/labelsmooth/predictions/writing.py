"""Results written whole or not at all, over nothing unasked; what the disk refuses becomes a sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from labelsmooth._files import whole_file

from .errors import PredictionError


def refuse(out: Path, overwrite: bool) -> None:
    """Overwrite nothing unasked, and find out before the work is done."""
    if out.exists() and not overwrite:
        raise PredictionError(f"{out} exists; choose another name, or say --overwrite.")
    if not out.parent.is_dir():
        raise PredictionError(f"{out.parent} is not a folder; make it, or choose another place for {out.name}.")


@contextlib.contextmanager
def written(out: Path) -> Iterator[IO[bytes]]:
    """A file that becomes `out` when the block ends; a full or read-only disk is a sentence."""
    with disk_errors(out), whole_file(out) as file:
        yield file


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence."""
    try:
        yield
    except OSError as problem:
        raise PredictionError(
            f"Could not write {out}: {problem.strerror or problem}. Make room, or choose another place."
        ) from problem
