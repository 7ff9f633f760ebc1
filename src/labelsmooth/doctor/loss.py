"""Whether a loss smooths its labels, by which convention and how much, measured from its values and gradients."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from labelsmooth.doctor.loading import own_options
from labelsmooth.doctor.probe import TOLERANCE, VARIANTS, Call, Form, Loss, Target, gradient, target_of
from labelsmooth.errors import UserError

NUMBERS_OF_CLASSES = (5, 10)  # two, since one cannot distinguish the conventions
CLASSES = ("num_classes", "n_classes", "num_class", "classes", "cls", "vocab_size", "tgt_vocab_size")

Convention = Literal["all", "others", "unknown"]
Reduction = Literal["mean", "sum", "none", "unknown"]
SHARES = {"all": "epsilon / K on every class", "others": "epsilon / (K - 1) on every other class"}


@dataclass(frozen=True)
class LossCheck:
    """What :func:`check_loss` measured; ``print`` shows it as lines.

    Args:
        name: of the loss.
        form: the cross-entropy that it is, with gradient softmax(z) - q or sigmoid(z) - q; "other" for neither.
        smooths: whether the target q is not one-hot; in the form "other", whether the gradient lowers the label's logit
            where the prediction is right and certain.
        convention: "all" for epsilon / K on every class, "others" for epsilon / (K - 1) on every other class, "unknown"
            for other targets, None without smoothing.
        epsilon: by the convention; None where it is None or unknown.
        reduction: of the rows of a batch.
        ignore_index: the label whose rows get no gradient; None if there is none.
        no_effect: the object's options for an amount of smoothing, where it does not smooth.
        remarks: what else was measured, in sentences.
    """

    name: str
    form: Form
    smooths: bool
    convention: Convention | None
    epsilon: float | None
    reduction: Reduction
    ignore_index: int | None
    no_effect: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        amount = "none"
        if self.smooths:
            amount = "yes, by neither convention" if self.form != "other" else "yes, not as a fixed target"
        if self.convention in SHARES:
            amount = f"epsilon={self.epsilon:.4g}, convention {self.convention!r}: {SHARES[self.convention]}"
        lines = [
            f"loss          {self.name}",
            f"smoothing     {amount}",
            f"form          {self.form}",
            f"reduction     {self.reduction}",
            f"ignore_index  {'none' if self.ignore_index is None else self.ignore_index}",
        ]
        lines += [f"no effect     {option} does not smooth the labels" for option in self.no_effect]
        return "\n".join([*lines, *(f"note          {remark}" for remark in self.remarks)])


def check_loss(
    loss: Loss, *, num_classes: int | None = None, name: str = "", options: Mapping[str, float] | None = None
) -> LossCheck:
    """Measure whether a loss smooths its labels, by which convention, and how much.

    The gradient of a cross-entropy at logits z is softmax(z) - q, which gives the target q.  A copy of the loss is
    evaluated in float64, as ``loss(logits, labels)``, or with one-hot targets or log-probabilities if it takes those.

    Args:
        loss: a module or a function.
        num_classes: K, for a loss that is made for one K; by default that of its ``weight`` or of an attribute such as
            ``num_classes``, else 5 and 10.
        name: of the loss in the result; by default its repr.
        options: amounts of smoothing that the loss was made with, beside those among its attributes.

    Raises:
        UserError: the loss cannot be called in any of these forms, or has no gradient.

    Example:
        >>> check = check_loss(nn.CrossEntropyLoss(label_smoothing=0.1))
        >>> check.convention, round(check.epsilon, 4), check.reduction, check.ignore_index
        ('all', 0.1, 'mean', -100)
        >>> class Mistaken(nn.CrossEntropyLoss):
        ...     def forward(self, input, target):
        ...         return nn.functional.cross_entropy(input, target)
        >>> check_loss(Mistaken(label_smoothing=0.1)).no_effect
        ('label_smoothing=0.1',)
    """
    if num_classes is not None and num_classes < 3:
        raise UserError(f"num_classes={num_classes} is too small; give at least 3.")
    loss = copy.deepcopy(loss)
    loss = loss.double() if isinstance(loss, nn.Module) else loss  # its class weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variants that turn out not to be the loss's
        return _checked(loss, num_classes, name, options or {})


def _checked(loss: Loss, num_classes: int | None, name: str, options: Mapping[str, float]) -> LossCheck:
    options = {**own_options(loss), **options}
    weight = getattr(loss, "weight", None)
    weight = weight if isinstance(weight, Tensor) and weight.ndim == 1 and bool((weight > 0).all()) else None
    fixed = num_classes or _own_classes(loss, weight)
    ignored = getattr(loss, "ignore_index", -100)
    ignored = ignored if isinstance(ignored, int) else -100
    remark, call, targets = _targets(loss, (fixed,) if fixed else NUMBERS_OF_CLASSES, ignored, weight)
    remarks = [remark] if remark else []
    form = targets[0].form
    smooths, convention, epsilon = _smoothing(targets, options, remarks)
    if form != "other":
        _remark_values(targets, remarks)
        if (
            convention in SHARES
            and options
            and not any(math.isclose(o, epsilon, abs_tol=1e-3) for o in options.values())
        ):
            remarks.append(f"It was given {_listed(options)}, and epsilon is {epsilon:.4g}.")
    classes = len(targets[0].q)
    labels = _labels(classes, ignored)
    if isinstance(loss, nn.Module) and loss.training:
        evaluated = target_of(call, loss.eval(), classes, labels[0], weight)
        loss.train()
        if evaluated.form != form or float((evaluated.q - targets[0].q).abs().max()) > TOLERANCE:
            remarks.append("In evaluation mode, after loss.eval(), the targets are different.")
    z = torch.randn(3, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    reduction = _reduction(call, loss, z, labels[0])
    takes_labels = call in (VARIANTS[""], VARIANTS["It takes log-probabilities, not logits."])
    return LossCheck(
        name or " ".join(repr(loss).split())[:100],
        form,
        smooths,
        convention,
        epsilon if convention in SHARES else None,
        reduction,
        ignored if takes_labels and _ignores(call, loss, z, labels[0], ignored, reduction, remarks) else None,
        () if smooths else tuple(f"{option}={amount:g}" for option, amount in options.items()),
        tuple(remarks),
    )


def _own_classes(loss: Loss, weight: Tensor | None) -> int | None:
    """The number of classes that a loss is made for."""
    values = [getattr(loss, name, None) for name in CLASSES]
    return next((k for k in values if type(k) is int and k > 2), None) if weight is None else len(weight)


def _labels(classes: int, ignored: int) -> list[int]:
    return [label for label in (1, classes - 1, 0) if label != ignored][:2]


def _targets(loss: Loss, numbers: Sequence[int], ignored: int, weight: Tensor | None) -> tuple[str, Call, list[Target]]:
    """The remark, the call, and the targets by the first variant that is a cross-entropy, or else that runs."""
    errors: list[Exception] = []
    others = []
    for remark, call in VARIANTS.items():
        try:
            targets = [target_of(call, loss, k, label, weight) for k in numbers for label in _labels(k, ignored)]
        except Exception as error:  # the user's code raises what it likes
            errors.append(error)
            continue
        # A loss that multiplies by the label, which a wrong variant may give, has one target for all labels.
        if all(t.form == targets[0].form != "other" and t.q[t.label] > t.others.max() for t in targets):
            return remark, call, targets
        others.append((remark, call, targets))
    if not others:
        sizes = " or ".join(map(str, numbers))
        raise UserError(
            f"The loss cannot be called with logits of {sizes} classes and labels ({type(errors[0]).__name__}: "
            f"{errors[0]}). Give its number of classes, or a function of logits and labels."
        ) from errors[0]
    return others[0]


def _smoothing(
    targets: list[Target], options: Mapping[str, float], remarks: list[str]
) -> tuple[bool, Convention | None, float]:
    """Whether the targets are smooth, the convention, and epsilon."""
    if targets[0].form == "other":
        remarks.append(
            "It is not a cross-entropy with a fixed target; the check is whether its gradient lowers the logit of a "
            "label that is predicted with certainty."
        )
        smooths = any(target.pushes_back for target in targets)
        return smooths, "unknown" if smooths else None, math.nan
    one_hot = [torch.eye(len(target.q), dtype=torch.float64)[target.label] for target in targets]
    if all(torch.allclose(target.q, q, 0, TOLERANCE) for target, q in zip(targets, one_hot, strict=True)):
        return False, None, math.nan
    sizes = [len(target.q) for target in targets]
    shares = [float(target.others.mean()) for target in targets]
    uniform = all(
        torch.allclose(target.others, target.others.mean(), 0, TOLERANCE) and abs(float(target.q.sum()) - 1) <= 1e-3
        for target in targets
    )
    amounts: dict[Convention, list[float]] = {
        "all": [share * k for share, k in zip(shares, sizes, strict=True)],
        "others": [share * (k - 1) for share, k in zip(shares, sizes, strict=True)],
    }
    constant = [c for c, values in amounts.items() if max(values) - min(values) <= 20 * TOLERANCE]
    if not uniform or not constant:
        example = targets[0].q
        remarks.append(
            f"With {len(example)} classes the target is {float(example[targets[0].label]):.4g} at the label, and "
            f"{_range(shares)} elsewhere on average."
        )
        return True, "unknown", math.nan
    named = [c for c in constant if any(math.isclose(o, amounts[c][0], abs_tol=1e-4) for o in options.values())]
    convention = (named or constant)[0]
    if len(constant) > 1 and sizes[0] == sizes[-1]:
        other_name: Convention = "others" if convention == "all" else "all"
        remarks.append(
            f"With {sizes[0]} classes it equals epsilon={amounts[other_name][0]:.4g} of convention {other_name!r}."
        )
    return True, convention, amounts[convention][0]


def _remark_values(targets: list[Target], remarks: list[str]) -> None:
    masses = {len(target.q): target.mass for target in targets}
    if any(target.offset is None for target in targets):
        remarks.append("Its values do not belong to its gradients: a part of it is detached.")
    elif max(abs(target.offset or 0) for target in targets) > 100 * TOLERANCE:
        remarks.append("Its values are lower than the cross-entropy's by a constant, as a KL divergence's.")
    if any(abs(mass - 1) > 10 * TOLERANCE for mass in masses.values()):
        factors = ", ".join(f"{mass:.4g} with {k} classes" for k, mass in masses.items())
        remarks.append(f"It is the cross-entropy times a factor: {factors}.")


def _reduction(call: Call, loss: Loss, z: Tensor, label: int) -> Reduction:
    """By the gradient of rows of one label, so that class weights cancel."""
    try:
        value, together = gradient(call, loss, z, torch.full((len(z),), label))
    except Exception:  # a loss of one row
        return "unknown"
    if value.ndim:
        return "none"
    alone = torch.cat([gradient(call, loss, row[None], torch.tensor([label]))[1] for row in z])
    ratio = float((together * alone).sum() / alone.square().sum())
    near = {"sum": 1.0, "mean": 1 / len(z)}
    names: list[Reduction] = ["sum", "mean"]
    return next((name for name in names if abs(ratio - near[name]) < 1e-3), "unknown")


def _ignores(
    call: Call, loss: Loss, z: Tensor, label: int, ignored: int, reduction: Reduction, remarks: list[str]
) -> bool:
    """Whether a row of the ignored label has no gradient."""
    declared = isinstance(getattr(loss, "ignore_index", None), int)
    try:
        _, slopes = gradient(call, loss, z[:2], torch.tensor([label, ignored]))
        _, alone = gradient(call, loss, z[:1], torch.tensor([label]))
    except Exception:  # the label is refused
        return False
    if float(slopes[1].abs().max()) > TOLERANCE * float(alone.abs().max()):
        if declared:
            remarks.append(f"Rows of ignore_index={ignored} get a gradient all the same.")
        return False
    if reduction == "mean" and float((slopes[0] - alone[0]).abs().max()) > TOLERANCE:
        remarks.append(f"Rows of ignore_index={ignored} count in the mean.")
    return True


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if high - low <= TOLERANCE else f"{low:.4g} to {high:.4g}"


def _listed(options: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={amount:g}" for name, amount in options.items())
