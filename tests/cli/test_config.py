"""Options in a YAML file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from labelsmooth.cli import app


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, words)])
    return result.exit_code, " ".join(result.output.split())


def test_a_model_keeps_its_options_and_they_repeat_it(tiny_npz: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"data: {tiny_npz}\nepochs: 2\nbatch_size: 32\nepsilon: 0.05\n")
    code, output = run("train", "--config", file, "--epochs", 1, "--out", tmp_path / "a")
    assert code == 0, output
    assert "Epoch 1/1: training loss" in output
    kept = yaml.safe_load((tmp_path / "a" / "train.yaml").read_text())
    assert kept == {
        "data": str(tiny_npz),
        "backbone": "small-cnn",
        "epsilon": 0.05,
        "epochs": 1,
        "batch-size": 32,
        "lr": 0.003,
    }
    code, output = run("train", "--config", tmp_path / "a" / "train.yaml", "--out", tmp_path / "b")
    assert code == 0, output
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_a_study_too(tiny_npz: Path, tmp_path: Path) -> None:
    options = ("--epochs", 1, "--seeds", 1, "--methods", "plain", "--workers", 1)
    code, output = run("study", tiny_npz, *options, "--out", tmp_path / "s")
    assert code == 0, output
    kept = yaml.safe_load((tmp_path / "s" / "study.yaml").read_text())
    assert kept["methods"] == "plain"
    code, output = run("study", "--config", tmp_path / "s" / "study.yaml", "--out", tmp_path / "s")
    assert code == 0, output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch: 3", "there is no option 'epoch'; there are backbone, balance, batch-size"),
        ("- epochs", "is not a list of options, one a line; write for example 'epochs: 8'"),
        ("model: {epochs: 3}", "there is no option 'model'"),
        ("epochs: {a: 3}", "epochs is a group of options; write each option on a line of its own"),
        ("epochs: [", "is not YAML"),
        ("data: digits\nepochs: many", "Invalid value for '--epochs'"),
        ("data: digits\nfreeze_epochs: 2", "--freeze-epochs is for pretrained networks"),
    ],
)
def test_what_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    code, output = run("train", "--config", file, "--out", tmp_path / "m")
    assert code == 2
    assert sentence in output.replace("│ ", "").replace(" │", "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    code, output = run("train", "--config", tmp_path / "none.yaml")
    assert code == 2
    assert "cannot be read" in output
