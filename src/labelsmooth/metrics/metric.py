"""What a metric is: a statistic of rows, made callable with predictions and labels, with or without an interval."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, overload

from torch import Tensor
from typing_extensions import TypedDict, Unpack

from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.interval import Estimate, Interval, Level, estimates
from labelsmooth.metrics.rows import Array, NumPy, Value
from labelsmooth.metrics.statistic import Statistic

Binning = Literal["equal-mass", "equal-width"]
Norm = Literal["l1", "l2", "max"]
Scope = Literal["top-label", "class-wise"] | int
Score = Literal["max-probability", "max-logit", "p-norm"]

S = TypeVar("S")
# Scores or labels that may be missing: as NumPy arrays, as tensors, as either.
N: TypeAlias = "NumPy | None"
T: TypeAlias = "Tensor | None"
A: TypeAlias = "Array | None"


class Options(TypedDict, Generic[S], total=False):
    logits: S
    ignore_index: int | None


class CalibrationOptions(Options[S], total=False):
    scope: Scope
    bins: int
    binning: Binning
    norm: Norm
    bandwidth: float | None


class SelectiveOptions(Options[S], total=False):
    score: Score
    p: float
    coverage: float


class Named(Protocol):
    statistic: Callable[..., Statistic]
    __name__: str


class PlainMetric(Named, Protocol):
    """A metric without options of its own. The others differ in their options alone."""

    @overload
    def __call__(
        self, probabilities: N = ..., labels: A = ..., *, interval: None = ..., **kw: Unpack[Options[N]]
    ) -> float: ...
    @overload
    def __call__(
        self, probabilities: T = ..., labels: A = ..., *, interval: None = ..., **kw: Unpack[Options[T]]
    ) -> Tensor: ...
    @overload
    def __call__(
        self, probabilities: A = ..., labels: A = ..., *, interval: Level, **kw: Unpack[Options[A]]
    ) -> Estimate: ...


class CalibrationMetric(Named, Protocol):
    @overload
    def __call__(
        self, probabilities: N = ..., labels: A = ..., *, interval: None = ..., **kw: Unpack[CalibrationOptions[N]]
    ) -> float: ...
    @overload
    def __call__(
        self, probabilities: T = ..., labels: A = ..., *, interval: None = ..., **kw: Unpack[CalibrationOptions[T]]
    ) -> Tensor: ...
    @overload
    def __call__(
        self, probabilities: A = ..., labels: A = ..., *, interval: Level, **kw: Unpack[CalibrationOptions[A]]
    ) -> Estimate: ...


class SelectiveMetric(Named, Protocol):
    @overload
    def __call__(
        self, probabilities: N = ..., labels: A = ..., *, interval: None = ..., **kw: Unpack[SelectiveOptions[N]]
    ) -> float: ...
    @overload
    def __call__(
        self, probabilities: T = ..., labels: A = ..., *, interval: None = ..., **kw: Unpack[SelectiveOptions[T]]
    ) -> Tensor: ...
    @overload
    def __call__(
        self, probabilities: A = ..., labels: A = ..., *, interval: Level, **kw: Unpack[SelectiveOptions[A]]
    ) -> Estimate: ...


def _made(statistic: Callable[..., Statistic]) -> Any:
    """A function of predictions and labels that keeps its statistic, and shows the signature that it has."""

    @wraps(statistic)
    def metric(
        probabilities: Array | None = None,
        labels: Array | None = None,
        *,
        logits: Array | None = None,
        ignore_index: int | None = None,
        interval: float | Interval | None = None,
        **options: object,
    ) -> Value | Estimate:
        rows, factory = read(probabilities, labels, logits, ignore_index), partial(statistic, **options)
        return rows.out(factory(rows).value) if interval is None else estimates(rows, [factory], interval)[0]

    shared = list(inspect.signature(metric, follow_wrapped=False).parameters.values())[:-1]
    own = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for option in list(inspect.signature(statistic).parameters.values())[1:]
    ]
    parameters = [*shared[:3], *own, *shared[3:]]
    signature = inspect.Signature(parameters, return_annotation="float | Tensor | Estimate")
    metric.__signature__, metric.statistic = signature, statistic  # type: ignore[attr-defined]
    return metric


# What makes a metric of its statistic, a function of rows and of the metric's options, by the kind of its options.
metric: Callable[[Callable[..., Statistic]], PlainMetric] = _made
calibration_metric: Callable[[Callable[..., Statistic]], CalibrationMetric] = _made
selective_metric: Callable[[Callable[..., Statistic]], SelectiveMetric] = _made
