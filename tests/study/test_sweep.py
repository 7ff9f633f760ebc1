"""A study at several levels: each is the study alone, the runs are shared, and the page shows all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.report.sweep import render_sweep
from labelsmooth.study import StudyConfig, SweepRecord, load_sweep, merge_sweep, run_shard, run_study, run_sweep
from labelsmooth.study.sweep import levels_of
from labelsmooth.training.spec import RunSpec, Settings

SMALL = {"methods": "label-smoothing", "seeds": 3, "epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def sweep(tiny_npz: Path, folder: Path) -> SweepRecord:
    return run_sweep({"label_noise": [0, 0.5]}, data=tiny_npz, out=folder, **SMALL)


def test_names_of_runs_do_not_change() -> None:
    """The first run of the committed study of the digits."""
    spec = RunSpec("8c3ae0d335deac61", 0, None, "small-cnn", "none", 0, 30, 64, 0.003, Settings(), 0)
    first = json.loads((Path(__file__).parents[2] / "runs" / "digits.json").read_text())["runs"][0]["id"]
    assert spec.id == first


def test_a_level_is_the_study_alone(sweep: SweepRecord, tiny_npz: Path, folder: Path, tmp_path: Path) -> None:
    clean, noisy = sweep.levels
    assert (clean.config.label_noise, noisy.config.label_noise) == (0, 0.5)
    assert len(list((folder / "runs").iterdir())) == 12
    again = run_study(data=tiny_npz, out=folder, label_noise=0.5, **SMALL)
    assert len(list((folder / "runs").iterdir())) == 12, "no run is repeated"
    assert (again.summary, again.comparisons, again.verdict) == (noisy.summary, noisy.comparisons, noisy.verdict)


def test_the_training_labels_are_wrong_and_the_test_labels_are_not(sweep: SweepRecord) -> None:
    clean, noisy = sweep.levels
    assert clean.guess_error == noisy.guess_error
    for one, other in zip(clean.runs, noisy.runs, strict=True):
        assert other.history["train_nll"][-1] > one.history["train_nll"][-1]
        assert other.history["validation_nll"] != one.history["validation_nll"]
    assert noisy.number("plain", "nll_gap").mean > clean.number("plain", "nll_gap").mean, "of the labels trained on"


def test_a_record_is_read_back(sweep: SweepRecord, folder: Path) -> None:
    assert load_sweep(folder) == sweep
    assert repr(sweep) == "SweepRecord(tiny: 2 levels of label_noise)"


def test_the_findings_name_every_level(sweep: SweepRecord) -> None:
    assert sweep.findings[0].startswith("Use ")
    for sentence in sweep.findings[1:-1]:
        assert "label noise 0% (" in sentence
        assert "50% (" in sentence
        assert sentence.count("label noise") == sentence.count(" at "), "the dimension is named once for its values"


def test_the_page_has_a_picture_of_each_metric_and_a_link_to_each_level(sweep: SweepRecord) -> None:
    page = render_sweep(sweep)
    assert page.count("<svg") == 4
    assert "<h2>Against label noise</h2>" in page
    assert "ECE, temperature against label noise: Plain cross-entropy, Label smoothing" in page
    assert 'href="report-label-noise-50.html"' in page


def test_of_two_dimensions_every_combination_is_a_level(tiny_npz: Path, tmp_path: Path) -> None:
    over = {"train_size": [0.5, 1], "epochs": [1, 2]}
    sweep = run_sweep(over, data=tiny_npz, out=tmp_path, methods="label-smoothing", seeds=1)
    assert [sweep.label(level) for level in sweep.levels] == [
        "share of the training part 50%, epochs 1",
        "share of the training part 50%, epochs 2",
        "share of the training part 100%, epochs 1",
        "share of the training part 100%, epochs 2",
    ]
    assert [level.data.train for level in sweep.levels] == [72, 72, 144, 144]
    assert {len(level.runs[0].history["train_nll"]) for level in sweep.levels} == {1, 2}
    page = render_sweep(sweep)
    assert page.count("<h2>Epochs") == 2, "a row of pictures for each value of the other dimension"


def test_shards_and_their_merge(sweep: SweepRecord, tiny_npz: Path, tmp_path: Path) -> None:
    over = {"label_noise": [0, 0.5]}
    options = {"data": tiny_npz, "out": tmp_path, **SMALL}
    assert run_shard(1, 2, over=over, **options).total == 12
    missing = r"6 of 12 runs are missing .*: Label smoothing, label noise 0%, seed 0; .*, label noise 50%, seed 2"
    with pytest.raises(UserError, match=missing):
        merge_sweep(over, **options)
    run_shard(2, 2, over=over, **options)
    merged = merge_sweep(over, **options)
    assert [level.summary for level in merged.levels] == [level.summary for level in sweep.levels]


def test_a_noise_matrix(tiny_npz: Path, tmp_path: Path) -> None:
    """It decides about the noisy level alone; a clean level is the run without it."""
    matrix = np.array([[8, 2, 0], [1, 8, 1], [0, 2, 8]])
    np.savetxt(tmp_path / "confusion.csv", matrix, delimiter=",")
    quick = {"data": tiny_npz, "out": tmp_path, "methods": "plain", "seeds": 1, "epochs": 1, "batch_size": 32}
    over = {"label_noise": [0, 0.3]}
    clean, noisy = run_sweep(over, **quick).levels
    command = ["study", str(tiny_npz), "--methods", "plain", "--seeds", "1", "--epochs", "1", "--batch-size", "32"]
    options = ["--label-noise", "0,0.3", "--noise-matrix", str(tmp_path / "confusion.csv"), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*command, *options])
    assert result.exit_code == 0, result.output
    assert "Wrong labels follow the given confusion matrix" in result.stdout
    confused = load_sweep(tmp_path)
    assert confused.levels[0].runs[0].id == clean.runs[0].id
    assert confused.levels[1].runs[0].id != noisy.runs[0].id
    assert confused.levels[1].config.noise_matrix == matrix.tolist()
    page = " ".join((tmp_path / "report-label-noise-30.html").read_text().split())
    assert "30% of the training labels are wrong, as the given confusion matrix says." in page
    page = " ".join((tmp_path / "report-label-noise-0.html").read_text().split())
    assert "training labels are wrong" not in page
    alone = run_study(label_noise=0.3, noise_matrix=matrix, **quick)
    assert alone.runs[0].id == confused.levels[1].runs[0].id
    with pytest.raises(UserError, match="label_noise=0 leaves no use for the noise matrix"):
        run_study(noise_matrix=matrix, **quick)
    with pytest.raises(UserError, match="noise_matrix is of 2 classes"):
        run_shard(1, 1, label_noise=0.3, noise_matrix=matrix[:2, :2], **quick)


def test_progress_names_the_level(tiny_npz: Path, tmp_path: Path) -> None:
    class Titles(Progress):
        def run(self, title: str, seed: int, worker: int = 0, epochs: int = 1) -> None:
            titles.append(title)

    titles: list[str] = []
    over = {"label_noise": [0, 0.5], "train_size": [1]}
    run_shard(1, 1, None, Titles(), over=over, data=tiny_npz, out=tmp_path, methods="plain", seeds=1, epochs=1)
    assert titles == ["Plain cross-entropy, label noise 0%", "Plain cross-entropy, label noise 50%"]


def test_the_command(sweep: SweepRecord, tiny_npz: Path, folder: Path) -> None:
    options = ["--methods", "label-smoothing", "--seeds", "3", "--epochs", "2", "--batch-size", "32"]
    command = ["study", str(tiny_npz), "--out", str(folder), *options, "--label-noise", "0,0.5"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "label noise 50%" in result.stdout
    pages = {path.name for path in folder.glob("*.html")}
    assert pages == {"report.html", "report-label-noise-0.html", "report-label-noise-50.html"}
    result = CliRunner().invoke(app, [*command, "--json"])
    levels = json.loads(result.stdout)["levels"]
    assert np.allclose(
        [row["mean"] for level in levels for row in level["summary"]],
        [row.mean for level in sweep.levels for row in level.summary],
    )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--label-noise", "0,lots"], "--label-noise 0,lots is not a number"),
        (["--label-noise", "0,1.5"], "--label-noise 1.5 must lie in [0, 1]"),
        (["--train-size", "0"], "leave no right label to learn from"),
        (["--label-noise", "0,0.5", "--plan"], "--plan reads one study; give one value of label_noise"),
        (["--train-size", "1,1"], "--train-size [1.0, 1.0] must be a list of different values"),
    ],
)
def test_refused(tiny_npz: Path, tmp_path: Path, more: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["study", str(tiny_npz), "--out", str(tmp_path), *more])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())


def test_an_unknown_dimension() -> None:
    with pytest.raises(UserError, match="There is no dimension 'seeds'; choose among label_noise, train_size"):
        levels_of(StudyConfig(), {"seeds": [1, 2]})
