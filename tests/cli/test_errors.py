"""Errors at the command's edge: one sentence, an exit code, no traceback, and no option that is ignored."""

from __future__ import annotations

import ast
import errno
import inspect
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from photo_folder import photo_folder
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.errors import UserError
from labelsmooth.files import whole_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals, pipes and devices are those of POSIX")


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def process(*arguments: str, **options):
    command = [sys.executable, "-m", "labelsmooth", *arguments]
    return subprocess.run(command, text=True, check=False, **{"capture_output": True, **options})


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    path = tmp_path / "p.npz"
    logits = np.random.default_rng(0).normal(size=(200, 3))
    np.savez(path, logits=3 * logits, labels=(logits + np.random.default_rng(1).normal(size=(200, 3))).argmax(1))
    return path


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (UserError("no \x1b[31mway"), "Error: no \\x1b[31mway", 2),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied. Check the path", 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300), "File name too long", 2),
        (zipfile.BadZipFile("bad magic"), "cannot be read (BadZipFile: bad magic)", 2),
        (MemoryError(), "not enough memory", 2),
        (KeyError("oops"), "Internal error: KeyError: 'oops'. This is a fault of labelsmooth. Please report it", 70),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_a_message_without_a_traceback(error: Exception, sentence: str, code: int, monkeypatch) -> None:
    from labelsmooth import doctor

    def fail() -> str:
        raise error

    monkeypatch.setattr(doctor, "report", fail)
    result = run("doctor")
    assert result.exit_code == code
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def commands(group: typer.Typer = app, words: tuple[str, ...] = ()):
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*words, command.name or command.callback.__name__), command.callback
    for part in group.registered_groups:
        assert part.typer_instance is not None
        yield from commands(part.typer_instance, (*words, str(part.name)))


@pytest.mark.parametrize(("name", "function"), [pytest.param(*pair, id=" ".join(pair[0])) for pair in commands()])
def test_every_option_is_read(name: tuple[str, ...], function) -> None:
    body = ast.parse(inspect.getsource(function)).body[0]
    assert isinstance(body, ast.FunctionDef)
    names = {node.id for statement in body.body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    assert set(inspect.signature(function).parameters) <= names


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "FILE", "--part", "test"], "--part is for a model's folder"),
        (["evaluate", "FILE", "--part", "nonsense"], "'nonsense' is not one of"),
        (["evaluate", "FILE", "--skip-corrupt"], "--skip-corrupt is for a model's folder"),
        (["evaluate", "FILE", "--labels", "nothing.npy"], "--labels nothing.npy is for .npy files"),
        (["evaluate", "FILE", "--overwrite"], "--overwrite is for --report"),
        (["evaluate", "FOLDER", "digits", "--logits"], "--logits is for a file of predictions"),
        (["evaluate", "FOLDER", "digits", "--labels", "y.npy"], "--labels is for a file of predictions"),
        (
            ["evaluate", "FOLDER", "digits", "--data-dir", "x"],
            "--data-dir is for fashion-mnist, cifar10, cifar100",
        ),
        (
            ["train", "digits", "--data-dir", "x"],
            "--data-dir is for fashion-mnist, cifar10, cifar100, pets and tables, not for digits",
        ),
        (["train", "digits", "--penalty", "margin", "--smoothing", "uniform"], "--smoothing is not used beside"),
        (["train", "digits", "--strategy", "ddp"], "--strategy is for several processes"),
        (["train", "digits", "--freeze-epochs", "2"], "--freeze-epochs is for pretrained networks"),
        (["train", "digits", "--weights", "w.safetensors"], "weights w.safetensors are for a timm model"),
        (["study", "digits", "--merge", "--workers", "2"], "--workers is for training"),
        (["study", "digits", "--margin", "error=-1"], "--margin error=-1: give error, ece, nll a size above 0"),
        (["study", "digits", "--margin", "aurc=1"], "--margin aurc=1: give error, ece, nll a size above 0"),
        (["predict", "FOLDER", "a.jpg", "-0"], "-0 is for a list on standard input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_is_not_used_is_refused(
    arguments: list[str], sentence: str, predictions: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    words = {"FILE": str(predictions), "FOLDER": "model"}
    result = run(*(words.get(word, word) for word in arguments))
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_only_regular_files_are_replaced(kind: str, predictions: Path, tmp_path: Path) -> None:
    path = Path("/dev/null") if kind == "device" else tmp_path / "taken"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    before = os.stat(path).st_ino
    with pytest.raises(UserError, match="not a regular file"), whole_file(path):
        pass
    for arguments in (["calibrate", "fit", predictions, "-o", path], ["evaluate", predictions, "--report", path]):
        result = run(*arguments, "--overwrite")
        assert result.exit_code == 2
        assert "not a regular file" in " ".join(result.stderr.split())
    assert os.stat(path).st_ino == before


@pytest.mark.parametrize("command", ["train", "study"])
def test_a_result_within_the_data_is_refused(command: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(photo_folder(tmp_path / "photos", {"cat": 4, "dog": 4}))
    for out in ([], ["--out", "cat/model"]):
        result = run(command, ".", *out)
        assert result.exit_code == 2
        assert "lies within the data folder" in result.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["cat", "dog"]


def test_a_full_output_and_closed_streams_end_without_a_traceback(predictions: Path) -> None:
    with open("/dev/full", "w") as full:
        done = process("doctor", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert "The output could not be written (No space left on device)." in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    shell = f"{sys.executable} -m labelsmooth predict nowhere - <&-; {sys.executable} -m labelsmooth doctor >&-"
    closed = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in closed.stderr
    assert "is not a model's folder" in closed.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_temporary_file(number: signal.Signals, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from labelsmooth import __main__, files\n"
        "__main__._prepare_process()\n"
        "with files.whole_file(Path(sys.argv[1])) as file: print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        assert len(list(tmp_path.iterdir())) == 1
        child.send_signal(number)
        assert child.wait(timeout=30) == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_one_training_at_a_time(tiny_npz: Path, tmp_path: Path) -> None:
    """The second is refused, with and without --overwrite, and the first ends as if alone."""
    out = tmp_path / "model"
    command = [sys.executable, "-m", "labelsmooth", "train", str(tiny_npz), "--epochs", "200", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while not (out / ".training" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        for options in ([], ["--overwrite"], ["--resume"]):
            result = run("train", tiny_npz, "--out", out, *options)
            assert result.exit_code == 2
            assert "Another process is training in" in result.stderr
        assert first.poll() is None
        first.terminate()
        first.wait(timeout=60)
    assert not (out / ".lock").exists()
    stopped = run("train", tiny_npz, "--out", out)
    assert "holds a training that was stopped" in " ".join(stopped.stderr.split())
