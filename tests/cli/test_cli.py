"""The command line: what it prints, its exit codes, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelsmooth.cli import app

runner = CliRunner()


def test_doctor() -> None:
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0
    for line in ("Python ", "torch ", "numba ", "device ", "threads ", "kernel ", "extra study: complete"):
        assert line in result.stdout


def test_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from labelsmooth import doctor, extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "timm" else object())
    assert "timm         missing" in doctor.report()
    assert "pip install 'labelsmooth[study]'" in doctor.report()


def test_without_the_extra_doctor_works_and_the_rest_says_what_to_install() -> None:
    program = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('typer', 'rich') else real(name, *a)\n"
        "sys.argv = ['labelsmooth', {!r}]\n"
        "from labelsmooth.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program.format("doctor")], capture_output=True, text=True, check=True)
    assert "typer        missing" in done.stdout
    done = subprocess.run([sys.executable, "-c", program.format("study")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'labelsmooth[cli]'" in done.stderr


@pytest.mark.parametrize(("notebook", "expected"), [(False, "True"), (True, "False")])
def test_a_notebook_is_no_terminal_for_bars(notebook: bool, expected: str) -> None:
    controller, terminal = os.openpty()
    environment = os.environ | {"TERM": "xterm", "JPY_PARENT_PID": "1"}
    if not notebook:
        del environment["JPY_PARENT_PID"]
    program = "from labelsmooth.cli.app import errors; print(errors.is_terminal)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True, env=environment)
    os.close(terminal)
    os.close(controller)
    assert done.stdout.strip() == expected


def test_methods_list() -> None:
    result = runner.invoke(app, ["study", "--methods", "list"])
    assert result.exit_code == 0
    assert "label-smoothing" in result.stdout
    assert "epsilon / K on every class (Szegedy et al. 2016) [epsilon 0.1]" in result.stdout
    assert "Zhang et al. 2021" in result.stdout
    assert "Mukhoti et al. 2020" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "DATA 'nonsense' is neither a folder"),
        (["digits", "--methods", "plane"], "There is no method 'plane'"),
        (["digits", "--seeds", "0"], "--seeds 0 is too small"),
        (["digits", "--lr", "nan"], "learning_rate=nan must lie in (0, inf)"),
    ],
)
def test_errors_are_one_line_without_a_traceback(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    result = runner.invoke(app, ["study", *arguments, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize("bad", ["one class", "two photos", "corrupt"])
def test_a_bad_folder_is_refused(bad: str, tmp_path: Path) -> None:
    from PIL import Image

    counts = {"<script>": 4} if bad == "one class" else {"<script>": 4, "b": 2 if bad == "two photos" else 4}
    for name, count in counts.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "photos" / name / f"{index}.png")
    if bad == "corrupt":
        (tmp_path / "photos" / "b" / "0.png").write_bytes(b"junk")
    options = ["--backbone", "test_resnet", "--weights", "none", "--out", str(tmp_path / "out")]
    result = runner.invoke(app, ["study", str(tmp_path / "photos"), *options])
    assert result.exit_code == 2
    assert result.stderr.count("Error:") == 1
    assert {"one class": "one class only, '<script>'", "two photos": "'b' has 2", "corrupt": "b/0.png (not an image)"}[
        bad
    ] in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("something of the user's")
    options = ["--seeds", "1", "--epochs", "1", "--methods", "plain", "--out", str(tmp_path / "taken")]
    result = runner.invoke(app, ["study", "digits", *options])
    assert result.exit_code == 2
    assert "choose another place" in " ".join(result.stderr.split())
    assert (tmp_path / "taken").read_text() == "something of the user's"


def test_a_whole_study(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez(tmp_path / "d.npz", images=(digits.images[:200] * 15).astype(np.uint8), labels=digits.target[:200])
    options = ["--seeds", "1", "--epochs", "1", "--methods", "label-smoothing", "--out", str(tmp_path / "out")]
    result = runner.invoke(app, ["study", str(tmp_path / "d.npz"), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Use "), "what to use comes first"
    assert f"Report: {(tmp_path / 'out' / 'report.html').resolve()}" in result.stdout.replace("\n", "")
    assert (tmp_path / "out" / "study.json").exists()


@pytest.mark.parametrize(
    "command",
    [[], *([name] for name in ("train", "predict", "evaluate", "calibrate", "study", "export", "doctor"))],
    ids=str,
)
def test_help(command: list[str]) -> None:
    short, long = (runner.invoke(app, [*command, option], env={"COLUMNS": "120"}) for option in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert "<bool>" not in short.stdout
    if command == ["calibrate"]:
        assert "Fit a calibrator on validation predictions" in short.stdout
    elif command:
        assert f"Example: labelsmooth {command[0]}" in short.stdout
    else:
        rows = [line.split()[1] for line in short.stdout.split("Commands")[1].splitlines() if line.startswith("│ ")]
        names = ["train", "predict", "evaluate", "calibrate", "study", "export", "doctor"]
        assert [row for row in rows if row in names] == names


def test_train_has_panels_and_every_default_is_shown() -> None:
    text = runner.invoke(app, ["train", "-h"], env={"COLUMNS": "200"}).stdout
    panels = [line.split()[1] for line in text.splitlines() if line.startswith("╭─")]
    assert panels == ["Arguments", "Options", "Data", "Model", "Smoothing", "Training", "Hardware", "Output"]
    for default in ("(default: 0.003; 0.0001 for pretrained photos)", "(default: models/DATA)", "[default: uniform]"):
        assert default in text


def test_version() -> None:
    import labelsmooth

    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"labelsmooth {labelsmooth.__version__}\n")
