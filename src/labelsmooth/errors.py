"""The error that every command prints as one sentence."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(ValueError):
    """Something the user can correct: an argument, a file, the data, the disk.  The message says what and how."""
