"""The commands around a model's folder, from the outside: output, exit codes, and sentences in place of tracebacks."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import onnx
import pytest
from click.testing import Result
from photo_folder import photo_folder
from typer.testing import CliRunner

from labelsmooth import models
from labelsmooth.cli import app


def run(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def test_a_table_for_people(photo_model: Path, photos: Path) -> None:
    result = run("predict", photo_model, photos)
    assert result.exit_code == 0, result.output
    assert "6 images: 6 answered." in result.stderr
    (first, *_) = models.load(photo_model).predict(photos)
    assert first.label in result.stdout
    assert f"{first.confidence:.1%}" in result.stdout


def test_json_lines(photo_model: Path, photos: Path) -> None:
    (photos / "cats/bad.jpg").write_text("text")
    result = run("predict", photo_model, photos, "--json", "--top", 2)
    assert result.exit_code == 1
    assert "7 images: 6 answered, 1 could not be read." in result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    expected = models.load(photo_model).predict(photos, top=2)
    assert [row["path"] for row in rows] == [one.path for one in expected]
    assert [row["label"] for row in rows] == [one.label for one in expected]
    assert rows[0]["top"][1] == {"class": expected[0].top[1][0], "probability": expected[0].top[1][1]}
    assert rows[3] == {
        "path": str(photos / "cats/bad.jpg"),
        "label": None,
        "confidence": None,
        "top": [],
        "abstained": False,
        "error": "not an image",
        "classes": None,
        "typicality": None,
        "unlike": False,
    }


def test_csv_that_no_spreadsheet_takes_for_a_formula(
    photo_model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos / "cats")
    names = ["=cmd.png", "+1.png", "-1.png", "@x.png", "a,b.png", 'q"\nr.png', "\tt.png", "\udcff.png"]
    for name in names:
        shutil.copy("0.png", name)
    result = run("predict", photo_model, "--csv", "--top", 99, "--", *names[:-1], ".", "=gone.png")
    assert result.exit_code == 1
    head, *rows = csv.reader(io.StringIO(result.stdout))
    assert head[:5] == ["path", "label", "confidence", "abstained", "error"]
    assert head[5:7] == ["unlike", "typicality"]
    assert head[7:] == [f"{name}_{k}" for k in range(1, 5) for name in ("class", "probability")]
    assert [row[0] for row in rows[:7]] == [f"'{name}" if name[0] in "=+-@\t" else name for name in names[:7]]
    assert rows[-1][0] == "'=gone.png"
    assert rows[-1][4] == "No such file or directory"
    assert {len(row) for row in rows} == {15}
    assert any(row[0] == "\\udcff.png" for row in rows)
    # "=Bengal" is the name of a class.
    assert {cell for row in rows for cell in row if "Bengal" in cell} == {"'=Bengal"}
    confidences = [float(row[2]) for row in rows if row[2]]
    assert min(confidences) > 0.25


def test_a_table_shows_no_markup_and_no_control_characters(photo_model: Path, photos: Path) -> None:
    shutil.copy(photos / "cats/0.png", photos / "[red]\x1b[31m.png")
    result = run("predict", photo_model, photos / "[red]\x1b[31m.png", "--top", 4, env={"COLUMNS": "200"})
    assert "[red]\\x1b[31m.png" in result.stdout
    assert "<i>Sphynx" in result.stdout


def test_a_list_on_standard_input(photo_model: Path, photos: Path) -> None:
    listed = f"{photos}/cats/1.png\r\n\n{photos}/dogs\n"
    result = run("predict", photo_model, "-", photos / "cats/2.png", "--json", input=listed)
    assert result.exit_code == 0, result.output
    names = [Path(json.loads(line)["path"]).name for line in result.stdout.splitlines()]
    assert names == ["1.png", "3.png", "4.png", "5.png", "2.png"]


def test_abstaining(photo_model: Path, photos: Path) -> None:
    confidences = [one.confidence for one in models.load(photo_model).predict(photos)]
    threshold = sorted(confidences)[2]
    below = run("predict", photo_model, photos, "--json", "--abstain-below", threshold)
    share = run("predict", photo_model, photos, "--json", "--coverage", 4 / 6)
    assert below.exit_code == share.exit_code == 0
    assert below.stdout == share.stdout
    rows = [json.loads(line) for line in below.stdout.splitlines()]
    assert [row["abstained"] for row in rows] == [confidence < threshold for confidence in confidences]
    assert [row["label"] is None for row in rows] == [row["abstained"] for row in rows]
    assert "6 images: 4 answered, 2 abstained." in below.stderr
    assert run("predict", photo_model, photos, "--coverage", 0.5).stdout.count("abstains") == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--csv", "--json"], "Give --csv or --json, not both."),
        (["--coverage", "0.5", "--abstain-below", "0.5"], "Give --abstain-below or --coverage, not both."),
        (["--coverage", "0"], "coverage 0.0 must lie in (0, 1]"),
        (["--abstain-below", "7"], "abstain-below 7.0 must lie in [0, 1]"),
        (["--top", "0"], "--top 0 is too small"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_predict_refuses(photo_model: Path, photos: Path, arguments: list[str], sentence: str) -> None:
    result = run("predict", photo_model, photos, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_nothing_to_predict(photo_model: Path, tmp_path: Path) -> None:
    for result in (run("predict", photo_model, tmp_path), run("predict", photo_model, "-", "--csv", input="")):
        assert result.exit_code == 2
        assert "There is no image in" in result.stderr
    result = run("predict", tmp_path, tmp_path)
    assert result.exit_code == 2
    assert "is not a model's folder" in result.stderr


def test_export(digits_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(digits_model, tmp_path / "model"))
    result = run("export", folder)
    assert result.exit_code == 0, result.output
    assert "images (uint8, N x 1 x 8 x 8) to probabilities and logits (float32, N x 10)" in result.stdout
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
    again = run("export", folder)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run("export", folder, "--overwrite").exit_code == 0
    assert run("export", folder, "--format", "torchscript").exit_code == 0
    assert run("export", folder, "-o", tmp_path / "other.pt2").exit_code == 0
    assert {path.name for path in folder.glob("model.*")} == {"model.safetensors", "model.onnx", "model.pt"}
    wrong = run("export", folder, "--format", "tflite", "-o", tmp_path / "x")
    assert wrong.exit_code == 2
    assert "'tflite' is not one of 'onnx'" in " ".join(wrong.stderr.replace("│", " ").split())


def test_evaluate_a_models_folder(digits_model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("evaluate", digits_model, "digits", "--resamples", 100, "--report", page)
    assert result.exit_code == 0, result.output
    assert f"{digits_model} on digits (test part): 719 rows" in result.stdout
    assert "Smooth ECE" in result.stdout
    assert "on digits (test part)" in page.read_text()
    assert "<svg" in page.read_text()
    assert "--overwrite" in run("evaluate", digits_model, "digits", "--report", page).stderr
    alone = run("evaluate", digits_model)
    assert alone.exit_code == 2
    assert "name the DATA to measure it on" in alone.stderr
    file = run("evaluate", page, "digits")
    assert file.exit_code == 2
    assert "is not a model's folder; DATA 'digits' is for one." in file.stderr


def test_calibrate_a_models_folder(digits_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(digits_model, tmp_path / "model"))
    (folder / "calibrator.json").write_text("damaged")
    result = run("calibrate", folder, "digits", "--method", "vector")
    assert result.exit_code == 0, result.output
    assert "VectorScaling(n_classes=10), fitted on 359 images of digits (validation part), is" in result.stdout
    assert type(models.load(folder).calibrator).__name__ == "VectorScaling"
    refused = run("calibrate", folder, "digits", "--part", "train")
    assert refused.exit_code == 2
    assert "where it is over-confident" in refused.stderr
    assert "the previous calibrator is applied" in run("calibrate", folder, "--undo").stdout
    assert (folder / "calibrator.json").read_text() == "damaged"
    assert "has no calibration to undo" in run("calibrate", folder, "--undo").stderr
    assert "--undo takes no DATA" in run("calibrate", folder, "digits", "--undo").stderr
    assert "Name the DATA to calibrate on" in run("calibrate", folder).stderr
    assert "is not a model's folder" in run("calibrate", tmp_path, "digits").stderr
    assert "Fit a calibrator on predictions" in run("calibrate", "--help").stdout


def test_predictions_of_class_folders_are_evaluated_as_they_are(photo_model: Path, tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", {"Abyssinian": 12, "Birman": 12})
    table = tmp_path / "predictions.csv"
    table.write_text(run("predict", photo_model, photos, "--csv").stdout)
    result = run("evaluate", table, "--json", "--resamples", 100)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    wrong = [Path(one.path).parent.name != one.label for one in models.load(photo_model).predict(photos)]
    assert record["metrics"]["error"]["value"] == pytest.approx(sum(wrong) / 24)
    assert record["remarks"][0].startswith("Read labels from the folder of each path")


def test_a_calibration_has_a_page_and_a_folder_may_be_called_model(
    digits_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(digits_model, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    result = run("calibrate", "model", "digits", "--method", "temperature", "--report", "page.html")
    assert result.exit_code == 0, result.output
    assert "is applied now" in result.output
    page = Path("page.html").read_text()
    assert "Each fifth of the rows is calibrated by temperature scaling fitted on the others." in page
    assert "uncalibrated: ECE" in page
    assert run("calibrate", "model", "digits", "--report", "page.html").exit_code == 2
    assert "--report is not used with --undo" in run("calibrate", "model", "--undo", "--report", "x.html").output
