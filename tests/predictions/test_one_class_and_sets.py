"""Evaluation of one class against the others, of prediction sets, and of what 'labelsmooth predict --csv' writes."""

import csv

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.calibrate import PredictionSets
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.predictions import SetOptions, evaluate, open_predictions

SETTINGS = Interval(resamples=100)
NAMES = ("cat", "dog", "fox")


@pytest.fixture
def model(tmp_path):
    """An over-confident model's probabilities of three classes as a table and an .npz, and other rows of it."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, rows in (("test", 500), ("held-out", 300)):
        z = 1.5 * rng.normal(size=(rows, 3))
        y = (z + rng.gumbel(size=z.shape)).argmax(1)
        p = np.exp(2 * z)
        p /= p.sum(1, keepdims=True)
        arrays[name] = p, y
        np.savez(tmp_path / f"{name}.npz", probabilities=p, labels=y)
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["truth", *(f"prob_{c}" for c in NAMES)])
            table.writerows([NAMES[label], *row] for label, row in zip(y, p, strict=True))
    return tmp_path, arrays


@pytest.mark.parametrize(("source", "name"), [("test.csv", "dog"), ("test.npz", "1")])
def test_one_class_is_measured_as_the_metrics_do_with_its_scope(model, source, name):
    folder, arrays = model
    p, y = arrays["test"]
    result = evaluate(folder / source, of_class=name, interval=SETTINGS, curves=True)
    assert set(result.metrics) == {"ece", "smooth_ece", "ks", "confidence_gap"}
    for metric in (metrics.ece, metrics.smooth_ece, metrics.ks):
        expected = metric(p, y, scope=1, interval=SETTINGS)
        assert result.metrics[metric.__name__].value == pytest.approx(expected.value, abs=1e-12)
        assert result.metrics[metric.__name__].low == pytest.approx(expected.low, abs=1e-12)
    gap = metrics.per_class(p, y, interval=SETTINGS)[1].gap
    assert result.metrics["confidence_gap"].value == pytest.approx(gap.value, abs=1e-12)
    assert result.metrics["confidence_gap"].high == pytest.approx(gap.high, abs=1e-12)
    assert f"the mean probability of {name}" in result.sentence
    curve = metrics.reliability_curve(p, y, scope=1)
    assert result.curves.reliability.accuracy == pytest.approx(curve.accuracy)


def test_logits_and_probabilities_of_one_class_agree_and_unknown_classes_are_named(model):
    folder, arrays = model
    p, y = arrays["test"]
    np.savez(folder / "logits.npz", logits=np.log(p) + 3.0, labels=y)
    one, two = (evaluate(folder / name, of_class="2", interval=SETTINGS) for name in ("test.npz", "logits.npz"))
    assert one.metrics["ks"].value == pytest.approx(two.metrics["ks"].value, abs=1e-12)
    with pytest.raises(UserError, match="no class 'owl'; its classes are cat, dog, fox"):
        evaluate(folder / "test.csv", of_class="owl")
    with pytest.raises(UserError, match="has the classes 0 to 2, not 3"):
        evaluate(folder / "test.npz", of_class="3")
    (folder / "top.csv").write_text("confidence,correct\n0.9,1\n0.8,0\n")
    with pytest.raises(UserError, match="predicted class only"):
        evaluate(folder / "top.csv", of_class="1")


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_sets_from_other_rows_are_those_of_prediction_sets(model, method):
    folder, arrays = model
    (p, y), (q, truth) = arrays["test"], arrays["held-out"]
    options = SetOptions(0.8, method, folder / "held-out.csv")
    sets = evaluate(folder / "test.csv", sets=options, interval=SETTINGS).sets
    expected = PredictionSets(0.2, method).fit(probabilities=q, labels=truth).summary(probabilities=p, labels=y)
    assert sets.coverage.value == pytest.approx(expected.coverage)
    assert sets.coverage.low < expected.coverage < sets.coverage.high
    assert sets.size.value == pytest.approx(expected.size)
    assert sets.size.low <= expected.size <= sets.size.high
    assert [e.value for e in sets.class_coverage] == pytest.approx(expected.class_coverage)
    assert np.average(sets.class_size, weights=np.bincount(y)) == pytest.approx(expected.size)
    assert sum(sets.sizes) == 500
    assert "the 300 rows of" in sets.fitted_on


def test_without_other_rows_each_fifth_gets_the_threshold_of_the_others(model):
    folder, _ = model
    sets = evaluate(folder / "test.npz", sets=SetOptions(0.9), interval=SETTINGS).sets
    assert sets.coverage.low < 0.9 < sets.coverage.high
    assert "cross-validation" in sets.fitted_on
    opened = SetOptions(0.9, calibration=open_predictions(folder / "test.npz"))
    given = SetOptions(0.9, calibration=folder / "test.npz")
    expected = evaluate(folder / "test.npz", sets=given, interval=SETTINGS).sets
    assert evaluate(folder / "test.npz", sets=opened, interval=SETTINGS).sets == expected
    with pytest.raises(UserError, match=r"such as 0\.9, not 90"):
        SetOptions(90)
    np.savez(folder / "two.npz", probabilities=np.full((9, 2), 0.5), labels=np.zeros(9, int))
    with pytest.raises(UserError, match=r"2 classes and .* 3: the rows of prediction sets must be of the same model"):
        evaluate(folder / "test.npz", sets=SetOptions(0.9, calibration=folder / "two.npz"), interval=SETTINGS)


def predicted(path, rows, further=()):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "confidence", "abstained", "error", *further])
        table.writerows(rows)
    return path


def test_predictions_of_photos_in_class_folders_are_read_as_they_are(tmp_path):
    rows = [[f"photos/{'cat' if k % 4 else 'dog'}/{k}.png", "cat", 0.7, "false", ""] for k in range(40)]
    rows += [["photos/dog/odd.png", "", "", "false", "not an image"], ["photos/dog/dim.png", "", 0.3, "true", ""]]
    result = evaluate(predicted(tmp_path / "own.csv", rows), interval=SETTINGS)
    assert result.rows == 40
    assert result.metrics["error"].value == 0.25
    assert "labels from the folder of each path" in result.remarks[0]
    assert "Rows without a prediction (abstained, or not read) are left out." in result.remarks
    abstained = [[*row[:1], "", row[2], "true", "", "cat", row[2], "dog", 0.3] for row in rows[:40]]
    top = ("class_1", "probability_1", "class_2", "probability_2")
    assert evaluate(predicted(tmp_path / "two.csv", abstained, top), interval=SETTINGS).metrics["error"].value == 0.25
    with_truth = [[f"{k}.png", *row[1:], "cat"] for k, row in enumerate(rows[:40])]
    assert (
        evaluate(predicted(tmp_path / "t.csv", with_truth, ["truth"]), interval=SETTINGS).metrics["error"].value == 0.0
    )


def test_predictions_without_true_labels_say_so(tmp_path):
    rows = [[f"phone/{k}.png", "cat", 0.7, "false", ""] for k in range(40)]
    with pytest.raises(UserError, match="no image lies in a folder that is named after one: add a column truth"):
        evaluate(predicted(tmp_path / "flat.csv", rows))
    with pytest.raises(UserError, match="has no prediction among its first rows"):
        evaluate(predicted(tmp_path / "none.csv", [["a.png", "", "", "false", "not an image"]]))
