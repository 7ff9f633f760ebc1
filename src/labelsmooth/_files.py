"""Files written whole or not at all: under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["whole_file"]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name that becomes ``path`` when the block ends, and is deleted when it fails."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_umask())  # mkstemp's files are for the owner alone
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # interrupted just after the renaming
            os.unlink(partial)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
