"""The images in files, folders and lists of paths, one after the other, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labelsmooth.data.folder import leads_out
from labelsmooth.data.photos import EXTENSIONS
from labelsmooth.files import StrPath

__all__ = ["Place", "find_images", "read_list"]


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
        if path.is_dir():
            yield from _below(path)
        else:
            yield Place(path)


def _below(folder: Path) -> Iterator[Place]:
    root = os.path.realpath(folder)
    for here, folders, files in os.walk(folder):  # does not follow links
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                path = Path(here, name)
                yield Place(path, leads_out(path, root) if path.is_symlink() else None)


def read_list(stream: IO[bytes]) -> Iterator[Path]:
    """The paths of a list, one per line, as they arrive; empty lines are skipped."""
    for line in stream:
        name = line.rstrip(b"\r\n")
        if name:
            yield Path(os.fsdecode(name))
