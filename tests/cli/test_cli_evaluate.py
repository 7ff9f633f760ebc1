"""The commands evaluate and calibrate, from the outside."""

import json
import re
import shlex
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.metrics.catalogue import SUMMARY
from labelsmooth.predictions import read


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("val", "test"):
        z = 1.5 * rng.normal(size=(600, 4))
        np.savez(tmp_path / f"{name}.npz", logits=3 * z, labels=(z + rng.gumbel(size=z.shape)).argmax(1))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_evaluate_prints_a_verdict_and_a_table(files):
    result = run("evaluate", files / "test.npz", "--resamples", 100)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Over-confident: mean confidence is ")
    assert "Smooth ECE" in result.output
    assert "600 rows of logits" in result.output


def test_a_model_that_only_guesses(files):
    """The confidence of a guess is right, so it is calibrated, and still of no use."""
    rng = np.random.default_rng(0)
    lines = [f"{int(rng.random() < 0.7)},{p:.3f}" for p in rng.uniform(0.65, 0.75, 400)]
    (files / "guess.csv").write_text("\n".join(["label,p1", *lines]))
    said = "Not significantly better than guessing: the error is 29.8%, that of always naming the most frequent class"
    options = ("--resamples", 100, "--report", files / "guess.html")
    assert run("evaluate", files / "guess.csv", *options).output.startswith(f"{said} 29.8%. No sign of miscalibration")
    assert f'<p class="lead worse">{said}' in (files / "guess.html").read_text()
    short = json.loads(run("evaluate", files / "guess.csv", "--resamples", 100, "--json").stdout)
    assert (round(short["guess_error"], 6), short["sentence"][: len(said)]) == (0.2975, said)
    for name in ("test.npz", "guess.csv"):
        of_class = ("--class", 1) if name == "guess.csv" else ()
        assert "guessing" not in run("evaluate", files / name, *of_class, "--resamples", 100).output


def test_a_value_above_its_interval_is_explained(files):
    """The predictions are calibrated, so the plug-in ECE is chance alone."""
    with np.load(files / "test.npz") as file:
        np.savez(files / "calibrated.npz", logits=file["logits"] / 3, labels=file["labels"])
    told = run("evaluate", files / "calibrated.npz", "--resamples", 200, "--level", 0.5).output
    assert "the value lies above its interval, because it counts chance as miscalibration too" in told
    with np.load(files / "calibrated.npz") as file:
        np.savez(files / "sites.npz", **file, site=np.arange(600) % 4)
    options = ("--by", "site", "--resamples", 200, "--level", 0.5, "--report", files / "page.html", "--json")
    groups = json.loads(run("evaluate", files / "sites.npz", *options).stdout)["groups"]
    above = [group["ece"]["value"] > group["ece"]["high"] for _, group in groups.values()]
    table = (files / "page.html").read_text().split("<h2>Groups</h2>")[1].split("</table>")[0]
    assert table.count(" *") == sum(above) > 0
    assert "lies above its interval" not in run("evaluate", files / "test.npz", "--resamples", 200).output


def test_evaluate_as_json_with_a_report(files):
    result = run("evaluate", files / "test.npz", "--resamples", 100, "--json", "--report", files / "page.html")
    record = json.loads(result.stdout)
    assert record["rows"] == 600
    assert record["metrics"]["ece"]["low"] > 0.05
    page = (files / "page.html").read_text()
    assert page.count("<svg role=") == 4
    assert '<p class="lead worse">Over-confident' in page
    assert "http:" not in re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", page)  # it opens offline
    again = run("evaluate", files / "test.npz", "--report", files / "page.html")
    assert again.exit_code == 2
    assert "--overwrite" in again.output


def test_one_class_and_prediction_sets(files):
    page = files / "page.html"
    result = run("evaluate", files / "test.npz", "--class", 2, "--sets", 0.9, "--resamples", 100, "--report", page)
    assert result.exit_code == 0, result.output
    assert "the mean probability of 2" in result.output
    assert "Against 90%" in result.output
    text = page.read_text()
    assert "<h2>Prediction sets</h2>" in text
    assert text.count("<svg role=") == 2
    sets_from = run("evaluate", files / "test.npz", "--sets", 0.9, "--sets-from", files / "val.npz", "--json")
    assert json.loads(sets_from.stdout)["sets"]["fitted_on"].endswith("val.npz.")
    assert "--sets-from is for --sets" in run("evaluate", files / "test.npz", "--sets-from", files / "val.npz").output


