"""Methods by name, and with a strength of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.errors import UserError
from labelsmooth.report.study import render_study
from labelsmooth.study import load_study
from labelsmooth.study.methods import METHODS, find_method
from labelsmooth.study.planned import main_method
from labelsmooth.training.spec import Settings


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("label-smoothing:0.3", Settings(epsilon=0.3)),
        ("label-smoothing:-0.3", Settings(epsilon=-0.3, smoothing="negative")),
        ("others:0.2", Settings(epsilon=0.2, smoothing="others")),
        ("weight-decay:0.5", Settings(weight_decay=0.5)),
        ("early-stopping:7", Settings(patience=7)),
        ("margin:0.02", Settings(penalty="margin", strength=0.02)),
    ],
)
def test_a_strength_of_ones_own(name: str, settings: Settings) -> None:
    method = find_method(name)
    assert method.name == name
    assert set(method.grid) == {settings}, "nothing is left to tune"


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if len(set(method.grid)) > 1 and name != "all"]
)
def test_every_method_of_the_catalogue_takes_a_strength(name: str) -> None:
    weak = find_method(name).grid[0].changes()
    (value,) = {str(v) for key, v in weak.items() if v != find_method(name).grid[2].changes()[key]}
    assert find_method(f"{name}:{value}").grid[1].changes() == weak


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("smoothing:0.1", "There is no method 'smoothing'"),
        ("plain:1", "The method plain has no single strength"),
        ("all:1", "The method all has no single strength"),
        ("dropout:much", "The strength of 'dropout:much' is not a number; give for example dropout:0.5"),
        ("dropout:", "is not a number"),
        ("early-stopping:1.5", "is not a number; give for example early-stopping:5"),
        ("label-smoothing:1.5", r"epsilon=1.5 must lie in \[0, 1\]"),
    ],
)
def test_refused(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_method(name)


def test_the_main_method_is_the_strength_nearest_to_the_default() -> None:
    assert main_method(["plain", "dropout", "label-smoothing:0.3", "label-smoothing:0.05"]) == "label-smoothing:0.05"
    assert main_method(["plain", "label-smoothing:0.05", "label-smoothing"]) == "label-smoothing"


def test_a_study_against_epsilon(tiny_npz: Path, tmp_path: Path) -> None:
    options = ["--methods", "plain,label-smoothing", "--epsilon=-0.1,0.1,0.3", "--seeds", "2", "--epochs", "1"]
    result = CliRunner().invoke(app, ["study", str(tiny_npz), "--out", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    study = load_study(tmp_path)
    names = [method.name for method in study.methods]
    assert names == ["plain", "label-smoothing:-0.1", "label-smoothing:0.1", "label-smoothing:0.3"]
    assert {row.method for row in study.comparisons if row.family == "primary"} == {"label-smoothing:0.1"}
    page = render_study(study)
    assert "Error against epsilon: no calibrator" in page
    assert "NLL against epsilon: no calibrator, temperature" in page
    assert "Does label smoothing 0.1 help on tiny?" in page
