"""What every calibrator shares: scikit-learn's conventions, the check of the inputs, and the kind of the output."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

Array: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
Self = TypeVar("Self", bound="Calibrator")
AnyArray = TypeVar("AnyArray", "npt.NDArray[Any]", torch.Tensor)


class NotFittedError(ValueError, AttributeError):
    """A calibrator was used before ``fit``. Where scikit-learn is imported it is also scikit-learn's own error."""


class Calibrator:
    """Base of the calibrators: ``fit(logits, labels, sample_weight=None)`` and ``predict_proba(logits)``.

    Parameters are what ``__init__`` takes, learnt values end in an underscore, and neither needs scikit-learn: its
    ``clone``, ``get_params`` and ``check_is_fitted`` work because the conventions are kept. A subclass says how to
    learn (`_fit`), what it learnt as tensors (`_tensors`), and what these do to logits (`_calibrated`, pure PyTorch).
    """

    n_classes_: int
    classes_: npt.NDArray[np.int64]

    def fit(self: Self, logits: Array, labels: Array, sample_weight: Array | None = None) -> Self:
        """Learn from held-out logits (N, K), or (N,) for a binary question, and integer labels (N,)."""
        z, y, w = read_training(logits, labels, sample_weight)
        self._fit(z, y, w)
        self.n_classes_ = z.shape[1]
        self.classes_ = np.arange(z.shape[1])
        return self

    def transform(self, logits: AnyArray) -> AnyArray:
        """Calibrated logits (N, K): those whose softmax is :meth:`predict_proba`."""
        z, kind = self._read(logits)
        return _as_given(self._apply(z), logits, kind)

    def predict_proba(self, logits: AnyArray) -> AnyArray:
        """Calibrated probabilities (N, K); two columns for binary logits (N,)."""
        z, kind = self._read(logits)
        return _as_given(torch.softmax(self._apply(z), dim=1), logits, kind)

    def predict(self, logits: AnyArray) -> AnyArray:
        """The most probable class after calibration, (N,)."""
        z, _ = self._read(logits)
        classes = self._apply(z).argmax(dim=1)
        return classes if isinstance(logits, torch.Tensor) else classes.cpu().numpy()

    def to_module(self) -> CalibrationModule:
        """An ``nn.Module`` that maps logits (N, K) to calibrated logits; the learnt values are its buffers."""
        self._check_fitted()
        return CalibrationModule(type(self)._calibrated, self._tensors(), self.n_classes_)

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        raise NotImplementedError

    def _tensors(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _apply(self, z: torch.Tensor) -> torch.Tensor:
        return type(self)._calibrated(z, **{k: _beside(v, z) for k, v in self._tensors().items()})

    def _read(self, logits: Array) -> tuple[torch.Tensor, torch.dtype]:
        self._check_fitted()
        z, kind = read_logits(logits)
        if z.shape[1] != self.n_classes_:
            raise ValueError(
                f"logits have {z.shape[1]} classes, but this {type(self).__name__} was fitted on {self.n_classes_}."
            )
        return z, kind

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise _not_fitted(f"This {type(self).__name__} is not fitted yet: call fit(logits, labels) first.")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_classes_")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self: Self, **params: Any) -> Self:
        """Set constructor parameters by name."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {sorted(known)}.")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(),
        )

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({params})"


class CalibrationModule(torch.nn.Module):
    """A fitted calibrator as a layer: logits (N, K) in, calibrated logits (N, K) out, their softmax calibrated."""

    def __init__(self, function: Callable[..., torch.Tensor], tensors: dict[str, torch.Tensor], classes: int) -> None:
        super().__init__()
        self.function = function
        self.names = tuple(tensors)
        self.classes = classes
        for name, value in tensors.items():
            self.register_buffer(name, value.clone())

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise ValueError(f"logits must have shape (N, {self.classes}), not {tuple(logits.shape)}.")
        tensors = {name: _beside(getattr(self, name), logits) for name in self.names}
        return self.function(logits, **tensors).to(logits.dtype)


def read_logits(logits: Array) -> tuple[torch.Tensor, torch.dtype]:
    """Check logits and return them as (N, K), float32 or float64, with the floating type that goes back out."""
    z = _tensor(logits, "logits").detach()
    if not z.is_floating_point():
        raise TypeError(f"logits must be floating point, not {z.dtype}.")
    kind = z.dtype
    if z.dtype not in (torch.float32, torch.float64):
        z = z.float()
    if z.ndim not in (1, 2) or (z.ndim == 2 and z.shape[1] < 2):
        raise ValueError(
            f"logits have shape {tuple(z.shape)}; expected (N, K) with K of at least 2, or (N,) for a binary question."
        )
    if z.shape[0] == 0:
        raise ValueError("logits are empty.")
    # NaN and +inf carry through the maximum, and so does a row of nothing but -inf; -inf itself is a masked class.
    # On the CPU NumPy takes it: as fast, and it does not wait for PyTorch's threads where others hold the cores.
    if z.device.type == "cpu":
        top = torch.from_numpy(z.numpy() if z.ndim == 1 else z.numpy().max(axis=1))
        if np.isfinite(top.numpy()).all():
            return _two_columns(z), kind
    else:
        top = z if z.ndim == 1 else z.amax(dim=1)
    bad = ~torch.isfinite(top)
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"logits: row {i} has the maximum {float(top[i])}; NaN and inf are not logits.")
    return _two_columns(z), kind


def _two_columns(z: torch.Tensor) -> torch.Tensor:
    return z if z.ndim == 2 else torch.stack([torch.zeros_like(z), z], dim=1)


def read_training(
    logits: Array, labels: Array, sample_weight: Array | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Check a calibrator's training data."""
    z, _ = read_logits(logits)
    y = _tensor(labels, "labels").to(z.device)
    if y.is_floating_point():
        raise TypeError(f"labels must be integers, not {y.dtype}; convert them, for example labels.astype(int).")
    y = y.long()
    if y.shape != z.shape[:1]:
        raise ValueError(f"labels have shape {tuple(y.shape)}; {z.shape[0]} rows of logits need ({z.shape[0]},).")
    if int(y.min()) < 0 or int(y.max()) >= z.shape[1]:
        bad = (y < 0) | (y >= z.shape[1])
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"labels: row {i} is {int(y[i])}, outside 0 to {z.shape[1] - 1} for {z.shape[1]} classes.")
    of_label = z.gather(1, y[:, None])[:, 0]
    if bool(of_label.min().isneginf()):
        i = int(of_label.isneginf().nonzero()[0, 0])
        raise ValueError(f"labels: row {i} is class {int(y[i])}, whose logit is -inf: the row cannot be explained.")
    if sample_weight is None:
        return z, y, None
    w = _tensor(sample_weight, "sample_weight").to(z.device)
    w = w.to(torch.float32 if z.device.type == "mps" else torch.float64)
    if w.shape != y.shape:
        raise ValueError(f"sample_weight has shape {tuple(w.shape)}; {len(y)} rows need ({len(y)},).")
    bad = ~(torch.isfinite(w) & (w >= 0))
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"sample_weight: row {i} is {float(w[i])}; weights are finite and at least 0.")
    if not bool((w > 0).any()):
        raise ValueError("sample_weight is 0 in every row: there is nothing to learn from.")
    return z, y, w


def _beside(value: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """A learnt value on the device of the logits; Metal has no float64."""
    return value.to(z.device, torch.float32) if z.device.type == "mps" else value.to(z.device)


def _as_given(p: torch.Tensor, given: AnyArray, kind: torch.dtype) -> AnyArray:
    p = p.to(kind)
    return p if isinstance(given, torch.Tensor) else p.cpu().numpy()


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


def _not_fitted(message: str) -> NotFittedError:
    # Whoever can catch scikit-learn's error has imported it; then the error is both.
    exceptions = sys.modules.get("sklearn.exceptions")
    if exceptions is None:
        return NotFittedError(message)
    both = type("NotFittedError", (NotFittedError, exceptions.NotFittedError), {})
    error: NotFittedError = both(message)
    return error