def test_fit_apply_compare(files):
    assert run("calibrate", "fit", files / "val.npz", "-o", files / "cal.json", "--method", "best").exit_code == 0
    applied = run("calibrate", "apply", files / "cal.json", files / "test.npz", "-o", files / "out.npz")
    assert applied.exit_code == 0, applied.output
    assert applied.output.startswith("Temperature scaling applied to 600 rows")
    result = run("evaluate", files / "out.npz", "--compare", files / "test.npz", "--resamples", 100, "--json")
    assert json.loads(result.stdout)["differences"]["nll"]["high"] < 0
    refused = run("calibrate", "fit", files / "val.npz", "-o", files / "cal.json")
    assert refused.exit_code == 2
    assert "exists" in refused.output


def test_the_message_of_a_fit_has_one_space_between_them(files):
    (files / "right.csv").write_text("label,p0,p1\n" + 30 * "0,0.9,0.1\n1,0.1,0.9\n")
    told = run("calibrate", "fit", files / "right.csv", "-o", files / "right.json")
    assert "60 rows" in told.output
    assert "No row is misclassified" in told.output
    assert "  " not in told.output


def test_a_fit_has_a_report_of_rows_that_it_has_not_seen(files):
    result = run("calibrate", "fit", files / "val.npz", "-o", files / "cal.json", "--report", files / "fit.html")
    assert result.exit_code == 0, result.output
    page = (files / "fit.html").read_text()
    assert "Is it calibrated?" in page
    assert "Each fifth of the rows is calibrated by temperature scaling fitted on the others." in page
    assert "▼ better" in page  # the logits are three times too large
    refused = run("calibrate", "fit", files / "val.npz", "-o", files / "new.json", "--report", files / "fit.html")
    assert refused.exit_code == 2
    assert not (files / "new.json").exists()


def test_the_level_is_written_as_it_was_given(files):
    options = ("--level", 0.995, "--resamples", 200, "--compare", files / "test.npz", "--report", files / "page.html")
    told = run("evaluate", files / "test.npz", *options).output
    page = (files / "page.html").read_text()
    assert told.count("99.5% interval") == 3
    assert page.count("99.5% interval") == 7
    assert "100% interval" not in told + page


def test_an_infinite_nll_is_explained_and_a_calibrator_makes_it_finite(files):
    (files / "sure.csv").write_text("label,p0,p1\n" + 30 * "0,1,0\n1,0,1\n" + 5 * "0,0,1\n")
    told = run("evaluate", files / "sure.csv", "--resamples", 100).output
    assert "The NLL is infinite: a label has the probability 0." in told
    assert "The NLL is infinite" not in run("evaluate", files / "test.npz", "--resamples", 100).output
    assert run("calibrate", "fit", files / "sure.csv", "-o", files / "cal.json").exit_code == 0
    assert run("calibrate", "apply", files / "cal.json", files / "sure.csv", "-o", files / "out.csv").exit_code == 0
    after = json.loads(run("evaluate", files / "out.csv", "--resamples", 100, "--json").stdout)
    assert after["metrics"]["nll"]["value"] < 1


def test_the_order_of_confidence_by_itself(files):
    """Against scikit-learn; not between models, whose errors are others to find, and not without an error."""
    with np.load(files / "test.npz") as file:
        z, y = file["logits"], file["labels"]
    expected = roc_auc_score(z.argmax(1) == y, torch.softmax(torch.from_numpy(z), 1).amax(1))
    options = ("--resamples", 100, "--compare", files / "test.npz", "--json")
    record = json.loads(run("evaluate", files / "test.npz", *options).stdout)
    estimate = record["metrics"]["failure_auroc"]
    assert estimate["value"] == pytest.approx(expected, abs=1e-9)
    assert estimate["low"] < expected < estimate["high"]
    assert "failure_auroc" not in record["differences"]
    assert "AUROC of failure" in run("evaluate", files / "test.npz", "--resamples", 100).output
    rows = [*(30 * ["0,0.9,0.1,a", "1,0.2,0.8,a"]), *(30 * ["0,0.7,0.3,b", "1,0.6,0.4,b"])]
    (files / "groups.csv").write_text("\n".join(["label,p0,p1,where", *rows]))
    told = run("evaluate", files / "groups.csv", "--by", "where", "--report", files / "groups.html")
    assert told.output.count("AUROC of failure  ") == 2, "group a has no error"
    (files / "right.csv").write_text("label,p0,p1\n" + 30 * "0,0.9,0.1\n1,0.2,0.8\n")
    assert "failure_auroc" not in json.loads(run("evaluate", files / "right.csv", "--json").stdout)["metrics"]


