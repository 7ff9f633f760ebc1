"""Splits, batches and sources of data, and every kind of bad data as a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from photo_folder import photo_folder
from PIL import Image

from labelsmooth.data import ArrayImages, Dataset, load_dataset, split_dataset
from labelsmooth.data.batches import training_batches
from labelsmooth.errors import UserError


def load(data: Path | str, size: int | None = None) -> Dataset:
    return load_dataset(data, size)


class TestSplit:
    @given(st.lists(st.integers(3, 30), min_size=2, max_size=6), st.integers(0, 100), st.booleans())
    def test_parts_are_disjoint_complete_stratified_and_repeatable(self, counts, seed, official) -> None:
        labels = np.repeat(np.arange(len(counts)), counts)
        test = np.flatnonzero(np.concatenate([np.arange(c) == 0 for c in counts])) if official else None
        images = ArrayImages(np.zeros((len(labels), 4, 4), np.uint8))
        data = Dataset("d", tuple(map(str, range(len(counts)))), images, labels, "f", test=test)
        split = split_dataset(data, seed)
        parts = (split.train, split.validation, split.test)
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
        for part in parts:
            assert set(labels[part]) == set(range(len(counts)))
        if official:
            assert np.array_equal(split.test, test)
        again = split_dataset(data, seed)
        assert all(
            np.array_equal(a, b) for a, b in zip(parts, (again.train, again.validation, again.test), strict=True)
        )

    def test_another_seed_is_another_split(self) -> None:
        data = load("digits")
        assert not np.array_equal(split_dataset(data, 0).test, split_dataset(data, 1).test)

    def test_limits_keep_a_stratified_sample(self) -> None:
        data = load("digits")
        split = split_dataset(data, 0, (100, 50, 60))
        for part, limit in ((split.train, 100), (split.validation, 50), (split.test, 60)):
            counts = np.bincount(data.labels[part])
            assert abs(len(part) - limit) <= 10
            assert counts.max() - counts.min() <= 1


class TestBatches:
    """All methods of a seed see the same batches, whatever random numbers they draw themselves."""

    def batches(self, data: Dataset, disturb: bool, seed: int = 0) -> list[torch.Tensor]:
        members = split_dataset(data, 0).train
        tensors = []
        for _ in range(2):
            for images, labels in training_batches(data, members, 16 if data.photos else None, 8, seed):
                tensors += [images, labels]
                if disturb:
                    torch.rand(7)
        return tensors

    @pytest.mark.parametrize("kind", ["photos", "array"])
    def test_independent_of_the_global_random_state(self, kind: str, tmp_path: Path) -> None:
        data = load(photo_folder(tmp_path, {"a": 9, "b": 9}), 16) if kind == "photos" else load("digits")
        calm, disturbed = self.batches(data, False), self.batches(data, True)
        assert all(torch.equal(a, b) for a, b in zip(calm, disturbed, strict=True))
        other = self.batches(data, False, seed=1)
        assert not all(torch.equal(a, b) for a, b in zip(calm, other, strict=True))

    def test_epochs_differ_in_order_and_augmentation(self, tmp_path: Path) -> None:
        data = load(photo_folder(tmp_path, {"a": 9, "b": 9}), 16)
        loader = training_batches(data, split_dataset(data, 0).train, 16, 16, 0)
        first, second = (torch.cat([images.flatten(1) for images, _ in loader]) for _ in range(2))
        assert not torch.equal(first, second)


class TestSources:
    def test_digits_are_all_there(self) -> None:
        data = load("digits")
        assert len(data.labels) == 1797
        assert data.images[0].shape == (1, 8, 8)
        assert data.images[0].max() > 200

    def test_official_parts_of_a_folder_are_kept(self, tmp_path: Path) -> None:
        photo_folder(tmp_path / "train", {"a": 6, "b": 6})
        photo_folder(tmp_path / "test", {"a": 2, "b": 3})
        split = split_dataset(load(tmp_path, 16), 0)
        assert len(split.test) == 5

    def test_class_names_may_be_anything(self, tmp_path: Path) -> None:
        data = load(photo_folder(tmp_path, {"<script>": 3, "ü 'x' \"y\"": 3}), 16)
        assert data.classes == ("<script>", "ü 'x' \"y\"")

    def test_same_pixels_same_fingerprint(self, tmp_path: Path) -> None:
        folder = photo_folder(tmp_path, {"a": 3, "b": 3})
        before = load(folder, 16).fingerprint
        assert load(folder, 16).fingerprint == before
        Image.new("RGB", (30, 20), "red").save(folder / "a" / "0.png")
        assert load(folder, 16).fingerprint != before

    def test_fashion_mnist_and_pets(self, data_dir: Path) -> None:
        fashion = load_dataset("fashion-mnist", data_dir=data_dir)
        assert fashion.images[0].shape == (1, 28, 28)
        assert fashion.test is not None
        assert (len(fashion.labels), len(fashion.test)) == (70_000, 10_000)
        pets = load_dataset("pets", 32, data_dir=data_dir)
        assert len(pets.classes) == 37
        assert pets.test is not None
        assert len(np.intersect1d(split_dataset(pets, 0).train, pets.test)) == 0


class TestBadData:
    def test_unknown_name(self) -> None:
        with pytest.raises(UserError, match=r"'nonsense' is neither a folder, a table .* nor one of digits"):
            load("nonsense")

    def test_corrupt_images_are_all_named(self, tmp_path: Path) -> None:
        folder = photo_folder(tmp_path, {"cat": 4, "dog": 4})
        (folder / "cat" / "0.png").write_bytes(b"not an image")
        (folder / "dog" / "3.png").write_bytes((folder / "dog" / "3.png").read_bytes()[:300])
        (folder / "dog" / "2.png").write_bytes(b"")
        with pytest.raises(
            UserError, match=r"3 images cannot be read: cat/0.png \(not an image\); dog/2.png .*dog/3.png"
        ):
            load(folder, 16)

    def test_a_class_with_two_photos(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"Each class needs at least 3 images.*'rare' has 2"):
            load(photo_folder(tmp_path, {"common": 5, "rare": 2}), 16)

    def test_one_class_only(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="one class only, 'cat'"):
            load(photo_folder(tmp_path, {"cat": 5}), 16)

    def test_an_empty_folder_and_an_empty_class(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="not a folder of class folders"):
            load(tmp_path, 16)
        (photo_folder(tmp_path, {"cat": 3}) / "dog").mkdir()
        with pytest.raises(UserError, match="dog"):
            load(tmp_path, 16)

    def test_parts_with_different_classes(self, tmp_path: Path) -> None:
        photo_folder(tmp_path / "train", {"a": 6, "b": 6})
        photo_folder(tmp_path / "test", {"a": 2, "c": 3})
        with pytest.raises(UserError, match="in one of them only: b, c"):
            load(tmp_path, 16)

    def test_missing_from_disk_and_not_to_be_downloaded(self, tmp_path: Path, monkeypatch) -> None:
        from torchvision.datasets import utils

        def offline(*args, **kwargs):
            raise OSError("no network")

        monkeypatch.setattr(utils, "_urlretrieve", offline)
        with pytest.raises(UserError, match=r"cifar10 is not in .* and could not be downloaded .* --data-dir"):
            load_dataset("cifar10", data_dir=tmp_path)

    IMAGES, LABELS = np.zeros((9, 4, 4), np.uint8), np.arange(9) % 3

    @pytest.mark.parametrize(
        ("arrays", "sentence"),
        [
            ({"images": IMAGES}, "no array named labels"),
            ({"images": IMAGES / 255, "labels": LABELS}, "images is float64"),
            ({"images": IMAGES[:, 0], "labels": LABELS}, r"images is uint8 of shape \(9, 4\)"),
            ({"images": IMAGES, "labels": LABELS[:-1]}, "expected 9 integers"),
            ({"images": IMAGES, "labels": LABELS - 1}, r"labels run from -1 to 1; they must lie in \[0, 2\)"),
            ({"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b"])}, r"must lie in \[0, 2\)"),
            ({"images": IMAGES[:0], "labels": LABELS[:0]}, "holds no image"),
            ({"images": IMAGES, "labels": LABELS * 2}, "'1' has 0"),
            ({"images": np.array([None]), "labels": LABELS}, "cannot be read"),
            ({"images": np.zeros((9, 0, 4), np.uint8), "labels": LABELS}, r"images has shape \(9, 0, 4\)"),
            ({"images": IMAGES, "labels": LABELS * 10**12}, "labels run to 2000000000000"),
            ({"images": IMAGES, "labels": LABELS, "classes": np.array("cat")}, r"must lie in \[0, 1\)"),
            ({"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "a", "b"])}, "no name twice"),
            ({"images": IMAGES, "labels": LABELS, "classes": np.arange(3)}, "one name for each class"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_npz(self, arrays, sentence, tmp_path: Path) -> None:
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(UserError, match=sentence):
            load(tmp_path / "bad.npz")

    @pytest.mark.parametrize("damage", ["encrypted", "method", "truncated", "header"])
    def test_a_damaged_npz(self, damage: str, tmp_path: Path) -> None:
        path = tmp_path / "bad.npz"
        np.savez(path, images=np.asfortranarray(self.IMAGES), labels=self.LABELS)
        content = bytearray(path.read_bytes())
        central = content.index(b"PK\x01\x02")
        if damage == "encrypted":
            content[6] |= 1
            content[central + 8] |= 1
        elif damage == "method":
            content[8] = content[central + 10] = 99
        elif damage == "truncated":
            del content[len(content) // 2 :]
        else:
            content[content.index(b"{'descr'")] = ord("(")
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            load(path)

    def test_npz_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="does not exist"):
            load(tmp_path / "none.npz")
        (tmp_path / "text.npz").write_text("hello")
        with pytest.raises(UserError, match="cannot be read"):
            load(tmp_path / "text.npz")
