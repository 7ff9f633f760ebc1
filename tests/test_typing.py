"""A user's ``mypy --strict`` passes over the examples of the README and the documentation."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def program(page: Path) -> str:
    """The examples of a page as one module; what an expression prints is left out."""
    examples = doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8"))
    return "from __future__ import annotations\n" + "".join(example.source for example in examples)


METRICS = """
from typing_extensions import assert_type
import numpy as np
import torch
from labelsmooth import metrics

p, y = np.full((2, 2), 0.5), np.array([0, 1])
t, u = torch.full((2, 2), 0.5), torch.tensor([0, 1])
assert_type(metrics.ece(p, y), float)
assert_type(metrics.ece(logits=p, labels=y, bins=5, norm="l2"), float)
assert_type(metrics.nll(t, u), torch.Tensor)
assert_type(metrics.aurc(logits=t, labels=u, score="p-norm"), torch.Tensor)
assert_type(metrics.risk_at_coverage(p, y, coverage=0.5, interval=0.9), metrics.Estimate)
metrics.ece(p, y, binning="quantile")  # type: ignore[call-overload]
"""


def test_examples_pass_mypy_strict(tmp_path: Path) -> None:
    for page in PAGES:
        (tmp_path / (page.stem.replace("-", "_") + "_page.py")).write_text(program(page))
    (tmp_path / "metrics_types.py").write_text(METRICS)
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-redefinition", "--no-error-summary"]
    # The examples define helpers without annotations, as a user's notebook does, and use libraries without types.
    command += ["--allow-untyped-defs", "--allow-untyped-calls", "--allow-incomplete-defs", "--ignore-missing-imports"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


ROOMS = ["loss", "smoothing", "penalty", "metrics", "calibrate", "predictions", "data", "training", "models", "study"]


def public_functions(room: str) -> Iterator[ast.FunctionDef]:
    """The public functions of a room, and the methods of its public classes."""
    public = set(importlib.import_module(f"labelsmooth.{room}").__all__)
    for path in sorted((ROOT / "src" / "labelsmooth" / room).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in public:
                for part in [node] if isinstance(node, ast.FunctionDef) else node.body:
                    if isinstance(part, ast.FunctionDef) and (part.name[0] != "_" or part.name == "__init__"):
                        yield part


def is_any(annotation: ast.expr | None) -> bool:
    """Whether it is Any, or a union with Any; that of an array's shape or dtype is NumPy's own."""
    if isinstance(annotation, ast.BinOp):
        return is_any(annotation.left) or is_any(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


@pytest.mark.parametrize("room", [*ROOMS, "report", "doctor"])
def test_no_public_signature_has_any(room: str) -> None:
    for function in public_functions(room):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        assert not is_any(function.returns), f"{room}: {function.name} returns Any"
        assert [argument.arg for argument in arguments if is_any(argument.annotation)] == [], f"{room}: {function.name}"
