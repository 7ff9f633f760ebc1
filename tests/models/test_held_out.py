"""Prediction sets and the mark of unlike images: coverage, the leave-one-out means, files, and what predictions say."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from labelsmooth import models
from labelsmooth.calibrate import IsotonicCalibration, TemperatureScaling
from labelsmooth.cli import app
from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.errors import UserError
from labelsmooth.models.held_out import HELD_OUT, HeldOut, load_held_out, save_held_out


def drawn(rows: int, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are half of the calibrated ones, and labels."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(rows, classes))
    return (z / 2).astype(np.float32), (z + rng.gumbel(size=z.shape)).argmax(1)


def test_sets_hold_the_label_with_the_probability_asked_for() -> None:
    test_logits, test_labels = drawn(4_000, seed=99)
    for calibrator in (None, TemperatureScaling(), IsotonicCalibration()):
        coverages = []
        for seed in range(10):
            logits, labels = drawn(450, seed=seed)
            fitted = None if calibrator is None else calibrator.fit(logits, labels)
            sets = HeldOut.of(logits, labels, None, fitted).sets(0.9)
            p = torch.softmax(torch.from_numpy(test_logits), 1) if fitted is None else fitted.predict_proba(test_logits)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # isotonic probabilities of 0
                coverages.append(sets.summary(probabilities=np.asarray(p), labels=test_labels).coverage)
        assert 0.88 <= np.mean(coverages) <= 0.93, calibrator


def test_rows_are_calibrated_by_what_has_not_seen_them() -> None:
    logits, labels = drawn(450)
    isotonic = IsotonicCalibration().fit(logits, labels)
    held_out = HeldOut.of(logits, labels, None, isotonic).probabilities[np.arange(450), labels]
    seen = isotonic.predict_proba(logits)[np.arange(450), labels]
    assert np.log(np.maximum(held_out, 1e-9)).mean() < np.log(np.maximum(seen, 1e-9)).mean() - 0.02


def test_distances_leave_their_own_row_out() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(40, 6)).astype(np.float32))
    labels = np.arange(40) % 3
    labels[0] = 3  # the only one of its class
    held_out = HeldOut.of(np.zeros((40, 4), np.float32), labels, features, None)
    roots = (features.sign() * features.abs().sqrt()).double().numpy()
    expected = []
    for i in range(1, 40):
        rest = np.arange(40) != i
        means = np.stack([roots[rest & (labels == k)].mean(0) for k in range(4)])
        cosines = means @ roots[i] / np.linalg.norm(means, axis=1) / np.linalg.norm(roots[i])
        expected.append(1 - cosines.max())
    assert held_out.distances is not None
    np.testing.assert_allclose(held_out.distances.numpy(), np.sort(expected), atol=1e-5)
    typicality = held_out.typicality(torch.cat([features[:1], -features.mean(0, keepdim=True) * 100]))
    assert typicality is not None
    assert typicality[0] > typicality[1]
    assert typicality.min() >= 1 / 40


def test_about_the_share_of_usual_images_is_marked() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 16))

    def features(rows: int) -> tuple[torch.Tensor, np.ndarray]:
        labels = rng.integers(0, 3, rows)
        return torch.from_numpy((centres[labels] + rng.normal(size=(rows, 16))).astype(np.float32)), labels

    known, labels = features(2_000)
    held_out = HeldOut.of(np.zeros((2_000, 3), np.float32), labels, known, None)
    typicality = held_out.typicality(features(4_000)[0])
    assert typicality is not None
    assert 0.03 < np.mean([held_out.is_unlike(float(t), 0.05) for t in typicality]) < 0.07
    few = HeldOut.of(np.zeros((9, 3), np.float32), np.arange(9) % 3, known[:9], None)
    assert few.is_unlike(0.1, 0.01)  # farther than all nine
    assert not few.is_unlike(0.2, 0.01)
    assert not few.is_unlike(0.1, 0.0)


def test_a_file_comes_back_and_damage_is_found(tmp_path: Path) -> None:
    logits, labels = drawn(50)
    held_out = HeldOut.of(logits, labels, torch.randn(50, 7), None)
    save_held_out(held_out, tmp_path / HELD_OUT)
    again = load_held_out(tmp_path / HELD_OUT, 5)
    assert again is not None
    assert again.means is not None
    assert np.array_equal(again.probabilities, held_out.probabilities)
    assert torch.equal(again.means, held_out.means)
    assert load_held_out(tmp_path / "none", 5) is None
    with pytest.raises(UserError, match="the model 6 classes"):
        load_held_out(tmp_path / HELD_OUT, 6)
    tensors = load_file(tmp_path / HELD_OUT)
    for name, value, problem in (
        ("labels", torch.full((50,), 5), r"integers in \[0, 5\)"),
        ("probabilities", torch.zeros(50, 5), "do not sum to 1"),
        ("means", torch.full((5, 7), float("nan")), "not finite"),
        ("distances", torch.zeros(2, 2), r"distances of shape \(2, 2\)"),
    ):
        save_file({**tensors, name: value}, tmp_path / "bad")
        with pytest.raises(UserError, match=problem):
            load_held_out(tmp_path / "bad", 5)
    (tmp_path / "bad").write_bytes(b"text")
    with pytest.raises(UserError, match="cannot be read"):
        load_held_out(tmp_path / "bad", 5)


def test_many_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelsmooth.models.held_out.MOST", 6_000)
    logits, labels = drawn(1_500)
    held_out = HeldOut.of(logits, labels, None, None)
    assert held_out.probabilities.shape == (1_200, 5)
    assert len(held_out.labels) == 1_200


@pytest.fixture
def folder(digits_model: Path, tmp_path: Path) -> Path:
    """The digits with held-out images, as calibrate stores them."""
    folder = Path(shutil.copytree(digits_model, tmp_path / "model"))
    models.calibrate(folder, "digits", method="temperature")
    return folder


def test_predictions_say_the_set_and_what_is_unlike(folder: Path, tmp_path: Path) -> None:
    data = load_dataset("digits")
    test = split_dataset(data, 0).test
    (tmp_path / "digits").mkdir()
    for k in test[:200]:
        Image.fromarray(data.images[int(k)][0].numpy()).save(tmp_path / "digits" / f"{k:04}.png")
    model = models.load(folder)
    predictions = model.predict(tmp_path / "digits", sets=0.9)
    held = [data.classes[data.labels[int(Path(one.path).stem)]] in (one.classes or ()) for one in predictions]
    assert np.mean(held) >= 0.85
    assert all(one.classes and one.classes[0] == one.label for one in predictions)
    assert np.mean([one.unlike for one in predictions]) <= 0.05
    everything = model.predict(tmp_path / "digits", unlike=1)
    assert all(one.unlike for one in everything)
    assert all(one.classes is None for one in everything)
    kept = list(models.keep_most_confident(predictions, 1.0))
    assert kept == predictions


def test_undo_restores_the_held_out_images_too(folder: Path) -> None:
    before = (folder / HELD_OUT).read_bytes()
    means = load_file(folder / HELD_OUT)["means"]
    models.calibrate(folder, "digits", method="vector")
    assert (folder / HELD_OUT).read_bytes() != before
    assert torch.equal(load_file(folder / HELD_OUT)["means"], means)
    models.undo_calibration(folder)
    assert (folder / HELD_OUT).read_bytes() == before


def test_refused(folder: Path, digits_model: Path) -> None:
    with pytest.raises(UserError, match="'labelsmooth calibrate MODEL DATA' stores them"):
        models.load(digits_model).predict([], sets=0.9)
    model = models.load(folder)
    with pytest.raises(UserError, match=r"sets=1.5 must lie in \(0, 1\)"):
        model.predict([], sets=1.5)
    with pytest.raises(UserError, match=r"359 held-out images are too few for sets=0\.999"):
        model.predict([], sets=0.999)
    with pytest.raises(UserError, match=r"unlike=2 must lie in \[0, 1\]"):
        model.predict([], unlike=2)


def test_the_command_and_its_page(folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        Image.new("L", (8, 8), 80 * k).save(photos / f"<i>{k}.png")
    (photos / "bad.png").write_text("text")
    page = tmp_path / "page.html"
    arguments = ["predict", str(folder), str(photos), "--sets", "0.9", "--unlike", "1", "--report", str(page)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "150"})
    assert result.exit_code == 1, result.output
    assert "90% set" in result.stdout
    assert result.stdout.count("unlike the training images") == 3
    assert "4 images: 3 answered, 1 could not be read, 3 unlike the training images." in result.stderr
    text = page.read_text()
    assert text.count('<figure class="marked">') == 3
    assert text.count("Set: ") == 3
    assert "&lt;i&gt;0.png" in text
    assert "<i>" not in text
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    rows = CliRunner().invoke(app, [*arguments[:5], "--csv"]).stdout.splitlines()
    assert rows[0] == "path,label,confidence,abstained,error,unlike,typicality,classes"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_exported_model_carries_the_thresholds(folder: Path, tmp_path: Path) -> None:
    model = models.load(folder)
    models.export(model, tmp_path / "model.pt")
    files = {"prediction_sets": ""}
    network = torch.jit.load(tmp_path / "model.pt", _extra_files=files)
    thresholds = json.loads(files["prediction_sets"])["thresholds"]
    assert list(thresholds) == ["0.8", "0.9", "0.95", "0.99"]
    data = load_dataset("digits")
    images = torch.stack([data.images[k] for k in range(300)])
    probabilities = network(images)[0].double()
    assert model.held_out is not None
    inside = model.held_out.sets(0.9).predict(probabilities=model.probabilities(images).numpy())
    ours = (probabilities >= thresholds["0.9"]).numpy()
    ours[np.arange(300), probabilities.argmax(1).numpy()] = True
    assert (ours == inside).mean() > 0.999
