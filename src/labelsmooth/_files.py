"""Files written whole or not at all: under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["whole_file"]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name that becomes ``path`` when the block ends, and is deleted when it fails."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    file = partial.open("xb")  # a new one, with the permissions that the user's new files have
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # missing: interrupted just after the renaming
        raise
