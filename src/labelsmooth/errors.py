"""The error that every command prints as one sentence; names that are safe to print, and counts with their noun."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can correct: an argument, a file, the data, the disk.  The message says what and how."""


def shown(name: str) -> str:
    r"""A name for a terminal or a page: line breaks, control characters and undecodable bytes become escapes.

    Example:
        >>> print(shown("ein\nBär\x1b[1m"))
        ein\nBär\x1b[1m
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def plural(count: int, noun: str) -> str:
    """A count and its noun: 1 seed, 1,234 rows."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
