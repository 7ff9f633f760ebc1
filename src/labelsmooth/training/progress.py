"""Who wants to hear how a study goes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Progress"]


class Progress:
    """Hears how a study goes; this one says nothing."""

    def photos(self, done: int, total: int) -> None:
        """Photos decoded so far."""

    def data(self, remarks: Sequence[str]) -> None:
        """The data is read: what was left out, and what else there is to know, in sentences."""

    def plan(self, total: int, finished: int) -> None:
        """How many runs there are, and how many of them were finished before."""

    def run(self, title: str, seed: int, worker: int = 0) -> None:
        """A run begins.  Of several at once, each has a number, from 0."""

    def epoch(self, done: int, total: int, worker: int = 0) -> None:
        """Epochs done in a worker's current run."""

    def run_done(self) -> None:
        """A run is finished and kept."""
