"""A model on labelled data: which part, whose classes, measured and calibrated."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelsmooth import metrics, models
from labelsmooth.calibrate import TemperatureScaling
from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.models.on_data import run_on

FEW = Interval(resamples=100)


@pytest.fixture
def copy(digits_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_model, tmp_path / "model"))


@pytest.fixture
def other_digits(tmp_path: Path) -> Path:
    """A third of the digits under another order of the classes, without the class 9: not the data trained on."""
    digits = load_dataset("digits")
    chosen = np.flatnonzero(digits.labels < 9)[::3]
    images = np.stack([digits.images[int(k)][0].numpy() for k in chosen])
    names = np.array([str(8 - k) for k in range(9)])
    np.savez(tmp_path / "other.npz", images=images, labels=8 - digits.labels[chosen], classes=names)
    return tmp_path / "other.npz"


def test_the_test_part_of_the_split_it_was_trained_with(digits_model: Path) -> None:
    data = load_dataset("digits")
    split = split_dataset(data, 0)
    model = models.load(digits_model)
    for part, purpose, members, seen in (
        ("auto", "evaluate", split.test, False),
        ("auto", "calibrate", split.validation, False),
        ("train", "evaluate", split.train, True),
        ("all", "evaluate", np.arange(len(data.labels)), True),
    ):
        outputs = run_on(model, "digits", part, purpose=purpose)
        np.testing.assert_array_equal(outputs.members, members)
        np.testing.assert_array_equal(outputs.labels, data.labels[members])
        assert outputs.trained_on == seen
    images = torch.stack([data.images[int(k)] for k in outputs.members])
    torch.testing.assert_close(torch.from_numpy(outputs.logits), model.logits(images), rtol=1e-4, atol=1e-4)


def test_the_split_is_made_as_it_was_for_the_training(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["data"]["split_seed"] = 7
    (copy / "config.json").write_text(json.dumps(config))
    data = load_dataset("digits")
    outputs = run_on(models.load(copy), "digits")
    np.testing.assert_array_equal(outputs.members, split_dataset(data, 7).test)
    config["data"]["fractions"] = [0.1, 0.7, 0.2]
    (copy / "config.json").write_text(json.dumps(config))
    outputs = run_on(models.load(copy), "digits", "validation")
    data = dataclasses.replace(data, fractions=(0.1, 0.7, 0.2))
    np.testing.assert_array_equal(outputs.members, split_dataset(data, 7).validation)


def test_classes_are_matched_by_name(digits_model: Path, other_digits: Path) -> None:
    outputs = run_on(models.load(digits_model), other_digits)
    assert outputs.name == "other (all images)"
    assert not outputs.trained_on
    assert (outputs.logits.argmax(1) == outputs.labels).mean() > 0.8


def test_unknown_classes_other_shapes_and_missing_parts_are_refused(
    digits_model: Path, other_digits: Path, tmp_path: Path, photos: Path
) -> None:
    model = models.load(digits_model)
    with np.load(other_digits) as file:
        arrays = dict(file)
    np.savez(tmp_path / "named.npz", **{**arrays, "classes": np.array([*"01234567", "acht"])})
    with pytest.raises(UserError, match=r"does not know: 'acht'\. The model's 10 classes are '0', '1', '2', '3', '4'"):
        run_on(model, tmp_path / "named.npz")
    np.savez(tmp_path / "wide.npz", **{**arrays, "images": np.repeat(arrays["images"], 2, axis=2)})
    with pytest.raises(UserError, match=r"takes images of shape \(1, 8, 8\) \(C, H, W\); .*wide\.npz has \(1, 8, 16\)"):
        run_on(model, tmp_path / "wide.npz")
    for part in ("test", "validation", "train"):
        with pytest.raises(UserError, match=rf"no {part} part\. Give --part all"):
            run_on(model, other_digits, part)
    with pytest.raises(UserError, match="part 'tset' is unknown; there are auto, train, validation, test, all"):
        run_on(model, other_digits, "tset")


def test_photos_with_a_test_part_of_their_own(photo_model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for part, count in (("train", 4), ("test", 3)):
        for name in ("Birman", "Abyssinian"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
                small.resize((80, 80), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    # A crop that is larger than those of the training.
    model = dataclasses.replace(models.load(photo_model), input=models.Input(3, 72, 72, size=64))
    outputs = run_on(model, tmp_path / "data")
    assert outputs.name == "data (test part)"
    assert outputs.labels.tolist() == [0, 0, 0, 2, 2, 2]
    paths = [tmp_path / "data/test" / name / f"{k}.png" for name in ("Abyssinian", "Birman") for k in range(3)]
    predicted = [one.confidence for one in model.predict(paths)]
    assert model.calibrated(torch.from_numpy(outputs.logits)).max(1).values.tolist() == pytest.approx(
        predicted, abs=1e-5
    )
    assert len(run_on(model, tmp_path / "data", purpose="calibrate").labels) == 8
    assert len(run_on(model, tmp_path / "data", "all").labels) == 14
    with pytest.raises(UserError, match=r"no validation part\. Give --part test"):
        run_on(model, tmp_path / "data", "validation")


def test_data_to_measure_need_not_be_fit_to_train_on(photo_model: Path, photos: Path) -> None:
    (photos / "cats").rename(photos / "Birman")
    (photos / "dogs").rename(photos / "none of these")
    for path in (photos / "none of these").iterdir():
        path.unlink()
    (photos / "Birman/0.png").unlink()
    shutil.copy(photos / "Birman/1.png", photos / "Birman/9.png")
    measured = models.evaluate(photo_model, photos, interval=FEW)
    assert measured.rows == 2
    assert measured.remarks == ("1 file left out: Birman/9.png (the same photo as Birman/1.png).",)


def test_evaluate_measures_the_calibrated_probabilities(digits_model: Path) -> None:
    measured = models.evaluate(digits_model, "digits", interval=FEW)
    assert measured.rows == 719
    assert measured.file == f"{digits_model} on digits (test part)"
    model = models.load(digits_model)
    outputs = run_on(model, "digits")
    probabilities = model.calibrated(torch.from_numpy(outputs.logits))
    for name in ("error", "nll", "ece"):
        expected = getattr(metrics, name)(probabilities, torch.from_numpy(outputs.labels))
        assert measured.metrics[name].value == pytest.approx(float(expected), abs=1e-9)
    seen = models.evaluate(digits_model, "digits", part="train", interval=FEW)
    assert seen.file.endswith("digits (train part), some of which it was trained on")


def test_evaluate_by_class_and_beside_another_model(digits_model: Path, copy: Path, photo_model: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "calibrate": False}))
    measured = models.evaluate(digits_model, "digits", by="class", compare=copy, interval=FEW)
    assert sum(rows for rows, _ in measured.groups.values()) == 719
    assert set(measured.groups) == set("0123456789")
    assert measured.compared_with == f"{copy} on digits (test part)"
    assert measured.differences["nll"].value < 0 < measured.metrics["nll"].value
    with pytest.raises(UserError, match="grouped by class only, not by 'colour': give by='class'"):
        models.evaluate(digits_model, "digits", by="colour")
    with pytest.raises(UserError, match="has other classes than the model"):
        models.evaluate(digits_model, "digits", compare=photo_model)
    config["data"]["split_seed"] = 1
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="trained on different parts"):
        models.evaluate(digits_model, "digits", compare=copy)


def test_calibrate_fits_on_the_validation_part_and_applies_it(copy: Path) -> None:
    (copy / "calibrator.json").unlink()
    said = models.calibrate(copy, "digits", method="temperature", command="labelsmooth calibrate")
    model = models.load(copy)
    assert isinstance(model.calibrator, TemperatureScaling)
    raw = run_on(models.load(copy, calibrated=False), "digits", "validation")
    expected = TemperatureScaling().fit(raw.logits.astype(np.float64), raw.labels).temperature_
    assert model.calibrator.temperature_ == pytest.approx(expected, rel=1e-6)
    assert said.startswith(
        f"TemperatureScaling(temperature={expected:.3g}), fitted on 359 images of digits (validation part)"
    )
    assert model.config["calibrated"]["rows"] == 359
    assert model.config["calibrated"]["command"] == "labelsmooth calibrate"
    fitted_here = "The calibrator was fitted on these images, so they look better calibrated than others are."
    assert models.evaluate(copy, "digits", part="validation", interval=FEW).remarks == (fitted_here,)
    assert models.evaluate(copy, "digits", interval=FEW).remarks == ()
    assert " nats on rows that it was not fitted on" in models.calibrate(copy, "digits")


def test_other_images_under_the_same_name_are_not_those_it_was_fitted_on(copy: Path, other_digits: Path) -> None:
    models.calibrate(copy, other_digits)
    assert models.evaluate(copy, other_digits, interval=FEW).remarks != ()
    with np.load(other_digits) as file:
        arrays = {name: file[name] for name in file}
    np.savez(other_digits, images=arrays["images"][1:], labels=arrays["labels"][1:], classes=arrays["classes"])
    assert models.evaluate(copy, other_digits, interval=FEW).remarks == ()


def test_a_folder_that_was_not_calibrated_is_then(copy: Path, other_digits: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "calibrate": False}))
    models.calibrate(copy, other_digits, method="vector")
    model = models.load(copy)
    assert type(model.calibrator).__name__ == "VectorScaling"
    assert model.config["calibrated"]["data"] == "other (all images)"


def test_a_calibration_can_be_undone(copy: Path, other_digits: Path) -> None:
    before = {name: (copy / name).read_bytes() for name in ("calibrator.json", "config.json")}
    with pytest.raises(UserError, match="has no calibration to undo"):
        models.undo_calibration(copy)
    models.calibrate(copy, other_digits, method="vector")
    assert (copy / "calibrator.previous.json").read_bytes() == before["calibrator.json"]
    assert "the previous calibrator is applied" in models.undo_calibration(copy)
    assert json.loads((copy / "config.json").read_bytes()) == json.loads(before["config.json"])
    assert (copy / "calibrator.json").read_bytes() == before["calibrator.json"]
    assert not (copy / "calibrator.previous.json").exists()
    with pytest.raises(UserError, match="has no calibration to undo"):
        models.undo_calibration(copy)
    (copy / "calibrator.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "calibrate": False}))
    models.calibrate(copy, other_digits, method="temperature")
    assert "none is applied" in models.undo_calibration(copy)
    assert not (copy / "calibrator.json").exists()
    assert models.load(copy).calibrator is None


def test_images_without_errors_leave_the_model_as_it_was(copy: Path, tmp_path: Path) -> None:
    before = (copy / "calibrator.json").read_bytes()
    model = models.load(copy)
    part = run_on(model, "digits", "test")
    right = part.members[part.logits.argmax(1) == part.labels]
    sure = right[np.argsort(-part.logits[part.logits.argmax(1) == part.labels].max(1))][:24]
    digits = load_dataset("digits")
    images = np.stack([digits.images[int(k)][0].numpy() for k in sure])
    np.savez(tmp_path / "few.npz", images=images, labels=digits.labels[sure], classes=np.array(digits.classes))
    for method in ("best", "temperature"):
        said = models.calibrate(copy, tmp_path / "few.npz", method=method, part="all")
        assert said.startswith("The model is unchanged. Too few rows or errors to fit a calibrator: 0 of 24 rows")
    assert (copy / "calibrator.json").read_bytes() == before


def test_calibrate_refuses_what_the_model_was_trained_on(copy: Path) -> None:
    before = (copy / "calibrator.json").read_bytes()
    for part in ("train", "all"):
        with pytest.raises(UserError, match="where it is over-confident"):
            models.calibrate(copy, "digits", part=part)
    with pytest.raises(UserError, match="'magic' is not a calibrator; choose among identity, temperature"):
        models.calibrate(copy, "digits", method="magic")
    assert (copy / "calibrator.json").read_bytes() == before
