"""Without the optional dependencies: what needs none works, and the rest raises an error with the install line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from labelsmooth.extras import EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings

STUDY = list(EXTRAS["study"].values())
CLI = [*EXTRAS["cli"].values(), *STUDY]
# Runs the command with modules that cannot be imported, as if they were not installed.
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
sys.argv = ["labelsmooth", *sys.argv[2:]]
from labelsmooth.__main__ import main
main()
"""


def run(without: list[str], *arguments: object, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, ",".join(without), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_extras_are_those_of_pyproject() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, packages in EXTRAS.items():
        names = {Requirement(line).name for line in project["optional-dependencies"][extra]}
        assert names - {"labelsmooth", "torch"} == set(packages)


def test_the_core_alone_has_help_version_and_doctor() -> None:
    assert "evaluate   is a model calibrated?" in run(CLI, "--help").stdout
    assert run(CLI, "--version").stdout.startswith("labelsmooth 0.")
    assert "pip install 'labelsmooth[cli]'" in run(CLI, "doctor").stdout
    refused = run(CLI, "evaluate", "p.npz")
    assert refused.returncode != 0
    assert "labelsmooth evaluate needs" in refused.stderr
    assert "pip install 'labelsmooth[cli]'" in refused.stderr


def test_the_cli_extra_evaluates_and_calibrates(predictions_npz: Path) -> None:
    page, calibrator = predictions_npz.with_name("page.html"), predictions_npz.with_name("calibrator.json")
    result = run(STUDY, "evaluate", predictions_npz, "--resamples", 100, "--report", page)
    assert result.returncode == 0, result.stderr
    assert page.exists()
    result = run(STUDY, "calibrate", "fit", predictions_npz, "-o", calibrator)
    assert result.returncode == 0, result.stderr
    refused = run(STUDY, "train", "digits")
    assert refused.returncode == 2
    assert "Training needs lightning" in " ".join(refused.stderr.split())
    assert "pip install 'labelsmooth[study]'" in " ".join(refused.stderr.split())


def test_from_python_a_missing_extra_has_the_same_message() -> None:
    program = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
from labelsmooth.study import run_study
try:
    run_study(data="digits")
except ImportError as error:
    print(error)
"""
    assert "A study needs lightning" in run(STUDY, program=program).stdout


def test_a_room_that_needs_an_extra_says_so_when_it_is_imported() -> None:
    program = """
import sys
sys.modules["PIL"] = None
try:
    import labelsmooth.study
except ImportError as error:
    print(error)
"""
    assert "Reading photos needs pillow: pip install 'labelsmooth[study]'" in run([], program=program).stdout
