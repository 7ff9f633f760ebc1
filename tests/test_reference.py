"""The reference pages list every public name.

Its generator reads the source: where a function has the name of its file, as ``cross_entropy`` has, it takes the file
for the public name, which is not shown; and it shows only those constants that have a docstring.
"""

from __future__ import annotations

import ast
import importlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "reference").glob("*.md")))
LISTED = set(re.findall(r"^::: (\S+)", PAGES, re.MULTILINE))
ROOMS = ["loss", "smoothing", "penalty", "metrics", "calibrate", "predictions", "data", "training", "models", "study"]
MODULES = ["smoothing.schedule", "smoothing.registry", "penalty.registry", "metrics.streaming", "study.methods"]


def documented_constants(source: str) -> set[str]:
    """The names whose assignment is followed by a docstring."""
    body = ast.parse(source).body
    names = set()
    for statement, after in pairwise(body):
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("room", [*ROOMS, "report", "doctor", *MODULES])
def test_the_reference_lists_every_public_name(room: str) -> None:
    name = f"labelsmooth.{room}"
    assert name in LISTED
    module = importlib.import_module(name)
    path = Path(str(module.__file__))
    folder = path.parent if path.name == "__init__.py" else path
    files = {file.stem: file for file in folder.glob("*.py")} if folder.is_dir() else {}
    constants = set().union(*(documented_constants(file.read_text()) for file in files.values() or [path]))
    for public in module.__all__:
        value = getattr(module, public)
        if public in files:
            whole = f"{name}.{public}"
            assert (whole if value is importlib.import_module(whole) else f"{whole}.{public}") in LISTED
        elif not getattr(value, "__doc__", None) or not hasattr(value, "__module__") or not callable(value):
            assert public in constants, f"write a docstring below {public}"


def test_the_error_is_listed() -> None:
    assert "labelsmooth.UserError" in LISTED
