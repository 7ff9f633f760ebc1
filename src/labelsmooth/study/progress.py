"""Who wants to hear how a study goes."""

from __future__ import annotations

__all__ = ["Progress"]


class Progress:
    """Hears how a study goes; this one says nothing."""

    def photos(self, done: int, total: int) -> None:
        """Photos decoded so far."""

    def plan(self, total: int, finished: int) -> None:
        """How many runs there are, and how many of them were finished before."""

    def run(self, title: str, seed: int) -> None:
        """A run begins."""

    def epoch(self, done: int, total: int) -> None:
        """Epochs done in the current run."""

    def run_done(self) -> None:
        """The current run is finished and kept."""
