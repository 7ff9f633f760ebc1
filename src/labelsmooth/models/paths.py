"""The images among files, folders and lists, one after the other and never all in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Place", "find_images", "read_list"]


@dataclass(frozen=True)
class Place:
    """A file to read, or why it is not read: within a folder, a link that leads out of it."""

    path: Path
    problem: str | None = None


def find_images(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Place]:
    """Files as they are given, whatever their name; of folders every image below them, sorted.

    A file counts as an image by its suffix; hidden files and folders are passed over, and so are links to folders.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg"):
        ...     (folder / name).touch()
        >>> [place.path.name for place in find_images([folder, folder / "notes.txt"])]
        ['a.PNG', 'b.jpg', 'notes.txt']
    """
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from _below(path)
        else:
            yield Place(path)


def _below(folder: Path) -> Iterator[Place]:
    from labelsmooth.data.folder import leads_out
    from labelsmooth.data.photos import EXTENSIONS

    root = os.path.realpath(folder)
    for here, folders, files in os.walk(folder):  # does not follow links
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                path = Path(here, name)
                yield Place(path, leads_out(path, root) if path.is_symlink() else None)


def read_list(stream: IO[bytes]) -> Iterator[Path]:
    """The paths of a list, one a line, as they arrive; empty lines are passed over."""
    for line in stream:
        name = line.rstrip(b"\r\n")
        if name:
            yield Path(os.fsdecode(name))