def test_predictions_compared_with_themselves_are_identical(files):
    told = run("evaluate", files / "test.npz", "--compare", files / "test.npz", "--resamples", 100).output
    assert told.count("identical") == len(SUMMARY)
    assert "inconclusive" not in told
    assert "Differences of Error: Bonett and Price's interval" in told
    assert "Differences of NLL, Brier score, Confidence gap" in told


def test_a_report_compares_groups_and_escapes(files):
    """Names come from outside: a group called like a tag is text."""
    with np.load(files / "test.npz") as file:
        group = np.where(np.arange(600) % 2, "<b>north</b>", "south & co")
        np.savez(files / "grouped.npz", logits=file["logits"], labels=file["labels"], site=group)
        np.savez(files / "other.npz", logits=file["logits"] / 3, labels=file["labels"])
    options = ("--by", "site", "--compare", files / "other.npz", "--report", files / "page.html", "--resamples", 100)
    result = run("evaluate", files / "grouped.npz", *options)
    assert result.exit_code == 0, result.output
    page = (files / "page.html").read_text()
    assert "&lt;b&gt;north&lt;/b&gt;" in page
    assert "<b>north" not in page
    assert page.count("<svg role=") == 4
    assert "▲ worse" in page
    assert "further from 0" in page
    assert "other.npz: ECE" in page


def test_a_report_reads_the_file_once(files, monkeypatch):
    opened = []
    monkeypatch.setattr(
        sys.modules["labelsmooth.predictions.evaluate"],
        "open_predictions",
        lambda path, *a, **k: (opened.append(path), read.open_predictions(path, *a, **k))[1],
    )
    run("evaluate", files / "test.npz", "--resamples", 100, "--report", files / "page.html")
    assert (files / "page.html").exists()
    assert opened == [files / "test.npz"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "nothing.npz"), "is not a file"),
        (("evaluate", "test.npz", "--logits", "--probabilities"), "not both"),
        (("evaluate", "test.npz", "--probabilities"), "no array 'probabilities'"),
        (("evaluate", "test.npz", "--by", "colour"), "no array 'colour'"),
        (("evaluate", "test.npz", "--level", "95"), "between 0 and 1"),
        (("calibrate", "fit", "val.npz", "-o", "x.json", "--method", "magic"), "'magic' is not a calibrator"),
        (("calibrate", "apply", "nothing.json", "val.npz", "-o", "x.npz"), "nothing.json"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(files, monkeypatch, arguments, words):
    monkeypatch.chdir(files)
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_the_next_command_has_the_options_of_this_one_and_can_be_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    labels = np.where(rng.random(400) < 1 / (1 + np.exp(-z)), "yes", "no")
    p = 1 / (1 + np.exp(-4 * z))
    rows = [f"{label};{100 * q:.1f}\n".replace(".", ",") for label, q in zip(labels, p, strict=True)]
    (tmp_path / "p.csv").write_text("happened;how sure\n" + "".join(rows))
    scores = ("--probability-columns", "how sure", "--positive-class", "yes", "--percent")
    evaluated = run("evaluate", "p.csv", "--label-column", "happened", *scores)
    command = evaluated.output.splitlines()[-1].partition("labelsmooth ")[2]
    assert run(*shlex.split(command)).exit_code == 0
    assert json.loads((tmp_path / "calibrator.json").read_text())["learnt"]["temperature_"] == pytest.approx(4, rel=0.3)


def test_confidences_alone_are_not_sent_to_a_calibrator(tmp_path):
    rows = "".join(f"{k % 2},1,0.9\n" for k in range(100))
    (tmp_path / "p.csv").write_text(f"label,prediction,confidence\n{rows}")
    result = run("evaluate", tmp_path / "p.csv")
    assert "Over-confident" in result.output
    assert "calibrate" not in result.output


def test_one_row_is_one_example(tmp_path):
    (tmp_path / "p.csv").write_text("label,p0,p1\n0,0.9,0.1\n")
    assert "Clopper-Pearson), 1 example." in run("evaluate", tmp_path / "p.csv").output


def test_best_of_a_handful_of_rows_is_no_calibrator(tmp_path):
    (tmp_path / "p.csv").write_text("label,p0,p1\n0,0.9,0.1\n1,0.2,0.8\n")
    result = run("calibrate", "fit", tmp_path / "p.csv", "--method", "best", "-o", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    assert "at least 20" in " ".join(result.output.split())
