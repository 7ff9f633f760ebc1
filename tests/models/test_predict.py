"""Predictions of files: the same as the evaluation's, in order, lazily, and never stopped by a bad file."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from labelsmooth import models
from labelsmooth.data import load_dataset
from labelsmooth.data.batches import evaluation_batches
from labelsmooth.errors import UserError
from labelsmooth.models import Prediction, preprocess
from labelsmooth.models.paths import find_images
from labelsmooth.models.preprocess import preprocess_file


def test_a_photo_is_prepared_as_the_evaluation_does_it(photos: Path) -> None:
    data = load_dataset(photos, 64)
    (images, _), *more = evaluation_batches(data, np.arange(len(data.labels)), 64, 100)
    assert not more
    spec = models.Input.photo(64)
    files = [place.path for place in find_images([photos])]
    assert len(files) == 6
    ours = [preprocess_file(path, spec) for path in files]
    assert torch.equal(torch.stack(ours), images)
    for path, expected in zip(files, images, strict=True):
        with Image.open(path) as image:
            assert torch.equal(preprocess(image, spec), expected)


def test_a_small_image_is_prepared_as_the_array_that_was_trained_on(tmp_path: Path) -> None:
    data = load_dataset("digits")
    spec = models.Input(1, 8, 8)
    Image.fromarray(data.images[7][0].numpy()).save(tmp_path / "seven.png")
    assert torch.equal(preprocess_file(tmp_path / "seven.png", spec), data.images[7])
    Image.fromarray(data.images[7][0].numpy()).convert("RGB").resize((80, 80)).save(tmp_path / "large.png")
    assert preprocess_file(tmp_path / "large.png", spec).shape == (1, 8, 8)


def test_the_rules_for_photos_hold_for_small_images_too(tmp_path: Path) -> None:
    """Transparency is over white, 16 bits are scaled, and 32-bit integers up to 255 are 8 bits."""
    spec = models.Input(1, 4, 4)
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "clear.png")
    assert (preprocess_file(tmp_path / "clear.png", spec) == 255).all()
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert (preprocess_file(tmp_path / "deep.png", spec) == 128).all()
    Image.fromarray(np.full((4, 4), 200, np.int32)).save(tmp_path / "wide.tif")
    assert (preprocess_file(tmp_path / "wide.tif", spec) == 200).all()
    with Image.open(tmp_path / "clear.png") as image:
        assert (preprocess(image, spec) == 255).all()


def test_a_path_that_cannot_be_used_is_a_prediction(photo_model: Path, photos: Path, monkeypatch) -> None:
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("dogs"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    bad = ["a\0b.png", "x" * 300 + ".png", "nowhere.png"]
    *cats, dogs, null, long, nowhere = models.load(photo_model).predict([photos, *bad])
    assert [one.error for one in cats] == [None] * 3
    assert (dogs.path, dogs.error) == (str(photos / "dogs"), "folder not read: Permission denied")
    assert "null" in null.error
    assert long.error == "File name too long"
    assert nowhere.error == "No such file or directory"


def test_a_damaged_exif_chunk_does_not_matter(photo_model: Path, photos: Path, tmp_path: Path) -> None:
    content = (photos / "cats/0.png").read_bytes()
    chunk = b"eXIf" + b"II*\0\xff\xff\xff\xff"
    damaged = content[:33] + struct.pack(">I", 8) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    (tmp_path / "damaged.png").write_bytes(damaged)
    (one,) = models.load(photo_model).predict(tmp_path / "damaged.png")
    assert one.error is None


def test_three_lines_of_python(digits_model: Path, tmp_path: Path) -> None:
    digits = load_digits()
    paths = []
    for k in range(40):
        paths.append(tmp_path / f"{k:02}.png")
        Image.fromarray((digits.images[k] * 255 / 16).round().astype(np.uint8)).save(paths[-1])
    model = models.load(digits_model)
    predictions = model.predict(paths)
    assert [one.path for one in predictions] == [str(path) for path in paths]
    assert np.mean([one.label == str(digits.target[k]) for k, one in enumerate(predictions)]) > 0.8
    images = torch.stack([preprocess_file(path, model.input) for path in paths])
    probabilities = model.probabilities(images)
    assert [one.confidence for one in predictions] == pytest.approx(probabilities.max(1).values.tolist(), abs=1e-6)
    assert model.predict(tmp_path) == model.predict(str(tmp_path)) == predictions


def test_top_k_falls_and_holds_every_class_at_most_once(photo_model: Path, photos: Path) -> None:
    model = models.load(photo_model)
    for one in model.predict(photos, top=99):
        names, p = zip(*one.top, strict=True)
        assert sorted(names) == sorted(model.classes)
        assert list(p) == sorted(p, reverse=True)
        assert sum(p) == pytest.approx(1)
        assert (one.label, one.confidence) == one.top[0]
    assert [len(one.top) for one in model.predict(photos, top=2)] == [2] * 6


@pytest.mark.parametrize("batch_size", [1, 2, 4, 32])
def test_a_bad_file_is_a_prediction_and_the_rest_go_on(photo_model: Path, photos: Path, batch_size: int) -> None:
    cats = photos / "cats"
    good = {one.path: one for one in models.load(photo_model).predict(photos)}
    (cats / "empty.jpg").touch()
    (cats / "text.jpg").write_text("no image")
    content = (cats / "0.png").read_bytes()
    (cats / "truncated.png").write_bytes(content[: len(content) // 2])
    Image.new("1", (20_000, 20_000)).save(cats / "bomb.png")
    os.mkfifo(cats / "pipe.png")
    (photos / "out.png").symlink_to(photos.parent / "outside.png")
    Image.new("RGB", (90, 90)).save(photos.parent / "outside.png")
    (photos / "in.png").symlink_to(cats / "0.png")
    paths = [cats, photos / "gone.jpg", photos]
    predictions = list(models.predict(models.load(photo_model), paths, batch_size=batch_size))
    errors = {Path(one.path).name: one.error for one in predictions if one.error}
    assert set(errors) == {"empty.jpg", "text.jpg", "truncated.png", "bomb.png", "pipe.png", "out.png", "gone.jpg"}
    assert errors["text.jpg"] == "not an image"
    assert errors["pipe.png"] == "not a file"
    assert "pixels" in errors["bomb.png"]
    assert "leads out" in errors["out.png"]
    assert errors["gone.jpg"] == "No such file or directory"
    assert [one.path for one in predictions] == [str(place.path) for place in find_images(paths)]
    for one in predictions:
        if one.path in good:
            assert one.label == good[one.path].label
            assert one.confidence == pytest.approx(good[one.path].confidence, abs=1e-5)
    one = next(one for one in predictions if one.error)
    assert (one.label, one.confidence, one.top, one.abstained) == (None, None, (), False)


def test_files_are_taken_as_they_are_needed(photo_model: Path, photos: Path) -> None:
    taken = []

    def endless() -> Iterator[Path]:
        while True:
            taken.append(photos / "cats/0.png")
            yield taken[-1]

    before = threading.active_count()
    predictions = models.predict(models.load(photo_model), endless(), batch_size=2)
    for _ in range(20):
        assert next(predictions).label
    assert len(taken) <= 20 + 3 * 2
    predictions.close()
    assert threading.active_count() == before


def test_one_at_a_time_answers_before_the_next_is_asked_for(photo_model: Path, photos: Path) -> None:
    answered: list[Prediction] = []

    def asked() -> Iterator[Path]:
        for k in range(3):
            assert len(answered) == k
            yield photos / "cats" / f"{k}.png"

    predictions = models.predict(models.load(photo_model), asked(), batch_size=1)
    while (one := next(predictions, None)) is not None:
        answered.append(one)
    assert len(answered) == 3


def test_abstaining() -> None:
    bad = Prediction("bad.jpg", error="not an image")
    confidences = (0.9, 0.5, 0.7, 0.5, 0.6)
    predictions = [bad, *(Prediction(f"{k}.jpg", "cat", p, (("cat", p),)) for k, p in enumerate(confidences))]
    assert [one.label for one in models.abstain_below(predictions, 0.5)] == [None] + ["cat"] * 5
    below = list(models.abstain_below(predictions, 0.55))
    assert [one.abstained for one in below] == [False, False, True, False, True, False]
    assert below[2] == Prediction("1.jpg", None, 0.5, (("cat", 0.5),), abstained=True)
    for coverage, kept in ((0.2, {0}), (0.6, {0, 2, 4}), (0.8, {0, 1, 2, 4}), (1.0, {0, 1, 2, 3, 4})):
        some = list(models.keep_most_confident(predictions, coverage))
        assert some[0] == bad
        assert {k for k, one in enumerate(some[1:]) if one.label} == kept
        assert [one.top for one in some] == [one.top for one in predictions]
    assert list(models.keep_most_confident([bad], 0.5)) == [bad]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_outside_their_range(value: float) -> None:
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        models.abstain_below([], value)
    with pytest.raises(UserError, match=r"must lie in \(0, 1\]"):
        models.keep_most_confident([], value)


def test_top_below_1(photo_model: Path) -> None:
    with pytest.raises(UserError, match="top=0 is too small"):
        models.load(photo_model).predict([], top=0)


def test_bfloat16_only_where_asked(photo_model: Path, photos: Path) -> None:
    exact = models.load(photo_model).predict(photos)
    rough = models.load(photo_model, bfloat16=True).predict(photos)
    difference = [abs(one.confidence - two.confidence) for one, two in zip(exact, rough, strict=True)]
    assert 1e-6 < max(difference) < 0.1
