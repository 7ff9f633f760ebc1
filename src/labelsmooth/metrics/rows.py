"""Validated predictions, one row each: what every metric reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

NumPy: TypeAlias = "npt.NDArray[np.floating[Any]]"
Array: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
Floats: TypeAlias = "npt.NDArray[np.float64]"
Integers: TypeAlias = "npt.NDArray[np.int64]"
Value: TypeAlias = "float | torch.Tensor"
"""A Python float for NumPy input, a zero-dimensional tensor for tensors."""

# Rows at which errors are added in an interval: enough that no single one of them matters.
POOL = 200


Rows: TypeAlias = "Predictions | Reduced"
"""What top-label metrics read: vectors [M] of confidence, correct, nll and squared_error, and the example of each row.

`weight` [M] is the number of predictions that a row stands for; None where each is itself.
"""


@dataclass(frozen=True)
class Predictions:
    """Checked predictions, one row each: scores [M, K], labels [M], and the example that each row is of.

    Dense inputs (N, K, d1, ...) are flattened, ignored positions dropped; `example` then says which of the N
    examples a row came from (None where rows and examples are the same thing).
    """

    scores: torch.Tensor
    are_logits: bool
    labels: torch.Tensor
    binary: bool
    example: Integers | None
    examples: int
    like: Array

    @property
    def rows(self) -> int:
        return self.scores.shape[0]

    @property
    def classes(self) -> int:
        return self.scores.shape[1]

    @property
    def weight(self) -> None:
        return None

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """[M, K], in the precision that came in."""
        return torch.softmax(self.scores, dim=1) if self.are_logits else self.scores

    @cached_property
    def _largest(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The largest score of each row and its class: the lowest among equals, as in NumPy and scikit-learn."""
        value, index = self.scores.max(dim=1)
        return value, index

    @cached_property
    def _partition(self) -> torch.Tensor:
        """Σ_k exp(z_k - max z) of each row of logits, added up in the widest type: its distance from 1 is the doubt."""
        z = self.scores
        return (z - self._largest[0][:, None]).exp_().sum(dim=1, dtype=widest(z))

    @cached_property
    def confidence(self) -> Floats:
        """The probability of the predicted class, [M]; from float32 logits it does not saturate at 1 - 6e-8."""
        if self.are_logits:
            return float64(1.0 / self._partition)
        return float64(self._largest[0])

    @cached_property
    def predicted(self) -> Integers:
        """The most probable class, [M]."""
        return np.asarray(to_numpy(self._largest[1]), dtype=np.int64)

    @cached_property
    def correct(self) -> Floats:
        """1.0 where the predicted class is the label, [M]."""
        right: Floats = (self.predicted == to_numpy(self.labels)).astype(np.float64)
        return right

    @cached_property
    def nll(self) -> Floats:
        """-ln of the label's probability, [M]; from logits it is finite however small that probability is."""
        of_label = _picked(self.scores, self.labels)
        if not self.are_logits:
            with np.errstate(divide="ignore"):
                return -np.log(of_label)
        value: Floats = float64(self._partition.log()) + (float64(self._largest[0]) - of_label)
        return value

    @cached_property
    def squared_error(self) -> Floats:
        """Σ_k (p_k - y_k)² of each row, [M]; (p - y)², which is half of that, for binary input."""
        p = self.probabilities
        square = float64(torch.linalg.vector_norm(p, dim=1, dtype=widest(p))) ** 2
        label = _picked(p, self.labels)
        # The label's own square is taken out first: 1 - 2p + p² would cancel for a confident right answer.
        value: Floats = np.maximum(square - label**2, 0.0) + (1.0 - label) ** 2
        return value / 2.0 if self.binary else value

    def of_class(self, k: int) -> tuple[Floats, Floats]:
        """The probability of class k and whether the label is k, both [M]."""
        return float64(self.probabilities[:, k]), float64(self.labels == k)

    def out(self, value: float) -> Value:
        """The value in the kind that came in."""
        if not isinstance(self.like, torch.Tensor):
            return float(value)
        dtype = torch.float32 if self.like.device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.like.device)


