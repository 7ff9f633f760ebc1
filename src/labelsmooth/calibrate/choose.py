"""The best calibrator by cross-validated NLL, and none at all where none is surely better."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .base import Calibrator, Identity
from .catalogue import CATALOGUE, Name, check_name
from .inputs import Array, read_training

Floats = npt.NDArray[np.float64]

_DEFAULT: tuple[Name, ...] = ("temperature", "ensemble", "platt", "beta", "vector")


@dataclass(frozen=True)
class Choice:
    """What `best` found: the calibrator, fitted on everything; per method its held-out NLL, gain and standard error.

    The gain is the NLL of doing nothing minus the method's, over the same held-out rows; `reason` says in a sentence
    why this one was chosen.
    """

    calibrator: Calibrator
    name: str
    nll: dict[str, float]
    gain: dict[str, float]
    standard_error: dict[str, float]
    reason: str


def best(
    logits: Array,
    labels: Array,
    candidates: Mapping[str, Calibrator] | Sequence[Name] = _DEFAULT,
    *,
    folds: int = 5,
    seed: int = 0,
    sample_weight: Array | None = None,
) -> Choice:
    """Choose a calibrator by cross-validated negative log-likelihood, refusing to make things worse.

    Every row is predicted by a calibrator that was fitted without it. The least NLL wins, unless an earlier (simpler)
    candidate is within one standard error of it; and the winner must beat doing nothing by one standard error of the
    paired difference, or the answer is :class:`Identity`.

    Args:
        logits: (N, K), or (N,) for a binary question.
        labels: (N,), integers in 0 ... K-1.
        candidates: names in `CATALOGUE`, simplest first, or a mapping from names to unfitted calibrators.
        folds: parts of the cross-validation, 2 ... N.
        seed: of the random parts.
        sample_weight: (N,), at least 0.

    Returns:
        A :class:`Choice`; its ``calibrator`` is fitted on all the rows.

    Raises:
        ValueError: for unknown names, too many folds or bad inputs.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(4_000, 5))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> best(4 * z, y).name, best(z, y).name
        ('temperature', 'identity')

    Source: the one-standard-error rule: Breiman et al. (1984).
    """
    z, y, w = read_training(logits, labels, sample_weight)
    tried = _candidates(candidates)
    if not 2 <= folds <= len(y):
        raise ValueError(f"folds must be between 2 and the number of rows, {len(y)}, not {folds}.")
    part = np.random.default_rng(seed).permutation(np.arange(len(y)) % folds)
    weight = torch.ones(len(y), dtype=torch.float64) if w is None else w.cpu().double()
    share = (weight / weight.sum()).numpy()
    plain = _row_nll(Identity().fit(z, y).transform(z), y)
    nll, gain, spread = {"identity": float(share @ plain)}, {"identity": 0.0}, {"identity": 0.0}
    rows = {"identity": plain}
    for name, calibrator in tried.items():
        rows[name] = _held_out(calibrator, z, y, w, part, folds)
        nll[name] = float(share @ rows[name])
        gain[name], spread[name] = _gain(plain, rows[name], share)
    leader = min(tried, key=lambda name: nll[name])
    name = leader
    for simpler in tried:
        if simpler == leader:
            break
        # An infinite NLL (a probability of 0 for a label) is never within anything.
        behind, error = _gain(rows[simpler], rows[leader], share)
        if behind <= error:
            name = simpler
            break
    if not gain[name] > spread[name]:
        reason = (
            f"No method is surely better than leaving the logits alone: the best, {leader}, gains "
            f"{gain[leader]:.4f} ± {spread[leader]:.4f} nats."
        )
        return Choice(Identity().fit(z, y), "identity", nll, gain, spread, reason)
    reason = f"{name} gains {gain[name]:.4f} ± {spread[name]:.4f} nats on rows that it was not fitted on."
    if name != leader:
        reason += f" {leader} is no better by more than a standard error, and less simple."
    return Choice(copy.deepcopy(tried[name]).fit(z, y, w), name, nll, gain, spread, reason)


def _candidates(candidates: Mapping[str, Calibrator] | Sequence[Name]) -> dict[str, Calibrator]:
    if isinstance(candidates, Mapping):
        tried = dict(candidates)
    else:
        names = (candidates,) if isinstance(candidates, str) else candidates
        tried = {name: CATALOGUE[check_name(name)].make() for name in names}
    tried.pop("identity", None)
    if not tried:
        raise ValueError("candidates are empty: name at least one method besides the identity.")
    return tried


def _held_out(
    calibrator: Calibrator,
    z: torch.Tensor,
    y: torch.Tensor,
    w: torch.Tensor | None,
    part: npt.NDArray[np.int64],
    folds: int,
) -> Floats:
    """The NLL of each row under a calibrator fitted on the other parts."""
    fold = torch.as_tensor(part, device=z.device)
    rows = np.empty(len(y))
    for j in range(folds):
        seen, held = fold != j, fold == j
        fitted = copy.deepcopy(calibrator).fit(z[seen], y[seen], None if w is None else w[seen])
        rows[held.cpu().numpy()] = _row_nll(fitted.transform(z[held]), y[held])
    return rows


def _row_nll(z: torch.Tensor, y: torch.Tensor) -> Floats:
    wide = z if z.device.type == "mps" else z.double()
    losses = torch.nn.functional.cross_entropy(wide, y, reduction="none")
    return losses.detach().cpu().double().numpy()


def _gain(
    reference: Floats,
    other: Floats,
    share: Floats,
) -> tuple[float, float]:
    """Weighted mean of reference - other, and its standard error."""
    if not np.isfinite(other).all():
        return -np.inf, 0.0
    if not np.isfinite(reference).all():
        return np.inf, 0.0
    difference = reference - other
    mean = float(share @ difference)
    return mean, float(np.sqrt(share**2 @ (difference - mean) ** 2))
