"""What all calibrators share: scikit-learn's conventions, input and output types, and the identity."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.calibrate.inputs import AnyArray, Array, read_logits, read_training, zero_of
from labelsmooth.metrics.inputs import to_tensor

if TYPE_CHECKING:
    from sklearn.utils import Tags

Self = TypeVar("Self", bound="Calibrator")


class NotFittedError(ValueError, AttributeError):
    """A calibrator was used before ``fit``.  Where scikit-learn is imported it is also scikit-learn's own error."""


class Calibrator:
    """Base class of the calibrators: ``fit(logits, labels)``, then ``predict_proba(logits)``.

    ``__init__`` takes the parameters and fitted values end in an underscore, so that scikit-learn's ``clone``,
    ``get_params`` and ``check_is_fitted`` work; scikit-learn itself is not needed.  A subclass implements `_fit`, the
    shapes of the fitted values (`_shapes`), and what these do to logits (`_calibrated`, PyTorch operators only).
    """

    n_classes_: int
    classes_: npt.NDArray[np.int64]
    zero_: float = 0.0
    """What a probability of 0 is read as; 0.0: as the smallest normal number of its dtype."""

    rows_per_class: ClassVar[int] = 0
    """Rows of each class, and of the others, that one-vs-rest fits need; 0 where classes share their parameters."""

    def fit(
        self: Self,
        logits: Array | None = None,
        labels: Array | None = None,
        sample_weight: Array | None = None,
        *,
        probabilities: Array | None = None,
    ) -> Self:
        """Fit on held-out predictions.

        Args:
            logits: (N, K), or (N,) for a binary problem; -inf masks a class.
            labels: (N,), integers in 0 ... K-1.
            sample_weight: (N,), at least 0; weights count as repetitions of a row.
            probabilities: (N, K), or (N,) of class 1, instead of logits.  Zeros, as of rounded probabilities, are read
                as a tenth of the smallest other one, here and in later calls, with a warning.

        Raises:
            ValueError: for values, shapes or labels out of range, and for probabilities that are passed as logits.
            TypeError: for labels that are not integers, or scores that are not floating point.
        """
        zero = zero_of(probabilities)
        z, y, w = read_training(logits, labels, sample_weight, probabilities, zero)
        problem = self.too_few_rows(y, z.shape[1])
        if problem:
            remedy = "Use a calibrator whose classes share parameters, such as temperature."
            warnings.warn(f"Too few rows: {problem}. {remedy}", UserWarning, stacklevel=2)
        self._fit(z, y, w)
        self.n_classes_, self.zero_ = z.shape[1], zero
        self.classes_ = np.arange(z.shape[1])
        return self

    def too_few_rows(self, labels: Array, num_classes: int) -> str | None:
        """Why these labels are too few for this calibrator, as a clause, or None where there are enough.

        Args:
            labels: (N,), integers in 0 ... K-1.
            num_classes: K.
        """
        if not self.rows_per_class:
            return None
        counts = torch.bincount(to_tensor(labels, "labels").long().reshape(-1).cpu(), minlength=num_classes)
        short = counts.minimum(counts.sum() - counts) < self.rows_per_class
        if not bool(short.any()):
            return None
        k = int(short.nonzero()[0, 0])
        return (
            f"each class is fitted on its own, which takes at least {self.rows_per_class} rows of it and of the "
            f"others: {int(short.sum())} of {num_classes} classes have fewer (class {k}: {int(counts[k])} of "
            f"{int(counts.sum())} rows)"
        )

    def transform(self, logits: AnyArray | None = None, *, probabilities: AnyArray | None = None) -> AnyArray:
        """Calibrated logits (N, K), whose softmax is :meth:`predict_proba`."""
        z, dtype = self._read(logits, probabilities)
        return _as_given(self._apply(z), logits if probabilities is None else probabilities, dtype)

    def predict_proba(self, logits: AnyArray | None = None, *, probabilities: AnyArray | None = None) -> AnyArray:
        """Calibrated probabilities (N, K); two columns for a binary problem. Only masked classes have 0."""
        z, dtype = self._read(logits, probabilities)
        z = self._apply(z)
        # A T below 1 would turn the smallest number, read in place of a 0, into 0 again, whose NLL is infinite.
        p = torch.softmax(z, dim=1).clamp_min(torch.finfo(z.dtype).tiny).masked_fill(z == -torch.inf, 0.0)
        return _as_given(p, logits if probabilities is None else probabilities, dtype)

    @overload
    def predict(self, logits: torch.Tensor, *, probabilities: None = None) -> torch.Tensor: ...
    @overload
    def predict(self, logits: None = None, *, probabilities: torch.Tensor) -> torch.Tensor: ...
    @overload
    def predict(self, logits: npt.NDArray[np.generic], *, probabilities: None = None) -> npt.NDArray[np.int64]: ...
    @overload
    def predict(self, logits: None = None, *, probabilities: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]: ...
    def predict(self, logits: Array | None = None, *, probabilities: Array | None = None) -> Array:
        """The most probable class after calibration, (N,)."""
        z, _ = self._read(logits, probabilities)
        classes = self._apply(z).argmax(dim=1)
        given = logits if probabilities is None else probabilities
        return classes if isinstance(given, torch.Tensor) else classes.cpu().numpy()

    def to_module(self) -> CalibrationModule:
        """An ``nn.Module`` that maps logits (N, K) to calibrated logits; the fitted values are its buffers."""
        self._check_fitted()
        return CalibrationModule(type(self)._calibrated, self._tensors(), self.n_classes_)

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        raise NotImplementedError

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        """The fitted values that a file holds, and the shape of each; () for a number."""
        raise NotImplementedError

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The fitted values as `_calibrated` takes them: by name, without the underscore at its end."""
        names = self._shapes(self.n_classes_)
        return {name[:-1]: torch.as_tensor(getattr(self, name), dtype=torch.float64) for name in names}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _apply(self, z: torch.Tensor) -> torch.Tensor:
        return type(self)._calibrated(z, **{k: _on_device(v, z) for k, v in self._tensors().items()})

    def _read(self, logits: Array | None, probabilities: Array | None) -> tuple[torch.Tensor, torch.dtype]:
        self._check_fitted()
        z, dtype = read_logits(logits, probabilities, zero=self.zero_)
        if z.shape[1] != self.n_classes_:
            raise ValueError(
                f"The scores have {z.shape[1]} classes, but this {type(self).__name__} was fitted on {self.n_classes_}."
            )
        return z, dtype

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise _not_fitted(f"This {type(self).__name__} is not fitted yet: call fit(logits, labels) first.")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_classes_")

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """The constructor's parameters by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self: Self, **params: object) -> Self:
        """Set constructor parameters by name."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {sorted(known)}.")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    def __repr__(self) -> str:
        """Parameters that differ from their defaults, then the fitted numbers, or the number of classes."""
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        shown = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name]]
        if self.__sklearn_is_fitted__():
            numbers = {
                name: value for name, value in vars(self).items() if isinstance(value, float) and name != "zero_"
            }
            fitted = [f"{name[:-1]}={value:.3g}" for name, value in numbers.items() if name.endswith("_")]
            shown += fitted or [f"n_classes={self.n_classes_}"]
        return f"{type(self).__name__}({', '.join(shown)})"


class Identity(Calibrator):
    """Leaves the logits as they are; what :func:`best` returns when no calibrator helps.

    Example:
        >>> import numpy as np
        >>> z = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 4.0]])
        >>> Identity().fit(z, np.arange(3)).transform(z)[0]
        array([2., 0., 1.])
    """

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        pass

    def _shapes(self, num_classes: int) -> dict[str, tuple[int, ...]]:
        return {}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return z


class CalibrationModule(torch.nn.Module):
    """A fitted calibrator as a layer: logits (N, K) in, calibrated logits (N, K) out.

    A truth value among the tensors is kept as a constant: it selects a branch, which an exported graph cannot do.
    """

    def __init__(self, function: Callable[..., torch.Tensor], tensors: dict[str, torch.Tensor], classes: int) -> None:
        super().__init__()
        self.function = function
        self.switches = {name: bool(value) for name, value in tensors.items() if value.dtype == torch.bool}
        self.names = tuple(name for name in tensors if name not in self.switches)
        self.classes = classes
        for name in self.names:
            self.register_buffer(name, tensors[name].clone())

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise ValueError(f"logits must have shape (N, {self.classes}), not {tuple(logits.shape)}.")
        tensors = {name: _on_device(getattr(self, name), logits) for name in self.names}
        return self.function(logits, **tensors, **self.switches).to(logits.dtype)


def _on_device(value: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """A fitted value on the device of the logits; Metal has no float64."""
    if value.device == z.device:  # an exported graph must not fix the device
        return value
    return value.to(z.device, torch.float32) if z.device.type == "mps" else value.to(z.device)


def _as_given(p: torch.Tensor, given: AnyArray | None, dtype: torch.dtype) -> AnyArray:
    p = p.to(dtype)
    return p if isinstance(given, torch.Tensor) else p.cpu().numpy()  # type: ignore[return-value]


def _not_fitted(message: str) -> NotFittedError:
    # A caller that catches scikit-learn's error has imported scikit-learn; then the error is both.
    exceptions = sys.modules.get("sklearn.exceptions")
    if exceptions is None:
        return NotFittedError(message)
    both = type("NotFittedError", (NotFittedError, exceptions.NotFittedError), {})
    error: NotFittedError = both(message)
    return error
