"""The architecture, held: which room may import which, what is imported lazily, and the public names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import labelsmooth as ls

PACKAGE = Path(ls.__file__).parent
# Each room and the rooms of ours it may import.  "leaf" files serve everyone and import nothing of ours.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "target": set(),
    "_torchvision": set(),
    "_memory": set(),
    "_torch_private": set(),
    "kernels": {"target", "_memory", "_torch_private"},
    "smoothing": {"target"},
    "loss": {"kernels", "smoothing", "target", "_torch_private"},
    "penalty": {"loss", "target"},
    "metrics": {"_torchvision"},
    "calibrate": {"errors", "files"},
    "predictions": {"metrics", "calibrate", "errors", "files"},
    "data": {"errors", "_torchvision"},
    "training": {"data", "loss", "smoothing", "penalty", "errors", "files", "_torchvision"},
    "interop": {"loss", "smoothing", "metrics", "calibrate", "_torchvision"},
    "models": {"training", "data", "predictions", "metrics", "calibrate", "errors", "files", "_torchvision"},
    "study": {"training", "data", "smoothing", "penalty", "metrics", "calibrate", "errors", "files"},
    "report": {"study", "models", "predictions", "calibrate", "metrics"} | {"errors", "files"},
    "doctor": {"kernels"},
    "cli": {"report", "study", "models", "training", "data", "predictions", "penalty", "smoothing", "metrics"}
    | {"calibrate", "doctor", "errors", "files", "_memory"},
    "__main__": {"cli", "doctor"},
    "__init__": {"target", "loss", "smoothing", "penalty", "metrics", "calibrate", "models", "study"},
}
# Imported by one file only: everything else asks that file.
ONLY_IN = {"numba": {"kernels.rows_cpu"}, "triton": {"kernels.rows_triton"}}
MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> list[str]:
    """Absolute names of everything the file imports, at any depth."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # within the room
                assert path.parent != PACKAGE or path.name == "__init__.py", f"{path}: write the absolute name"
                assert node.level == 1, f"{path}: write the absolute name"
                continue
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_downwards(path: Path) -> None:
    name = module_name(path)
    room = name.split(".")[0]
    assert room in ALLOWED, f"{name} belongs to no room; add the room and what it may import to this table"
    for imported in imports(path):
        top, _, ours = imported.partition(".")
        if top == "labelsmooth" and ours and ours.split(".")[0] != room:
            fits = any(f"{ours}.".startswith(f"{allowed}.") for allowed in ALLOWED[room])
            assert fits or ours == "__version__", f"{name} may not import labelsmooth.{ours}"
        elif top in ONLY_IN:
            assert name in ONLY_IN[top], f"{name} may not import {top}"


def test_importing_the_package_is_light() -> None:
    heavy = [
        "numba",
        "triton",
        "sklearn",
        "scipy",
        "lightning",
        "torchmetrics",
        "torchvision",
        "timm",
        "matplotlib",
        "jinja2",
        "typer",
        "rich",
    ]
    program = f"import sys, labelsmooth; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["metrics.streaming", "training.fit"])
def test_what_needs_the_torchvision_cure_takes_it_itself(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import labelsmooth.{module}"], capture_output=True, check=True)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} needs a first line that says what it is"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_the_oldest_python_can_read_it(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 10))


ROOMS = [module_name(path) for path in MODULES if path.name == "__init__.py"]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_listed_sorted_and_exist(room: str) -> None:
    module = importlib.import_module("labelsmooth" if room == "__init__" else f"labelsmooth.{room}")
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names))  # ruff keeps them sorted
    assert [name for name in names if not hasattr(module, name)] == []


def test_the_public_face() -> None:
    assert set(ls.__all__) >= {
        "LabelSmoothingCrossEntropy",
        "Target",
        "binary_cross_entropy_with_logits",
        "cross_entropy",
        "linear_cross_entropy",
        "penalty",
        "smoothing",
        "vocab_parallel_cross_entropy",
        "vocab_parallel_linear_cross_entropy",
    }
    assert [name for name in ls.__all__ if name not in dir(ls)] == []
