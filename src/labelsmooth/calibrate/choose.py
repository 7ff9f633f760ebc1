"""The choice among calibrators by cross-validated NLL, with no calibration where none helps."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.calibrate.base import Calibrator, Identity
from labelsmooth.calibrate.catalogue import CATALOGUE, Name, check_name
from labelsmooth.calibrate.inputs import Array, random_parts, read_training, zero_of
from labelsmooth.calibrate.mixtures import EnsembleTemperatureScaling
from labelsmooth.calibrate.temperature import PRIOR, TemperatureScaling
from labelsmooth.metrics.rows import Floats, float64, widest

CANDIDATES: tuple[Name, ...] = ("temperature", "ensemble", "platt", "beta", "svs", "sms")
"""The calibrators among which :func:`best` chooses by default."""
_MIN_ROWS, _MIN_ERRORS = 20, 5
# The 95% point of χ² with one degree of freedom, the likelihood ratio of a temperature on a calibrated model.
_SIGNIFICANT = 3.84
# The precision of ln T in the prior of a temperature that competes. It is chosen where these rows favour it, which
# exaggerates it, unless they reject T = 1 beyond doubt: at the 99.9% point of χ².
_PRIOR, _BEYOND_DOUBT = 32.0, 10.83
# Small samples are split several times: their parts differ more, and fits to them take little time.
_ROWS_OF_ALL_REPEATS, _MAX_REPEATS = 2000, 4


@dataclass(frozen=True, repr=False)
class Choice:
    """The chosen calibrator and how the candidates compare.

    Attributes:
        calibrator: fitted on all rows; name: its name among the candidates, or "identity".
        nll: of each candidate on rows that it was not fitted on.
        gain: the NLL of no calibration minus the candidate's on the same rows; standard_error: of the gain.
        left_out: the candidates that were not tried, each with the reason.
        reason: why it was chosen.
    """

    calibrator: Calibrator
    name: str
    nll: dict[str, float]
    gain: dict[str, float]
    standard_error: dict[str, float]
    left_out: dict[str, str]
    reason: str

    def __repr__(self) -> str:
        return f"Choice({self.name!r}, gain={self.gain[self.name]:.4f} ± {self.standard_error[self.name]:.4f} nats)"


def best(
    logits: Array | None = None,
    labels: Array | None = None,
    candidates: Mapping[str, Calibrator] | Sequence[Name] = CANDIDATES,
    *,
    probabilities: Array | None = None,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    sample_weight: Array | None = None,
) -> Choice:
    """Choose a calibrator by cross-validated negative log-likelihood (NLL), with no calibration where none helps.

    Each row is predicted by calibrators that were fitted without it.  Among the candidates, the one with the fewest
    parameters is taken whose NLL is within one standard error (of the paired difference) of the lowest; where that is
    no calibration at all, a temperature is still taken if the likelihood ratio rejects T = 1 at the 5% level, which is
    the more powerful test of the two.

    The temperature, alone or in the ensemble, has a stronger prior here than by itself (a standard deviation of 0.18
    for ln T) unless the likelihood ratio rejects T = 1 at the 0.1% level: it is chosen in the samples that happen to
    favour it, where it is exaggerated.

    A candidate is left out where the rows cannot determine it: with fewer than 20 rows; with fewer errors than it has
    parameters, and at least 5, counted as misclassified rows or as errors that the model's own probabilities expect,
    whichever is more; and one-vs-rest methods with too few rows of a class.  A fit that ends at a bound counts as no
    gain.

    Args:
        logits: (N, K), or (N,) for a binary problem.
        labels: (N,), integers in 0 ... K-1.
        candidates: names in `CATALOGUE`, or a mapping from names to unfitted calibrators, simplest first.
        probabilities: (N, K) or (N,), instead of logits.
        folds: parts of the cross-validation, 2 ... N.
        repeats: how many times the rows are split anew; by default 4 below 500 rows, falling to 1 at 2,000.
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
    zero = zero_of(probabilities)
    z, y, w = read_training(logits, labels, sample_weight, probabilities, zero)
    most = max(len(y), _MIN_ROWS)  # with fewer rows than that nothing is fitted
    if not 2 <= folds <= most:
        raise ValueError(f"folds must be between 2 and the number of rows, {most}, not {folds}.")
    if repeats is None:
        repeats = min(_MAX_REPEATS, max(1, _ROWS_OF_ALL_REPEATS // len(y)))
    elif repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}.")
    weight = np.ones(len(y)) if w is None else float64(w)
    share = weight / weight.sum()
    order, left_out = _determined(_candidates(candidates, z, y, w), z, y, weight)
    splits = [random_parts(len(y), folds, [seed, r]) for r in range(repeats)]
    rows = {"identity": _row_nll(z, y)}
    for name, calibrator in order.items():
        held_out = [_held_out(calibrator, z, y, w, parts, rows["identity"]) for parts in splits]
        rows[name] = np.mean(held_out, axis=0)
    nll = {name: float(share @ values) for name, values in rows.items()}
    gains = {name: _gain(rows["identity"], values, share) for name, values in rows.items()}
    leader = min(rows, key=lambda name: nll[name])
    # An infinite NLL (a probability of 0 for a label) is within no standard error.
    within = (name for name in rows if np.less_equal(*_gain(rows[name], rows[leader], share)))
    name = next(within)
    if name == "identity":
        name = next(
            (n for n, c in order.items() if isinstance(c, TemperatureScaling) and _ratio(c, z, y, w) > _SIGNIFICANT),
            name,
        )
    chosen = copy.deepcopy(order[name]).fit(z, y, w) if name in order else Identity().fit(z, y)
    chosen.zero_ = zero
    gain, error = {n: g for n, (g, _) in gains.items()}, {n: e for n, (_, e) in gains.items()}
    return Choice(chosen, name, nll, gain, error, left_out, _reason(name, leader, gains, left_out))


def _candidates(
    candidates: Mapping[str, Calibrator] | Sequence[Name], z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None
) -> dict[str, Calibrator]:
    if isinstance(candidates, Mapping):
        tried = dict(candidates)
    else:
        names = (candidates,) if isinstance(candidates, str) else candidates
        entries = sorted((CATALOGUE[check_name(name)] for name in names), key=lambda e: e.parameters(z.shape[1]))
        prior = PRIOR if _ratio(TemperatureScaling(), z, y, w) > _BEYOND_DOUBT else _PRIOR
        makers: dict[str, Calibrator] = {
            "temperature": TemperatureScaling(prior),
            "ensemble": EnsembleTemperatureScaling(prior),
        }
        tried = {entry.name: makers.get(entry.name) or entry.make() for entry in entries}
    tried.pop("identity", None)
    if not tried:
        raise ValueError("candidates are empty: name at least one method besides the identity.")
    return tried


def _determined(
    candidates: dict[str, Calibrator], z: torch.Tensor, y: torch.Tensor, weight: Floats
) -> tuple[dict[str, Calibrator], dict[str, str]]:
    """The candidates that the rows can determine, and why the others are left out."""
    rows, num_classes = int((weight > 0).sum()), z.shape[1]
    if rows < _MIN_ROWS:
        return {}, dict.fromkeys(candidates, f"{rows} rows; a calibrator needs at least {_MIN_ROWS}")
    p = float64(torch.softmax(z, dim=1).amax(dim=1))
    errors = float(weight @ (z.argmax(dim=1) != y).cpu().numpy())
    expected = float(weight @ (1.0 - p))
    parameters = {entry.make: entry.parameters(num_classes) for entry in CATALOGUE.values()}
    kept: dict[str, Calibrator] = {}
    left_out: dict[str, str] = {}
    for name, calibrator in candidates.items():
        count = parameters.get(type(calibrator), 0.0)
        needed = _MIN_ERRORS if np.isinf(count) else max(_MIN_ERRORS, count)
        problem = calibrator.too_few_rows(y, num_classes)
        if max(errors, expected) < needed:
            problem = (
                f"{errors:.3g} of {rows} rows are misclassified and the model's confidence expects {expected:.2g}; "
                f"at least {needed:.0f} are needed"
            )
        if problem:
            left_out[name] = problem
        else:
            kept[name] = calibrator
    return kept, left_out


def _held_out(
    calibrator: Calibrator,
    z: torch.Tensor,
    y: torch.Tensor,
    w: torch.Tensor | None,
    parts: Sequence[npt.NDArray[np.bool_]],
    plain: Floats,
) -> Floats:
    """The NLL of each row under a calibrator fitted on the other parts; `plain` where the fit ends at a bound."""
    rows = np.empty(len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of parts of the data; the fit to all of it warns
        for inside in parts:
            held = torch.as_tensor(inside, device=z.device)
            fitted = copy.deepcopy(calibrator).fit(z[~held], y[~held], None if w is None else w[~held])
            at_bound = getattr(fitted, "at_bound_", False)
            rows[inside] = plain[inside] if at_bound else _row_nll(fitted.transform(z[held]), y[held])
    return rows


def _ratio(calibrator: TemperatureScaling, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> float:
    """The likelihood ratio against T = 1; 0 for a fit that ends at a bound."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fitted = copy.deepcopy(calibrator).fit(z, y, w)
    weight = np.ones(len(y)) if w is None else float64(w)
    return 0.0 if fitted.at_bound_ else 2.0 * float(weight @ (_row_nll(z, y) - _row_nll(fitted.transform(z), y)))


def _row_nll(z: torch.Tensor, y: torch.Tensor) -> Floats:
    return float64(torch.nn.functional.cross_entropy(z.to(widest(z)), y, reduction="none"))


def _gain(reference: Floats, other: Floats, share: Floats) -> tuple[float, float]:
    """Weighted mean of reference - other, and its standard error."""
    if not np.isfinite(other).all():
        return -np.inf, 0.0
    if not np.isfinite(reference).all():
        return np.inf, 0.0
    difference = reference - other
    mean = float(share @ difference)
    return mean, float(np.sqrt(share**2 @ (difference - mean) ** 2))


def _reason(name: str, leader: str, gains: dict[str, tuple[float, float]], left_out: dict[str, str]) -> str:
    tried = [n for n in gains if n != "identity"]
    if not tried:
        why = next(iter(left_out.values()))
        return f"Too few rows or errors to fit a calibrator: {why}."
    gain, error = gains[name]
    if name == "identity":
        top = leader if leader != "identity" else max(tried, key=lambda n: gains[n][0])
        reason = (
            "No calibrator is better than none by more than a standard error: {}, the best, gains {:.4f} ± {:.4f} nats."
        )
        return reason.format(top, *gains[top])
    reason = f"{name} gains {gain:.4f} ± {error:.4f} nats on rows that it was not fitted on."
    if not gain > error:
        reason += " The likelihood ratio rejects T = 1 at the 5% level."
    if leader not in (name, "identity"):
        reason += f" {leader} is not better by more than a standard error, and has more parameters."
    return reason
