"""What every metric reads: probabilities or logits beside labels, checked once, one row per prediction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Array: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
Floats: TypeAlias = "npt.NDArray[np.float64]"
Integers: TypeAlias = "npt.NDArray[np.int64]"
Value: TypeAlias = Any
"""A Python float where NumPy arrays came in, a zero-dimensional tensor where tensors came in."""

# A row of float32 softmax sums to 1 within about 1e-6; numbers printed with four decimals do so within 1e-3 for
# a few dozen classes. Half-precision rows are off by up to a percent.
_SUM_TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 2e-2}


class Rows(Protocol):
    """What top-label metrics see of predictions: vectors [M], and the example that each row is of.

    `weight` [M] says how many predictions a row stands for; None where each is itself.
    """

    @property
    def confidence(self) -> Floats: ...
    @property
    def correct(self) -> Floats: ...
    @property
    def nll(self) -> Floats: ...
    @property
    def squared_error(self) -> Floats: ...
    @property
    def rows(self) -> int: ...
    @property
    def example(self) -> Integers | None: ...
    @property
    def examples(self) -> int: ...
    @property
    def weight(self) -> Floats | None: ...


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

    @property
    def _top(self) -> torch.Tensor:
        return self._largest[1]

    @cached_property
    def _partition(self) -> torch.Tensor:
        """Σ_k exp(z_k - max z) of each row of logits, added up in the widest type: its distance from 1 is the doubt."""
        z = self.scores
        return (z - self._largest[0][:, None]).exp_().sum(dim=1, dtype=_widest(z))

    @cached_property
    def confidence(self) -> Floats:
        """The probability of the predicted class, [M]; from float32 logits it does not saturate at 1 - 6e-8."""
        if self.are_logits:
            return _float64(1.0 / self._partition)
        return _float64(self._largest[0])

    @cached_property
    def correct(self) -> Floats:
        """1.0 where the predicted class is the label, [M]."""
        right: Floats = (_numpy(self._top) == _numpy(self.labels)).astype(np.float64)
        return right

    @cached_property
    def nll(self) -> Floats:
        """-ln of the label's probability, [M]; from logits it is finite however small that probability is."""
        of_label = _picked(self.scores, self.labels)
        if not self.are_logits:
            with np.errstate(divide="ignore"):
                return -np.log(of_label)
        value: Floats = _float64(self._partition.log()) + (_float64(self._largest[0]) - of_label)
        return value

    @cached_property
    def squared_error(self) -> Floats:
        """Σ_k (p_k - y_k)² of each row, [M]; (p - y)², which is half of that, for binary input."""
        p = self.probabilities
        square = _float64(torch.linalg.vector_norm(p, dim=1, dtype=_widest(p))) ** 2
        label = _picked(p, self.labels)
        # The label's own square is taken out first: 1 - 2p + p² would cancel for a confident right answer.
        value: Floats = np.maximum(square - label**2, 0.0) + (1.0 - label) ** 2
        return value / 2.0 if self.binary else value

    def of_class(self, k: int) -> tuple[Floats, Floats]:
        """The probability of class k and whether the label is k, both [M]."""
        return _float64(self.probabilities[:, k]), _float64(self.labels == k)

    def out(self, value: float) -> Value:
        """The value in the kind that came in."""
        if not isinstance(self.like, torch.Tensor):
            return float(value)
        dtype = torch.float32 if self.like.device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.like.device)


def read(
    probabilities: Array | None,
    labels: Array | None,
    logits: Array | None = None,
    ignore_index: int | None = None,
    first_row: int = 0,
) -> Predictions:
    """Check predictions and labels, once, and return them as rows; every metric starts here.

    `first_row` is what the first row is called in errors: a chunk of a file has its rows' own numbers.
    """
    if (probabilities is None) == (logits is None):
        raise ValueError("Give either probabilities or logits=, and not both: they are never guessed from their range.")
    if labels is None:
        raise ValueError("labels are missing: give one integer class per prediction.")
    name = "logits" if probabilities is None else "probabilities"
    given = logits if probabilities is None else probabilities
    assert given is not None
    scores, classes = _tensor(given, name), _tensor(labels, "labels").to(_tensor(given, name).device)
    if not scores.is_floating_point():
        raise TypeError(f"{name} must be floating point, not {scores.dtype}.")
    if classes.is_floating_point() or classes.is_complex():
        raise TypeError(f"labels must be integers, not {classes.dtype}; convert them, for example labels.astype(int).")
    classes = classes.long()
    scores = scores.detach()
    if scores.dtype in (torch.float16, torch.bfloat16) and name == "logits":
        scores = scores.float()

    binary = scores.shape == classes.shape and scores.ndim >= 1
    if not binary and (scores.ndim < 2 or classes.shape != scores.shape[:1] + scores.shape[2:]):
        raise ValueError(
            f"{name} of shape {tuple(scores.shape)} do not go with labels of shape {tuple(classes.shape)}: "
            "expected (N, K) with (N,), (N, K, d1, ...) with (N, d1, ...), or equal shapes for yes-or-no questions."
        )
    if classes.numel() == 0:
        raise ValueError(f"{name} are empty: there is nothing to measure.")
    examples = scores.shape[0]
    per_example = classes.numel() // examples
    example = None if per_example == 1 else np.repeat(np.arange(examples), per_example)
    if binary:
        scores = scores.reshape(-1)
    elif scores.ndim > 2:
        scores = scores.movedim(1, -1).reshape(-1, scores.shape[1])
    classes = classes.reshape(-1)
    row = _RowNames(first_row)

    if ignore_index is not None:
        keep = classes != ignore_index
        if not bool(keep.all()):
            scores, classes = scores[keep], classes[keep]
            kept = _numpy(keep)
            row = _RowNames(first_row, np.flatnonzero(kept))
            # Without dense positions an ignored row is an example less; with them it is a position less.
            example = None if example is None else example[kept]
            examples = int(kept.sum()) if example is None else examples
        if classes.numel() == 0:
            raise ValueError(f"Every label is ignore_index={ignore_index}: there is nothing to measure.")
    count = 2 if binary else scores.shape[1]
    if count < 2:
        raise ValueError(
            f"{name} have K = {count} class; at least 2 are needed, or the shape of the labels for a binary question."
        )
    if name == "probabilities":
        _check_probabilities(scores, row, binary)
    else:
        _check_logits(scores, row)
    _check_labels(classes, row, count, ignore_index)
    if binary:
        one = scores.to(_widest(scores))
        scores = torch.stack([torch.zeros_like(one) if name == "logits" else 1.0 - one, one], dim=1)
    return Predictions(scores, name == "logits", classes, binary, example, examples, given)


