"""The architecture: which room may import which, no circles, no re-exports, lazy imports, and the public names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import labelsmooth as ls

PACKAGE = Path(ls.__file__).parent
# Each room and the rooms that it may import.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "extras": {"errors"},
    "files": {"errors"},
    "progress": set(),
    "target": {"_torch_private"},
    "cpu_torchvision": set(),
    "_memory": set(),
    "_torch_private": set(),
    "kernels": {"target", "_memory", "_torch_private"},
    "smoothing": {"target", "_torch_private"},
    "loss": {"kernels", "smoothing", "target", "_torch_private"},
    "penalty": {"loss", "target"},
    "metrics": {"cpu_torchvision", "errors"},
    "calibrate": {"metrics", "errors", "extras", "files"},
    "predictions": {"metrics", "calibrate", "errors", "extras", "files"},
    "data": {"predictions", "errors", "extras", "files", "progress", "cpu_torchvision"},
    "training": {"data", "loss", "smoothing", "penalty", "metrics", "errors", "extras", "files", "progress"}
    | {"cpu_torchvision"},
    "interop": {"loss", "smoothing", "metrics", "calibrate", "target", "cpu_torchvision"},
    "models": {"training", "data", "predictions", "metrics", "calibrate"}
    | {"errors", "extras", "files", "progress", "cpu_torchvision"},
    "study": {
        "training",
        "data",
        "smoothing",
        "penalty",
        "metrics",
        "calibrate",
        "errors",
        "extras",
        "files",
        "progress",
        "_memory",
    },
    "report": {"study", "models", "training", "predictions", "calibrate", "metrics"}
    | {"errors", "extras", "files", "progress"},
    "doctor": {"errors", "extras", "kernels", "cpu_torchvision"},
    "cli": {"report", "study", "models", "training", "data", "predictions", "penalty", "smoothing", "metrics"}
    | {"calibrate", "doctor", "errors", "extras", "files", "progress", "_memory"},
    "__main__": {"cli", "doctor", "errors", "extras"},
    "__init__": {"errors", "target", "loss", "smoothing", "penalty", "metrics", "calibrate", "models", "study"},
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


def imported_names(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every import of the package's own modules at any depth; the name is "" for a whole module."""
    pairs = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            pairs += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            room = ".".join(("labelsmooth", *path.relative_to(PACKAGE).parts[:-1]))
            module = f"{room}.{node.module}" if node.level and node.module else room if node.level else node.module
            pairs += [(str(module), alias.name) for alias in node.names]
    return [pair for pair in pairs if pair[0].split(".")[0] == "labelsmooth"]


def own_module(name: str) -> str:
    """The name of a module without the package's, "" where there is no such module."""
    parts = name.split(".")[1:]
    path = PACKAGE.joinpath(*parts)
    is_module = path.with_suffix(".py").exists() if parts else False
    return ".".join(parts or ["__init__"]) if is_module or (path / "__init__.py").exists() else ""


def test_no_file_imports_itself_through_others() -> None:
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        modules = {own_module(f"{module}.{name}") or own_module(module) for module, name in imported_names(path)}
        edges[module_name(path)] = modules
    reachable = {module: set(targets) for module, targets in edges.items()}
    grown = True
    while grown:
        grown = False
        for targets in reachable.values():
            further = set().union(*(reachable.get(target, set()) for target in targets)) - targets
            grown |= bool(further)
            targets |= further
    circles = {
        frozenset(other for other in reachable[module] if module in reachable[other])
        for module in reachable
        if module in reachable[module]
    }
    assert circles == set()


def defining_module(module: str, name: str) -> str:
    """The module in which a name is assigned, defined, or imported from elsewhere than its room."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return defining_module(str(node.module), alias.name)
    return module


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_names_are_imported_from_the_room_that_defines_them(path: Path) -> None:
    for module, name in imported_names(path):
        if name and not own_module(f"{module}.{name}"):
            origin = defining_module(module, name)
            assert origin.split(".")[:2] == module.split(".")[:2], f"import {name} from {origin}, not from {module}"


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
