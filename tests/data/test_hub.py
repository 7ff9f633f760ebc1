"""Data sets of Hugging Face's library, as objects and saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelsmooth import models
from labelsmooth.data import Columns, load_dataset, split_dataset
from labelsmooth.errors import UserError

datasets = pytest.importorskip("datasets")
FEATURES = datasets.Features(
    {"image": datasets.Image(), "id": datasets.Value("int64"), "kind": datasets.ClassLabel(names=["dog", "cat"])}
)


def make(count: int, seed: int):
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)) for _ in range(count)]
    rows = {"image": images, "id": list(range(count)), "kind": [k % 2 for k in range(count)]}
    return datasets.Dataset.from_dict(rows, features=FEATURES)


def test_an_object_and_the_folder_it_was_saved_to(tmp_path: Path) -> None:
    rows = make(12, 0)
    data = load_dataset(rows, 16)
    assert data.classes == ("cat", "dog")
    assert [data.classes[k] for k in data.labels[:2]] == ["dog", "cat"]
    assert data.files[3] == "row 3"
    rows.save_to_disk(tmp_path / "saved")
    assert load_dataset(tmp_path / "saved", 16).fingerprint == data.fingerprint


def test_splits_are_parts(tmp_path: Path) -> None:
    parts = datasets.DatasetDict(train=make(12, 0), validation=make(6, 1), test=make(8, 2))
    data = load_dataset(parts, 16)
    split = split_dataset(data)
    assert (len(split.train), len(split.validation), len(split.test)) == (12, 6, 8)
    record = models.train(data=parts, size=16, backbone="small-cnn", epochs=1, out=tmp_path / "m")
    assert record.data.test == 8


def test_the_same_checks_as_for_folders() -> None:
    cells = make(12, 0).cast_column("image", datasets.Image(decode=False))["image"][:]
    cells[5] = {"bytes": b"not an image", "path": None}
    cells[7] = cells[3]
    features = datasets.Features({name: FEATURES[name] for name in ("image", "kind")})
    kinds = [k % 2 for k in range(11)]
    damaged = datasets.Dataset.from_dict({"image": cells, "kind": [*kinds, -1]}, features=features)
    with pytest.raises(UserError) as caught:
        load_dataset(damaged, 16)
    for sentence in (
        "1 image cannot be read: row 5 (not an image)",
        "1 photo is there twice: row 3 = row 7",
        "1 row cannot be used: row 11 (no label)",
    ):
        assert sentence in str(caught.value)
    assert len(load_dataset(damaged, 16, skip_corrupt=True).labels) == 9


def test_columns_by_option() -> None:
    rows = make(12, 0)
    with pytest.raises(UserError, match="has no column 'x'; its columns are 'image', 'id', 'kind'"):
        load_dataset(rows, 16, columns=Columns(label="x"))
    halves = rows.add_column("half", [k // 6 for k in range(12)])
    assert load_dataset(halves, 16, columns=Columns(label="half")).classes == ("0", "1")