@dataclass(frozen=True)
class Reduced:
    """Predictions reduced to what top-label metrics need, 32 bytes a row whatever K: chunks of a file add up here.

    With a `weight` a row stands for that many predictions; `order` is the score that ranks them, if not the confidence.
    """

    confidence: Floats
    correct: Floats
    nll: Floats
    squared_error: Floats
    weight: Floats | None = None
    example: Integers | None = None
    order: Floats | None = None

    @classmethod
    def join(cls, chunks: Iterable[Rows]) -> Reduced:
        """The rows of several chunks, one after the other; a row is an example."""
        parts = [(c.confidence, c.correct, c.nll, c.squared_error) for c in chunks]
        if not parts:
            raise ValueError("There are no predictions: nothing to measure.")
        return cls(*[np.concatenate(columns) for columns in zip(*parts, strict=True)])

    @property
    def rows(self) -> int:
        return int(self.confidence.shape[0])

    @property
    def examples(self) -> int:
        if self.example is not None:
            return int(self.example.max()) + 1
        return self.rows if self.weight is None else round(float(self.weight.sum()))

    def select(self, which: np.ndarray[tuple[int], np.dtype[np.bool_]] | slice) -> Reduced:
        """Some of the rows."""
        weight = None if self.weight is None else self.weight[which]
        return Reduced(self.confidence[which], self.correct[which], self.nll[which], self.squared_error[which], weight)


@dataclass(frozen=True)
class ByClass:
    """A question for each class: is it this one? Each has rows of its own."""

    questions: tuple[Reduced, ...]


def with_errors(rows: Rows, rng: np.random.Generator) -> Reduced:
    """The rows and, after them, up to 200 copies of right rows that are wrong.

    Half of the copies are of rows drawn in proportion to 1 - confidence, where the model itself expects errors; the
    other half of rows drawn evenly.  The label of a copy gets the share of 1 - confidence that the labels of the wrong
    rows have (with one row at 1/2 added).
    """
    ones = np.ones(rows.rows) if rows.weight is None else rows.weight
    right, doubt = ones * rows.correct, np.clip(1.0 - rows.confidence, 1e-12, 1.0)
    if not right.any():
        right = ones
    expected = right * doubt
    at = np.concatenate([rng.choice(rows.rows, POOL // 2, p=chance / chance.sum()) for chance in (expected, right)])
    wrong = ones * (1.0 - rows.correct)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(wrong > 0, np.minimum(rows.nll, 700.0) + np.log(doubt), 0.0)
    log_share = -max((float((wrong * excess).sum()) + np.log(2.0)) / (float(wrong.sum()) + 1.0), 0.0)
    of_label = doubt[at] * np.exp(log_share)
    squared = rows.confidence[at] ** 2 + (1.0 - of_label) ** 2
    seen = rows.correct > 0
    if np.allclose(rows.squared_error[seen], (1.0 - rows.confidence[seen]) ** 2, rtol=0.0, atol=1e-9):
        squared = squared / 2.0  # of a binary question, the Brier score counts one of the two classes
    order = rows.order if isinstance(rows, Reduced) else None

    def extended(values: Floats, added: Floats) -> Floats:
        return np.concatenate([values, added])

    return Reduced(
        extended(rows.confidence, rows.confidence[at]),
        extended(rows.correct, np.zeros(POOL)),
        extended(rows.nll, -np.log(of_label)),
        extended(rows.squared_error, squared),
        order=None if order is None else extended(order, order[at]),
    )


def plain(tensor: torch.Tensor) -> bool:
    """Whether NumPy can read the tensor as it is.

    Sums and single columns are as fast there, and do not wait for PyTorch's threads where others hold the cores.
    """
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def _picked(scores: torch.Tensor, column: torch.Tensor) -> Floats:
    """One column of each row, [M]."""
    if plain(scores):
        picked: Floats = scores.numpy()[np.arange(len(column)), column.numpy()].astype(np.float64)
        return picked
    return float64(scores.gather(1, column[:, None])[:, 0])


def to_numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def float64(tensor: torch.Tensor) -> Floats:
    return tensor.detach().cpu().double().numpy()


def widest(tensor: torch.Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64
