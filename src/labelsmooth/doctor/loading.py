"""A loss by its import path, and the amounts of smoothing that it was given."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from labelsmooth.doctor.probe import Loss
from labelsmooth.errors import UserError


def load_loss(spec: str) -> tuple[Loss, dict[str, float]]:
    """Import a loss by name.  This runs the module's code and the expression: only name code that you trust.

    Args:
        spec: a module or a Python file, a colon, and an expression in its names: ``torch.nn:CrossEntropyLoss()``,
            ``losses.py:criterion``.  A class is instantiated without arguments.

    Returns:
        The loss, and the amounts of smoothing among the arguments that the expression gives.

    Raises:
        UserError: another form, or what the module or the expression raises.

    Example:
        >>> load_loss("torch.nn:CrossEntropyLoss(label_smoothing=0.1)")
        (CrossEntropyLoss(), {'label_smoothing': 0.1})
    """
    match = re.fullmatch(r"(.+\.py|[\w.]+):(.+)", spec.strip())
    if match is None:
        raise UserError(
            f"{spec!r} is not of the form MODULE:EXPRESSION or FILE.py:EXPRESSION; give for example "
            "'torch.nn:CrossEntropyLoss(label_smoothing=0.1)'."
        )
    place, expression = match.groups()
    try:
        if find_spec("torchvision") is not None:
            import labelsmooth.cpu_torchvision  # noqa: F401  (before timm)
        loss = eval(expression, {"torch": torch, **_names_in(place)})
        loss = loss() if isinstance(loss, type) else loss
    except Exception as error:  # the user's code raises what it likes
        raise UserError(f"{spec} cannot be made ({type(error).__name__}: {error}).") from error
    if not callable(loss):
        raise UserError(f"{spec} is a {type(loss).__name__}, not a loss: it cannot be called.")
    return loss, _arguments(expression)


def _names_in(place: str) -> dict[str, Any]:
    """The names in a module, which may lie in the current folder, or in a file, which finds its neighbours."""
    is_file = place.endswith(".py")
    sys.path.insert(0, str(Path(place).resolve().parent) if is_file else os.getcwd())
    try:
        return runpy.run_path(place) if is_file else vars(importlib.import_module(place))
    finally:
        sys.path.pop(0)


def _is_amount(name: str, value: object) -> bool:
    """Whether an attribute or argument is an amount of smoothing; an eps of 1e-8 is for numerical stability."""
    named = "smooth" in name.lower() or name.strip("_").lower() in ("epsilon", "eps")
    return named and isinstance(value, int | float) and not isinstance(value, bool) and 1e-3 <= abs(value) < 1


def own_options(loss: Loss) -> dict[str, float]:
    """The amounts of smoothing among an object's attributes, a partial's arguments, or a function's defaults."""
    if isinstance(loss, functools.partial):
        values = {**own_options(loss.func), **loss.keywords}
    elif inspect.isfunction(loss):
        values = {name: parameter.default for name, parameter in inspect.signature(loss).parameters.items()}
    else:
        values = dict(getattr(loss, "__dict__", {}))
    return {name: float(value) for name, value in values.items() if _is_amount(name, value)}


def _arguments(expression: str) -> dict[str, float]:
    node = ast.parse(expression.strip(), mode="eval").body
    keywords = node.keywords if isinstance(node, ast.Call) else []
    values = {word.arg: word.value.value for word in keywords if word.arg and isinstance(word.value, ast.Constant)}
    return {name: float(value) for name, value in values.items() if _is_amount(name, value)}  # type: ignore[arg-type]
