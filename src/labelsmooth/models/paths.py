"""The images in files, folders and lists of paths, one after the other, in constant memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labelsmooth.data.folder import leads_out
from labelsmooth.data.photos import EXTENSIONS
from labelsmooth.files import StrPath


@dataclass(frozen=True)
class Place:
    """A file to read, or why it is not read (``problem``)."""

    path: Path
    problem: str | None = None


def find_images(paths: Iterable[StrPath]) -> Iterator[Place]:
    """The given files, whatever their names; of folders every image below them, sorted.

    Within folders, images are recognised by their suffix; hidden files and folders and links to folders are skipped.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg"):
        ...     (folder / name).touch()
        >>> [place.path.name for place in find_images([folder, folder / "notes.txt"])]
        ['a.PNG', 'b.jpg', 'notes.txt']
    """
    for path in map(Path, paths):
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte
            yield Place(path, reason(error))
            continue
        if is_folder:
            yield from _below(path)
        else:
            yield Place(path)


def _below(folder: Path) -> Iterator[Place]:
    root = os.path.realpath(folder)
    unreadable: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=unreadable.append):  # does not follow links
        yield from _refused(unreadable)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                path = Path(here, name)
                yield Place(path, leads_out(path, root) if path.is_symlink() else None)

    yield from _refused(unreadable)


def _refused(unreadable: list[OSError]) -> Iterator[Place]:
    """The folders that could not be listed since the last call."""
    while unreadable:
        error = unreadable.pop(0)
        yield Place(Path(error.filename), f"folder not read: {reason(error)}")


def reason(error: OSError | ValueError) -> str:
    """Why a path cannot be used, in a few words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def read_list(stream: IO[bytes], null: bool = False) -> Iterator[Path]:
    """The paths of a list as they arrive, one per line, or with ``null`` separated by NUL bytes (``find -print0``);
    empty ones are skipped."""
    if not null:
        names = (line.rstrip(b"\r\n") for line in stream)
        yield from (Path(os.fsdecode(name)) for name in names if name)
        return
    rest = b""
    while block := stream.read(1 << 16):
        *names_in_block, rest = (rest + block).split(b"\0")
        yield from (Path(os.fsdecode(name)) for name in names_in_block if name)
    if rest:
        yield Path(os.fsdecode(rest))
