"""The target distribution q of each row, as a record: the N x K table is never built."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from labelsmooth._torch_private import is_intercepted

Over = Literal["all", "others"]
"""The two conventions of uniform smoothing: epsilon / K on every class, or epsilon / (K - 1) on the other classes."""


class Policy(Protocol):
    """A function from labels to target distributions, which ``label_smoothing`` accepts in place of a number.

    ``labels`` are [N] int64 in [0, num_classes), negative for a row without a valid label, or [N, K] probabilities,
    for which a policy may raise a TypeError.
    """

    def __call__(self, labels: Tensor, num_classes: int) -> Target: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Target distributions of N rows over K classes, ``q_i = keep_i * onehot(index_i) + scale_i * base_i``.

    Every smoothing policy returns a Target, and the kernels read it as it is.  With the logits z_i and
    p_i = softmax(z_i), the cross-entropy and its gradient follow without building q:

        H(q_i, p_i) = mass_i * logsumexp(z_i) - keep_i * z_i[index_i] - scale_i * <base_i, z_i>
        dH / dz_i   = mass_i * p_i - q_i,            mass_i = keep_i + scale_i * sum(base_i)

    Args:
        num_classes: K, at least 1.
        index: [N] int64 labels in [0, K); -1 marks an ignored row, whose loss and gradient are 0, and -2 a label out
            of range, for which they are NaN.  None for class probabilities, which have no label: then ``base`` is
            [N, K].
        keep: the weight of the label itself, a float or an [N] tensor.  It may be negative where the base puts
            mass on the label too, as in the ``over="others"`` convention with a large epsilon.
        scale: the weight of the base, a float or an [N] tensor.
        base: None for the uniform distribution 1/K, a [K] prior, a [K, K] table with a row for each label, or
            [N, K] rows.
        rows: True if ``base`` is [N, K], one row for each row of the logits.  It separates [N, K] from a [K, K] table.

    Example:
        >>> Target(num_classes=4, index=torch.tensor([2]), keep=0.9, scale=0.1).dense()
        tensor([[0.0250, 0.0250, 0.9250, 0.0250]])
    """

    num_classes: int
    index: Tensor | None
    keep: float | Tensor
    scale: float | Tensor
    base: Tensor | None = None
    rows: bool = False

    def __repr__(self) -> str:
        values = [
            f"{name}={short_repr(value)}" for name in self.__slots__ if (value := getattr(self, name)) is not None
        ]
        return f"Target({', '.join(values)})"

    @classmethod
    def uniform(cls, labels: Tensor, num_classes: int, epsilon: float | Tensor, *, over: Over = "all") -> Target:
        """Uniform smoothing: epsilon spread over all K classes, or over the K - 1 others (``over="others"``).

        The two conventions name the same family: others(epsilon) = all(epsilon * K / (K - 1)).

        Args:
            labels: [N] indices (-1: ignored), or [N, K] probabilities, which become
                (1 - epsilon) * labels + epsilon / K, also where they do not sum to 1, as in PyTorch.
            epsilon: a float, or an [N] tensor with one value for each row.

        Raises:
            ValueError: ``over`` is unknown, or ``over="others"`` with a single class.
        """
        check_over(over)
        epsilon = epsilon_of_rows(epsilon, labels.shape[0])
        if over == "others":
            if num_classes < 2:
                raise ValueError(
                    'over="others" needs at least 2 classes, and the input has 1: there is no other class to '
                    'put epsilon on. Use over="all", which does not change a single class.'
                )
            epsilon = epsilon * (num_classes / (num_classes - 1))
        if labels.is_floating_point():
            share = column(epsilon)
            return cls.probabilities((1.0 - share) * labels + share / num_classes)
        return cls(num_classes, labels, 1.0 - epsilon, epsilon)

    @classmethod
    def probabilities(cls, q: Tensor) -> Target:
        """Targets that are [N, K] class probabilities."""
        return cls(q.shape[-1], None, 0.0, 1.0, q, rows=True)

    def weighted(self, weight: Tensor) -> Target:
        """Class weights in PyTorch's sense, w_k * q_k: only keep and base change."""
        base = weight / self.num_classes if self.base is None else self.base * weight
        keep = self.keep
        if self.index is not None:
            keep = keep * weight[self.index.clamp(min=0)]
        # Not dataclasses.replace, which torch.compile of PyTorch 2.6 cannot trace.
        return Target(self.num_classes, self.index, keep, self.scale, base, self.rows)

    def part(self, rows: slice) -> Target:
        """The targets of some of the rows."""

        def cut(value: float | Tensor) -> float | Tensor:
            return value[rows] if isinstance(value, Tensor) and value.dim() else value

        index = None if self.index is None else self.index[rows]
        base = self.base[rows] if self.base is not None and self.rows else self.base
        return Target(self.num_classes, index, cut(self.keep), cut(self.scale), base, self.rows)

    def dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """q as an [N, K] tensor, for inspection and tests; an ignored row is all zeros."""
        if self.index is None:
            assert self.base is not None
            return self.base * column(self.scale)
        dtype = dtype or _dtype_of(self.keep, self.scale, self.base)
        device = self.index.device
        if self.base is None:
            base = torch.full((1, self.num_classes), 1.0 / self.num_classes, dtype=dtype, device=device)
        else:
            base = self.base if self.rows or self.base.dim() == 1 else self.base[self.index.clamp(min=0)]
            base = base.to(dtype)
        labels = torch.arange(self.num_classes, device=device)
        onehot = (self.index[:, None] == labels).to(dtype)
        q = column(self.keep) * onehot + column(self.scale) * base
        return torch.where(self.index[:, None] >= 0, q, torch.zeros_like(q))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Two labels for each row with weights ``lam`` and ``1 - lam``, as mixup and CutMix produce them.

    A Target holds one label per row, so the target ``lam * q(a) + (1 - lam) * q(b)`` is kept as its two parts.  H(q, p)
    is linear in q, so the loss is ``lam * H(q(a), p) + (1 - lam) * H(q(b), p)``.

    Args:
        a, b: integer labels of the same shape; a label equal to ``ignore_index`` contributes nothing.
        lam: the weight of ``a`` in [0, 1], a float or a tensor in the shape of the labels.
        policy: the smoothing policy of both labels; None to use the loss's own.
    """

    a: Tensor
    b: Tensor
    lam: float | Tensor
    policy: Policy | None = None

    def __repr__(self) -> str:
        policy = "" if self.policy is None else f", policy={self.policy}"
        return f"Mixture(a={short_repr(self.a)}, b={short_repr(self.b)}, lam={short_repr(self.lam)}{policy})"

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> Mixture:
        """The mixture with its labels and shares on a device; trainers move a batch by this method."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Mixture:
        """The mixture in pinned memory, as a DataLoader with ``pin_memory=True`` asks for it."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Mixture:
        lam = function(self.lam) if isinstance(self.lam, Tensor) else self.lam
        return Mixture(function(self.a), function(self.b), lam, self.policy)


def check_epsilon(epsilon: object, name: str, *, allow_negative: bool = False) -> None:
    """Raise unless epsilon is a number in [0, 1] or a floating tensor of such numbers.

    With ``allow_negative`` any finite number at most 1 is accepted.

    The values of a tensor are checked on the CPU only: on other devices the check would synchronize.
    """
    remedy = f"Give {name} between 0 (no smoothing) and 1 (the base distribution alone); 0.1 is common."
    low, interval = (-math.inf, "(-inf, 1]") if allow_negative else (0.0, "[0, 1]")
    if isinstance(epsilon, Tensor):
        if not epsilon.is_floating_point():
            raise TypeError(f"{name} is a tensor of {epsilon.dtype}; it must be floating. {remedy}")
        if epsilon.device.type != "cpu" or torch.compiler.is_compiling():
            return
        outside = ~((epsilon >= low) & (epsilon <= 1) & epsilon.isfinite())
        try:
            is_wrong = bool(outside.any())
        except RuntimeError:  # under vmap no value can be read
            return
        if is_wrong:
            value = float(epsilon[outside].flatten()[0])
            raise ValueError(f"{name} holds {value}, which is outside {interval}. {remedy}")
        return
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real):
        raise TypeError(f"{name}={epsilon!r} is a {type(epsilon).__name__}, not a number. {remedy}")
    # Comparisons alone, which torch.compile can trace for an epsilon that changes.
    number = cast(float, epsilon)
    if not (number <= 1.0 and (number > low if allow_negative else number >= low)):
        raise ValueError(f"{name}={epsilon} is outside {interval}. {remedy}")


def check_over(over: str) -> None:
    """Raise ValueError unless ``over`` is one of the two conventions of uniform smoothing."""
    if over not in ("all", "others"):
        raise ValueError(
            f'over={over!r} is not a convention; use over="all" (epsilon / K on every class) '
            'or over="others" (epsilon / (K - 1) on the classes other than the label).'
        )


def epsilon_of_rows(epsilon: float | Tensor, count: int) -> float | Tensor:
    """Epsilon as a float or an [N] tensor in at least float32.

    Raises:
        ValueError: a tensor that does not hold one epsilon for each label.
    """
    if not isinstance(epsilon, Tensor):
        return float(epsilon)
    if epsilon.dim() and epsilon.numel() != count:
        raise ValueError(
            f"epsilon has shape {tuple(epsilon.shape)}, but there are {count} labels; give one epsilon for each "
            "label, or a single number for all."
        )
    epsilon = epsilon.to(torch.promote_types(epsilon.dtype, torch.float32))
    return epsilon.reshape(-1) if epsilon.dim() else epsilon


def short_repr(value: object) -> str:
    """A value for a repr: a tensor by its shape, or by its number where it holds one that can be read."""
    if not isinstance(value, Tensor):
        return repr(value)
    is_number = value.dim() == 0 and type(value) in (Tensor, torch.nn.Parameter) and not value.is_meta
    return f"{value.item():.4g}" if is_number and not is_intercepted() else str(list(value.shape))


def column(scalar: float | Tensor) -> float | Tensor:
    """One number for all rows as it is; one for each, [N], as [N, 1]."""
    return scalar[:, None] if isinstance(scalar, Tensor) and scalar.dim() else scalar


def _dtype_of(*values: float | Tensor | None) -> torch.dtype:
    dtypes = [v.dtype for v in values if isinstance(v, Tensor)]
    return dtypes[0] if dtypes else torch.get_default_dtype()
