"""What every metric reads: probabilities or logits beside labels, checked once, one row per prediction."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from labelsmooth.metrics.rows import Array, Integers, Predictions, plain, to_numpy, widest

# A row of float32 softmax sums to 1 within about 1e-6. Half-precision rows are off by up to a percent, and rows of
# K numbers rounded to d decimals by up to K / 2 · 10^-d.
_SUM_TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 2e-2}
_DECIMALS = range(2, 7)


def read(
    probabilities: Array | None,
    labels: Array | None,
    logits: Array | None = None,
    ignore_index: int | None = None,
    first_row: int = 0,
) -> Predictions:
    """Check predictions and labels, once, and return them as rows; every metric starts here.

    `first_row` is the number of the first row in error messages, for a chunk of a larger file.
    """
    if (probabilities is None) == (logits is None):
        raise ValueError("Give either probabilities or logits=, and not both: they are never guessed from their range.")
    if labels is None:
        raise ValueError("labels are missing: give one integer class per prediction.")
    name = "logits" if probabilities is None else "probabilities"
    given = logits if probabilities is None else probabilities
    assert given is not None
    scores = to_tensor(given, name).detach()
    if not scores.is_floating_point():
        raise TypeError(f"{name} must be floating point, not {scores.dtype}.")
    classes = to_labels(labels, scores.device)
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
    row: Sequence[int] | Integers = range(first_row, first_row + len(classes))

    if ignore_index is not None:
        keep = classes != ignore_index
        if not bool(keep.all()):
            scores, classes = scores[keep], classes[keep]
            kept = to_numpy(keep)
            row = first_row + np.flatnonzero(kept)
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
        scores = checked_probabilities(scores, row, binary)
    else:
        largest_logits(scores, row)
    hint = " Positions to leave out are marked with ignore_index=." if ignore_index is None else ""
    check_labels(classes, row, count, hint)
    if binary:
        one = scores.to(widest(scores))
        scores = torch.stack([torch.zeros_like(one) if name == "logits" else 1.0 - one, one], dim=1)
    return Predictions(scores, name == "logits", classes, binary, example, examples, given)


def read_scores(
    scores: Array, labels: Array, kind: str, ignore_index: int | None = None, first_row: int = 0
) -> Predictions:
    """:func:`read` of scores that are either "probabilities" or "logits"."""
    if kind not in ("probabilities", "logits"):
        raise ValueError(f"scores must be 'probabilities' or 'logits', not {kind!r}.")
    pair = (scores, None) if kind == "probabilities" else (None, scores)
    return read(pair[0], labels, pair[1], ignore_index, first_row)


def checked_probabilities(p: torch.Tensor, row: Sequence[int] | Integers, binary: bool) -> torch.Tensor:
    """The probabilities, their rows divided by their sums where they were rounded to a few decimals."""
    hint = "If these are logits, pass them as logits=."
    if plain(p):  # valid nearly always: one check without temporaries
        array = p.numpy()
        # NaN fails every comparison, and what is not negative and sums to 1 is not above 1.
        sums = array if binary else np.einsum("ij->i", array)
        least = 0.0 if binary else 1.0 - 1e-3
        if array.min() >= 0 and sums.max() <= 1.0 + 1e-3 and sums.min() >= least:
            return p
    bad = ~((p >= 0) & (p <= 1.0 + 1e-3))
    if bool(bad.any()):
        at = tuple(int(i) for i in bad.nonzero()[0])
        where = f"row {row[at[0]]}" + (f", class {at[1]}" if len(at) > 1 else "")
        raise ValueError(f"probabilities: {where} is {float(p[at]):g}, outside [0, 1]. {hint}")
    if binary:
        return p
    row_sums = p.sum(dim=1, dtype=widest(p))
    distance = (row_sums - 1.0).abs()
    tolerance = _SUM_TOLERANCE.get(p.dtype, 1e-3)
    if not bool((distance > tolerance).any()):
        return p
    decimals = _decimals(p)
    rounding = tolerance if decimals is None else max(tolerance, 0.5 * p.shape[1] * 10.0**-decimals)
    off = distance > rounding + 1e-6
    if bool(off.any()):
        i = int(off.nonzero()[0, 0])
        raise ValueError(
            f"probabilities: row {row[i]} sums to {float(row_sums[i]):.6g}, not 1 (± {rounding:g}). {hint}"
        )
    i = int(distance.argmax())
    warnings.warn(
        f"probabilities are rounded to {decimals} decimals (row {row[i]} sums to {float(row_sums[i]):.6g}): every row "
        "is divided by its sum.",
        stacklevel=4,
    )
    return (p / row_sums[:, None]).to(p.dtype)


def _decimals(p: torch.Tensor) -> int | None:
    """The number of decimals, from two to six, to which all values are rounded; None where they are not."""
    values = p.to(widest(p))
    for decimals in _DECIMALS:
        # float32 holds a rounded number to 6e-8.
        if bool(((values - values.round(decimals=decimals)).abs() <= 1e-7).all()):
            return decimals
    return None


def largest_logits(z: torch.Tensor, row: Sequence[int] | Integers) -> torch.Tensor:
    """The largest logit of each row, (N,); a ValueError where it is not finite, so also for a row of masked classes."""
    top = z if z.ndim == 1 else z.amax(dim=1)
    if not bool(torch.isfinite(top).all()):
        i = int((~torch.isfinite(top)).nonzero()[0, 0])
        raise ValueError(f"logits: row {row[i]} has the maximum {float(top[i])}; NaN and inf are not logits.")
    return top


def to_labels(labels: Any, device: torch.device) -> torch.Tensor:
    """Labels as int64 on a device; a TypeError where they are not integers."""
    classes = to_tensor(labels, "labels").to(device)
    if classes.is_floating_point() or classes.is_complex():
        raise TypeError(f"labels must be integers, not {classes.dtype}; convert them, for example labels.astype(int).")
    return classes.long()


def check_labels(labels: torch.Tensor, row: Sequence[int] | Integers, classes: int, hint: str = "") -> None:
    """Raise a ValueError unless the labels are in 0 ... K-1."""
    if labels.device.type == "cpu" and labels.numpy().min() >= 0 and labels.numpy().max() < classes:
        return
    bad = (labels < 0) | (labels >= classes)
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"labels: row {row[i]} is {int(labels[i])}, outside 0 to {classes - 1} for {classes} classes.{hint}"
        )


def to_tensor(array: Any, name: str) -> torch.Tensor:
    """A tensor of numbers; shares memory with a NumPy array where possible."""
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
