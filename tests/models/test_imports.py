"""Commands import only what they use: imports are most of the time of a short command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMPILER = {"torch._dynamo", "sympy", "triton"}
TIMM = {"timm", "torchvision"}
PAGES = {"jinja2", "matplotlib"}
TRAINING = {"lightning", "torchmetrics", "tensorboard"}
OTHERS = {"datasets", "numba", "onnx", "pandas", "pyarrow", "ray", "scipy", "sklearn", "transformers"}
ROOT = Path(__file__).parents[2]
ALL = COMPILER | TIMM | PAGES | TRAINING | OTHERS
PROGRAM = """
import atexit, sys
atexit.register(lambda: print("", *sys.modules, sep="\\n"))
from labelsmooth.__main__ import main
main()
"""


@pytest.fixture
def imported() -> Callable[..., set[str]]:
    """Runs a command and returns those of ALL that it has imported."""

    def run(*arguments: object) -> set[str]:
        command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        modules = set(done.stdout.splitlines())
        assert "labelsmooth" in modules
        return ALL & modules

    return run


def test_help_needs_none(imported: Callable[..., set[str]]) -> None:
    assert imported("train", "--help") == set()


def test_the_environment_is_set_before_pytorch_reads_it() -> None:
    program = (
        "import os, sys; from labelsmooth import __main__ as command; command._prepare_process(); "
        "print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    )
    for given, spins in (({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert done.stdout.split() == ["False", spins], done.stderr


def test_files_are_measured_and_calibrated_without_any(
    imported: Callable[..., set[str]], predictions_npz: Path, tmp_path: Path
) -> None:
    assert imported("evaluate", predictions_npz, "--resamples", 100) == set()
    assert imported("calibrate", "fit", predictions_npz, "-o", tmp_path / "calibrator.json") == set()
    page = imported("evaluate", predictions_npz, "--resamples", 100, "--report", tmp_path / "page.html")
    assert page <= PAGES


def test_a_small_network_predicts_without_the_compiler(
    imported: Callable[..., set[str]], digits_model: Path, photos: Path
) -> None:
    assert imported("predict", digits_model, photos / "cats/2.png") == set()


def test_a_photo_model_predicts_without_the_trainer(
    imported: Callable[..., set[str]], photo_model: Path, photos: Path
) -> None:
    assert imported("predict", photo_model, photos / "cats/2.png") <= TIMM | COMPILER  # torchvision imports the latter


def test_the_trainer_imports_no_backbones_and_no_tables() -> None:
    program = "import sys, labelsmooth.cli, labelsmooth.training.fit; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"timm", "pandas", "pyarrow", "ray", "onnx", "numba"} & set(done.stdout.split())


def test_rooms_are_attributes_of_the_package() -> None:
    rooms = {path.parent.name for path in (ROOT / "src" / "labelsmooth").glob("*/__init__.py")} - {"cli", "kernels"}
    program = "import labelsmooth as ls; print(*(getattr(ls, name).__name__ for name in ls.ROOMS))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {f"labelsmooth.{room}" for room in rooms}
