"""The one exception of a study: a sentence for the user, with the remedy in it."""

from __future__ import annotations

__all__ = ["StudyError"]


class StudyError(Exception):
    """Something the user can put right: the data, a name, a path, the disk.  The message says what and how."""
