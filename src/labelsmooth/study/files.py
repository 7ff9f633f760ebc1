"""The files of a study, each written whole or not at all; what the disk refuses becomes a sentence."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from labelsmooth._files import whole_file
from labelsmooth.study.errors import StudyError

__all__ = ["disk_errors", "read_json", "write_arrays", "write_json", "write_text"]


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            write(file)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text; the file is the old one or the new one, never a part."""
    _write(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write standard JSON: a NaN or infinite number is an error, not a word that other readers refuse."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an .npz of plain arrays."""
    _write(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))


def read_json(path: Path) -> Any:
    """Read JSON; a file that is not JSON is a sentence."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyError(
            f"{path} is not the JSON it should be ({error}); delete it and run the study again."
        ) from error


# What a full, read-only or forbidden disk raises, or a file where a folder should be; any other OSError in a training
# is not about writing.
DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only folder and their like into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        reason = error.strerror or str(error)
        raise StudyError(
            f"Could not write {path}: {reason}. Make room or choose another folder with --out, then run the same "
            "command again: what is finished is kept."
        ) from error