@dataclass(frozen=True)
class _RowNames:
    """What the rows are called in errors: counted from `first`, of all positions before some were left out."""

    first: int
    kept: Integers | None = None

    def __getitem__(self, i: int) -> int:
        return self.first + (i if self.kept is None else int(self.kept[i]))


def _check_probabilities(p: torch.Tensor, row: _RowNames, binary: bool) -> None:
    hint = "If these are logits, pass them as logits=."
    if _plain(p):  # all is well, nearly always: one look without temporaries
        array = p.numpy()
        # NaN fails every comparison, and what is not negative and sums to 1 is not above 1.
        sums = array if binary else np.einsum("ij->i", array)
        least = 0.0 if binary else 1.0 - 1e-3
        if array.min() >= 0 and sums.max() <= 1.0 + 1e-3 and sums.min() >= least:
            return
    bad = ~((p >= 0) & (p <= 1.0 + 1e-3))
    if bool(bad.any()):
        at = tuple(int(i) for i in bad.nonzero()[0])
        where = f"row {row[at[0]]}" + (f", class {at[1]}" if len(at) > 1 else "")
        raise ValueError(f"probabilities: {where} is {float(p[at]):g}, outside [0, 1]. {hint}")
    if not binary:
        row_sums = p.sum(dim=1, dtype=_widest(p))
        tolerance = _SUM_TOLERANCE.get(p.dtype, 1e-3)
        off = (row_sums - 1.0).abs() > tolerance
        if bool(off.any()):
            i = int(off.nonzero()[0, 0])
            raise ValueError(
                f"probabilities: row {row[i]} sums to {float(row_sums[i]):.6g}, not 1 (± {tolerance:g}). {hint}"
            )


def _check_logits(z: torch.Tensor, row: _RowNames) -> None:
    # -inf is a masked class and fine; NaN and +inf carry through the maximum, and so does a row of nothing but -inf.
    top = z if z.ndim == 1 else z.amax(dim=1)
    bad = ~torch.isfinite(top)
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"logits: row {row[i]} has the maximum {float(top[i])}; NaN and inf are not logits.")


def _check_labels(labels: torch.Tensor, row: _RowNames, classes: int, ignore_index: int | None) -> None:
    if labels.device.type == "cpu" and labels.numpy().min() >= 0 and labels.numpy().max() < classes:
        return
    bad = (labels < 0) | (labels >= classes)
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        ignored = "" if ignore_index is not None else " Positions to leave out are marked with ignore_index=."
        raise ValueError(
            f"labels: row {row[i]} is {int(labels[i])}, outside 0 to {classes - 1} for {classes} classes.{ignored}"
        )


def _tensor(array: Any, name: str) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    value = np.asarray(array)
    if value.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a NumPy array or a tensor of numbers, not {value.dtype}.")
    if value.dtype.kind == "u":
        value = value.astype(np.int64)
    if not value.flags.writeable or not value.dtype.isnative or any(s < 0 for s in value.strides):
        value = value.astype(value.dtype.newbyteorder("="), copy=True)
    return torch.from_numpy(value)


def _plain(tensor: torch.Tensor) -> bool:
    """Whether NumPy can read the tensor as it is.

    Sums and single columns are as fast there, and do not wait for PyTorch's threads where others hold the cores.
    """
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def _picked(scores: torch.Tensor, column: torch.Tensor) -> Floats:
    """One column of each row, [M]."""
    if _plain(scores):
        picked: Floats = scores.numpy()[np.arange(len(column)), column.numpy()].astype(np.float64)
        return picked
    return _float64(scores.gather(1, column[:, None])[:, 0])


def _numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _float64(tensor: torch.Tensor) -> Floats:
    return tensor.detach().cpu().double().numpy()


def _widest(tensor: torch.Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64
