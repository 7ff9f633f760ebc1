"""Tables of paths and labels: every format gives the same data set as a folder, and every fault is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from photo_folder import photo_folder

from labelsmooth import models
from labelsmooth.data import Columns, Dataset, load_dataset, split_dataset
from labelsmooth.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", {"cat": 5, "dog": 5})


@pytest.fixture
def rows(photos: Path) -> pd.DataFrame:
    """The photos as a table beside their folder."""
    names = [f"photos/{kind}/{number}.png" for kind in ("cat", "dog") for number in range(5)]
    return pd.DataFrame({"path": names, "label": ["cat"] * 5 + ["dog"] * 5})


def load(table: Path | pd.DataFrame, **options: object) -> Dataset:
    return load_dataset(table, 16, **options)


def write(rows: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pandas(rows), path)
    elif path.suffix == ".jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.jsonl", ""])
def test_the_same_data_as_the_folder(name: str, photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    folder = load(photos)
    data = load(write(rows, tmp_path / name)) if name else load(rows, data_dir=tmp_path)
    assert data.classes == folder.classes
    assert data.fingerprint == folder.fingerprint
    assert data.files == tuple(f"photos/{file}" for file in folder.files)
    assert data.notes == (f"Read paths from column path, labels from column label of {name or 'the data frame'}.",)


def test_columns_by_option_and_by_other_names(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    renamed = write(rows.rename(columns={"path": "Image Path", "label": "Class"}), tmp_path / "a.csv")
    assert load(renamed).classes == ("cat", "dog")
    both = write(rows.assign(category=rows["label"].str.upper()), tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"several columns of labels, label, category; choose one with --label-column"):
        load(both)
    assert load(both, columns=Columns(label="category")).classes == ("CAT", "DOG")
    with pytest.raises(UserError, match=r"no column 'x'; its columns are 'path', 'label', 'category'"):
        load(both, columns=Columns(label="x"))
    with pytest.raises(UserError, match=r"no column named like a label; its columns are 'path', 'id'"):
        load(write(rows.rename(columns={"label": "id"}), tmp_path / "c.csv"))


def test_numbers_are_classes_in_their_order(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    numbers = rows.assign(label=[2, 2, 2, 2, 2, 10, 10, 10, 10, 10])
    assert load(write(numbers, tmp_path / "t.csv")).classes == ("2", "10")
    assert load(write(numbers.astype({"label": float}), tmp_path / "t.parquet")).classes == ("2", "10")


def test_parts_of_the_table_are_kept(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    parts = rows.assign(split=["Train", "train", "train", "val", "test"] * 2)
    data = load(write(parts, tmp_path / "t.csv"))
    split = split_dataset(data, 0)
    assert [data.files[i] for i in split.validation] == ["photos/cat/3.png", "photos/dog/3.png"]
    assert [data.files[i] for i in split.test] == ["photos/cat/4.png", "photos/dog/4.png"]
    assert len(split.train) == 6
    others = load(write(rows.assign(split=["train", "train", "train", "test", "val"] * 2), tmp_path / "u.csv"))
    assert others.fingerprint != data.fingerprint
    with pytest.raises(UserError, match=r"validation=0.2 is a share to draw, but t.csv has a validation part"):
        models.train(data=tmp_path / "t.csv", size=16, validation=0.2, backbone="small-cnn", out=tmp_path / "model")


def test_validation_without_test_is_the_test_part(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    data = load(write(rows.assign(split=["train"] * 3 + ["val"] * 2 + ["train"] * 3 + ["val"] * 2), tmp_path / "t.csv"))
    assert data.notes[-1] == "There is no test part: the validation part is the test part."
    assert data.test is not None
    assert len(data.test) == 4
    assert data.validation is None


def test_a_single_part_is_divided(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    data = load(write(rows.assign(split="train"), tmp_path / "t.csv"))
    assert data.test is None


def test_a_column_of_parts_that_means_something_else(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"column split of t.csv has the values 'a', 'b'; give train, validation"):
        load(write(rows.assign(split=["a", "b"] * 5), tmp_path / "t.csv"))
    with pytest.raises(UserError, match=r"has the values 'train', ''; give"):
        load(write(rows.assign(split=["train", ""] * 5), tmp_path / "t.csv"))


def test_every_fault_in_one_message(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    (photos / "dog" / "4.png").write_bytes(b"not an image")
    more = pd.DataFrame(
        [
            ("photos/none.png", "cat"),
            ("photos/cat/0.png", "dog"),
            ("photos/cat", "cat"),
            ("", "cat"),
            ("photos/dog/0.png", None),
            ("photos/dog/1.png", "dog"),  # a row twice is no fault
        ],
        columns=["path", "label"],
    )
    table = write(pd.concat([rows, more]), tmp_path / "t.csv")
    with pytest.raises(UserError) as caught:
        load(table)
    for sentence in (
        r"1 file of the table does not exist: photos/none.png.",
        r"3 rows cannot be used: photos/cat/0.png (cat and dog); row 14 (no path); row 15 (no label).",
        r"2 images cannot be read: photos/cat (not a regular file); photos/dog/4.png (not an image).",
    ):
        assert sentence in str(caught.value)
    data = load(table, skip_corrupt=True)
    assert len(data.labels) == 8
    assert len(data.skipped) == 6


def test_copies_across_parts_are_refused(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    (photos / "cat" / "4.png").write_bytes((photos / "cat" / "0.png").read_bytes())
    table = write(rows.assign(split=["train", "train", "train", "val", "test"] * 2), tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"1 photo is in two parts of the data: photos/cat/0.png = photos/cat/4.png"):
        load(table)
    assert load(table, skip_corrupt=True).skipped == ("photos/cat/0.png (the same photo as photos/cat/4.png)",)


def test_a_study_and_a_training_take_a_data_frame(photos: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    from labelsmooth.study import Workers, run_study

    common: dict = {"data": rows, "data_dir": tmp_path, "backbone": "small-cnn", "size": 16, "epochs": 1}
    record = models.train(**common, out=tmp_path / "model")
    assert record.data.name == "data frame"
    study = run_study(**common, seeds=1, methods="plain", out=tmp_path / "study", executor=Workers(1))
    assert study.config.data == "data frame"
    evaluated = models.evaluate(tmp_path / "model", write(rows, tmp_path / "t.csv"), part="all")
    assert evaluated.rows == 10


def test_nested_folders_are_classes(tmp_path: Path) -> None:
    for name, counts in {"cat": {"siamese": 3, "persian": 3}, "dog": {"poodle": 3}}.items():
        photo_folder(tmp_path / "pets" / name, counts)
    assert load(tmp_path / "pets").classes == ("cat", "dog")
    nested = load(tmp_path / "pets", nested=True)
    assert nested.classes == ("cat/persian", "cat/siamese", "dog/poodle")
    assert np.bincount(nested.labels).tolist() == [3, 3, 3]
    (tmp_path / "pets" / "cat" / "out").symlink_to("/usr")
    with pytest.raises(UserError, match=r"^1 link is not followed: cat/out"):
        load(tmp_path / "pets", nested=True)
