"""What a calibrator reads: logits or probabilities, labels and weights, validated once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.metrics.inputs import check_labels, checked_probabilities, largest_logits, to_labels, to_tensor
from labelsmooth.metrics.rows import widest

Array: TypeAlias = "npt.NDArray[np.generic] | torch.Tensor"
AnyArray = TypeVar("AnyArray", bound=Array)

_SHAPES = "(N, K) with K of at least 2, or (N,) for a binary problem"


def read_logits(
    logits: Array | None = None, probabilities: Array | None = None, *, first_row: int = 0, zero: float = 0.0
) -> tuple[torch.Tensor, torch.dtype]:
    """Validate logits or probabilities; return logits (N, K), float32 or float64, and the dtype that was given.

    `first_row` is the number of the first row in error messages; `zero` is what :func:`zero_of` returns for the
    probabilities that a calibrator was fitted on.
    """
    if (logits is None) == (probabilities is None):
        raise ValueError("Give either logits or probabilities=, and not both.")
    name = "logits" if probabilities is None else "probabilities"
    scores = to_tensor(logits if probabilities is None else probabilities, name).detach()
    if not scores.is_floating_point():
        raise TypeError(f"{name} must be floating point, not {scores.dtype}.")
    dtype = scores.dtype
    if scores.ndim not in (1, 2) or (scores.ndim == 2 and scores.shape[1] < 2):
        raise ValueError(f"{name} have shape {tuple(scores.shape)}; expected {_SHAPES}.")
    if scores.shape[0] == 0:
        raise ValueError(f"{name} are empty.")
    rows = range(first_row, first_row + len(scores))
    return _checked_logits(scores, rows) if probabilities is None else _log_probabilities(scores, rows, zero), dtype


def zero_of(probabilities: Array | None) -> float:
    """What a probability of 0 is read as: a tenth of the smallest other one below 1/2; 0.0 where there is none.

    Probabilities that are rounded to 2 or 3 decimals hold many zeros.  Read as the smallest number of the dtype, whose
    logarithm is -708, these alone would determine a calibrator.
    """
    if probabilities is None:
        return 0.0
    p = to_tensor(probabilities, "probabilities").detach()
    if not p.is_floating_point():
        return 0.0  # refused where the probabilities are read
    low = torch.minimum(p, 1.0 - p) if p.ndim == 1 else p
    low = low[(low > 0) & (low < 0.5)]
    return float(low.min()) / 10 if len(low) else 0.0


def read_training(
    logits: Array | None,
    labels: Array | None,
    sample_weight: Array | None = None,
    probabilities: Array | None = None,
    zero: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Validate a calibrator's training data: logits (N, K), labels (N,) and weights (N,) or None."""
    z, _ = read_logits(logits, probabilities, zero=zero)
    if labels is None:
        raise TypeError("labels are missing: a calibrator is fitted on scores and labels.")
    y = to_labels(labels, z.device)
    _check_labels(y, z)
    return z, y, None if sample_weight is None else _check_weight(sample_weight, y)


def random_parts(rows: int, count: int = 5, seed: int | Sequence[int] = 0) -> list[npt.NDArray[np.bool_]]:
    """For each of so many random parts of like size, which rows are in it, (N,)."""
    part = np.random.default_rng(seed).permutation(np.arange(rows) % count)
    return [part == k for k in range(count)]


def softmax(z: torch.Tensor) -> torch.Tensor:
    """The probabilities of logits (N, K), in float64 where the device has it."""
    return torch.softmax(z.to(widest(z)), dim=1)


def _checked_logits(z: torch.Tensor, rows: range) -> torch.Tensor:
    z = _wide(z)
    top = largest_logits(z, rows)
    if float(top.max()) <= 1.0 and _are_probabilities(z):
        range_of = "every value lies" if z.ndim == 1 else "every row sums to 1 and lies"
        raise ValueError(
            f"logits: {range_of} in [0, 1], as for probabilities. Pass probabilities as probabilities=; read as "
            "logits they would be almost uniform predictions."
        )
    return z if z.ndim == 2 else torch.stack([torch.zeros_like(z), z], dim=1)


def _are_probabilities(z: torch.Tensor) -> bool:
    if not bool((z >= 0).all()):
        return False
    if z.ndim == 1:
        # A few logits may lie in [0, 1] by chance, and logits of almost equal size may do so all together.
        return len(z) >= 10 and float(z.max() - z.min()) > 0.5
    # One row of logits may sum to 0.999 by chance; ten do not.
    tolerance = 1e-3 if len(z) >= 10 else 1e-5
    return bool(((z.sum(dim=1) - 1.0).abs() <= tolerance).all())


def _log_probabilities(p: torch.Tensor, rows: range, zero: float) -> torch.Tensor:
    """ln p (N, K); a 0 is read as `zero`, or a tenth of the row's smallest other if less."""
    p = _wide(checked_probabilities(p, rows, binary=p.ndim == 1))
    if p.ndim == 1:
        p = torch.stack([1.0 - p, p], dim=1).clamp_(0.0, 1.0)
    smallest = torch.finfo(p.dtype).tiny
    zeros = p < smallest
    count = int(zeros.sum())
    if count:
        reason = "a tenth of the smallest other probability that the calibrator was fitted on"
        if zero <= smallest:
            zero, reason = smallest, f"the smallest normal number of {str(p.dtype).removeprefix('torch.')}"
        others = p.masked_fill(zeros, 1.0).amin(dim=1, keepdim=True)
        p = torch.where(zeros, (others / 10).clamp(max=zero), p)
        warnings.warn(
            f"{count} of {p.numel()} probabilities are 0; they are read as {zero:.3g}, {reason}.",
            UserWarning,
            stacklevel=4,
        )
    return p.clamp(min=smallest).log_()


def _check_labels(y: torch.Tensor, z: torch.Tensor) -> None:
    if y.shape != z.shape[:1]:
        raise ValueError(f"labels have shape {tuple(y.shape)}; {z.shape[0]} rows of scores need ({z.shape[0]},).")
    check_labels(y, range(len(y)), z.shape[1])
    of_label = z.gather(1, y[:, None])[:, 0]
    if bool(of_label.min().isneginf()):
        i = int(of_label.isneginf().nonzero()[0, 0])
        raise ValueError(
            f"labels: row {i} is class {int(y[i])}, whose logit is -inf: its probability stays 0. If the logits "
            "are logarithms of probabilities, pass the probabilities as probabilities=, which clips zeros."
        )


def _check_weight(sample_weight: Array, y: torch.Tensor) -> torch.Tensor:
    w = to_tensor(sample_weight, "sample_weight").to(y.device)
    w = w.to(widest(w))
    if w.shape != y.shape:
        raise ValueError(f"sample_weight has shape {tuple(w.shape)}; {len(y)} rows need ({len(y)},).")
    bad = ~(torch.isfinite(w) & (w >= 0))
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"sample_weight: row {i} is {float(w[i])}; weights must be finite and at least 0.")
    used = int((w > 0).sum())
    if not used:
        raise ValueError("sample_weight is 0 in every row: there is nothing to fit.")
    if float(w.sum()) < 0.1 * used:
        warnings.warn(
            f"sample_weight sums to {float(w.sum()):.3g} over {used} rows. Weights count as repetitions of a row, so "
            f"the fit sees that many rows; scale the weights to a mean of 1 if they are only relative.",
            UserWarning,
            stacklevel=4,
        )
    return w


def _wide(scores: torch.Tensor) -> torch.Tensor:
    """In float32 or float64."""
    return scores if scores.dtype == torch.float64 else scores.float()
