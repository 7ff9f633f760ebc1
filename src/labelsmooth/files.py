"""Files written whole or not at all: bytes, text, JSON and arrays; disk errors become a UserError."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

import numpy as np

from labelsmooth.errors import UserError

StrPath: TypeAlias = "str | os.PathLike[str]"

# Errors of writing: a full, read-only or forbidden disk, or a file where a folder is expected.  Any other OSError in a
# training is not about writing.
DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG),
}


Record = TypeVar("Record")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that is flushed to disk and renamed to ``path`` when the block ends.

    When the block raises, the temporary file is deleted and ``path`` is unchanged.

    Raises:
        UserError: ``path`` exists and is not a regular file: a folder, a device, a named pipe.
    """
    _check_regular(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    file = partial.open("xb")  # a new file, with the permissions that the user's new files have
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # missing: interrupted just after the rename
        raise


def _check_regular(path: Path) -> None:
    """Raise a UserError for a folder, a device or a named pipe, which would be replaced by a file."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file, and is not replaced; choose another name.")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes; parent folders are created."""
    _write(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text; parent folders are created."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write standard JSON; raises ValueError for NaN and infinity, which standard JSON does not have."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a compressed .npz of plain arrays."""
    _write(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))


def read_json(path: Path) -> Any:
    """Read JSON; raises UserError for invalid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); delete it and run the command again.") from error


def read_record(kind: type[Record], path: StrPath, format_: int, name: str, file: str, folder: str) -> Record:
    """Read a record that was written as JSON: a dataclass with a field ``format``, whose types are checked.

    Args:
        path: the file, or the folder that it is in.
        name, file, folder: what errors call the record, the file's name, and what the folder is of.

    Raises:
        UserError: no such file, invalid JSON, another format, or a field that is missing or of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    path = Path(path)
    path = path / file if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder of {folder}.")
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != format_:
        raise UserError(f"{path} is not a {name} of format {format_}; make it again with this version.")
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is damaged: {field}: {first['msg']}. Restore it or make it again.") from error


def check_output(path: Path, overwrite: bool) -> None:
    """Check, before the work begins, that ``path`` can be written.

    Raises:
        UserError: ``path`` exists and ``overwrite`` is false, or its folder does not exist.
    """
    _check_regular(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; choose another name, or replace it with --overwrite.")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is not a folder; create it, or choose another place for {path.name}.")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing ``path`` (full disk, read-only folder and the like) into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f"Could not write {path}: {error.strerror or error}. Free some space or choose another place, then run the "
            "same command again: finished parts are kept."
        ) from error


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            write(file)
