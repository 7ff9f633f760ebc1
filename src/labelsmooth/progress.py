"""Progress callbacks of everything that takes long: reading images, training, studies, predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Progress:
    """Callbacks that do nothing; override those that you want to show.

    Example:
        >>> class Lines(Progress):
        ...     def epoch(self, done: int, total: int, worker: int = 0) -> None:
        ...         print(f"epoch {done} of {total}")
        >>> Lines().epoch(3, 4)
        epoch 3 of 4
    """

    def photos(self, done: int, total: int) -> None:
        """Images decoded so far."""

    def predictions(self, done: int, total: int) -> None:
        """Images that the network has been run on so far."""

    def data(self, remarks: Sequence[str]) -> None:
        """The data set is read; ``remarks`` says what was left out and what else the user should know."""

    def plan(self, total: int, finished: int) -> None:
        """The number of runs of a study, and how many of them were finished before."""

    def run(self, title: str, seed: int, worker: int = 0, epochs: int = 1) -> None:
        """A training run of so many epochs begins, in one of several worker processes."""

    def epoch(self, done: int, total: int, worker: int = 0) -> None:
        """Epochs done in a worker's current run."""

    def batch(self, done: int, total: int, worker: int = 0) -> None:
        """Batches done in the epoch that is being trained in this process."""

    def scores(self, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        """The scores after an epoch of a training in this process.

        Args:
            epoch, epochs: epochs done, and all of them.
            values: ``train_loss`` and ``train_nll``; and, with a validation part, ``validation_nll``,
                ``validation_error`` and ``validation_ece``.
        """

    def run_done(self) -> None:
        """A run is finished and saved."""
