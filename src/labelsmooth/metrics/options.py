"""The keyword arguments of the metrics, as their overloads name them; for type checkers alone."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from typing_extensions import TypedDict

Binning = Literal["equal-mass", "equal-width"]
Norm = Literal["l1", "l2", "max"]
Scope = Literal["top-label", "class-wise"] | int
Score = Literal["max-probability", "max-logit", "p-norm"]

A = TypeVar("A")


class Plain(TypedDict, Generic[A], total=False):
    logits: A | None
    ignore_index: int | None


class Scoped(Plain[A], total=False):
    scope: Scope


class Bins(Scoped[A], total=False):
    bins: int
    binning: Binning


class Norms(Bins[A], total=False):
    norm: Norm


class Smooth(Scoped[A], total=False):
    bandwidth: float | None


class Ranks(Plain[A], total=False):
    score: Score
    p: float
