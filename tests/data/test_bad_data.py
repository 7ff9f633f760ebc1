"""A folder of real files with everything that can be wrong with them: said at once, or left out and listed."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelsmooth.data import Dataset, load_dataset, loading, photos, split_dataset
from labelsmooth.data.dataset import PhotoImages
from labelsmooth.data.photos import read_photo
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.study import load_study

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and pipes are those of POSIX")


def load(root: Path, skip: bool = False, to_train: bool = True) -> Dataset:
    return load_dataset(root, 16, skip_corrupt=skip, to_train=to_train)


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(root)
    return str(caught.value)


def photo(path: Path, **options) -> Path:
    """Pixels of its own for each path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(os.fsencode(path.name + path.parent.name + path.parts[-3])))
    Image.fromarray(pixels.integers(0, 255, (20, 30, 3), np.uint8)).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sound classes of six photos."""
    for name in ("cat", "dog"):
        for index in range(6):
            photo(tmp_path / "data" / name / f"{index}.png")
    return tmp_path / "data"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """The same with a test part of two photos a class."""
    for part, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            for index in range(count):
                photo(tmp_path / "data" / part / name / f"{index}.png")
    return tmp_path / "data"


def empty(root: Path) -> None:
    (root / "cat" / "0.png").write_bytes(b"")


def text(root: Path) -> None:
    (root / "cat" / "0.png").write_text("hello")


def truncated(root: Path) -> None:
    file = root / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:900])


def bomb(root: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(root / "cat" / "0.png")


def worse_bomb(root: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(root / "cat" / "0.png")


def strip(root: Path) -> None:
    Image.new("1", (6_000, 3)).save(root / "cat" / "0.png")


def pipe(root: Path) -> None:
    (root / "cat" / "0.png").unlink()
    os.mkfifo(root / "cat" / "0.png")


def link_out(root: Path) -> None:
    secret = photo(root.parent / "elsewhere" / "secret.png")
    (root / "cat" / "0.png").unlink()
    (root / "cat" / "0.png").symlink_to(secret)


def folder_out(root: Path) -> None:
    photo(root.parent / "elsewhere" / "secret.png")
    (root / "cat" / "more").symlink_to(root.parent / "elsewhere")


def broken_link(root: Path) -> None:
    (root / "cat" / "0.png").unlink()
    (root / "cat" / "0.png").symlink_to("nowhere")


def loop(root: Path) -> None:
    (root / "cat" / "up").symlink_to("..")


def renamed(root: Path) -> None:
    (root / "cat" / "0.png").rename(root / "cat" / "0.dat")


def raw(root: Path) -> None:
    (root / "cat" / "0.png").rename(root / "cat" / "0.NEF")


def not_utf8(root: Path) -> None:
    os.rename(root / "cat" / "0.png", os.fsencode(root / "cat") + b"/caf\xe9.png")


def twice(root: Path) -> None:
    (root / "cat" / "1.png").write_bytes((root / "cat" / "0.png").read_bytes())


def two_classes(root: Path) -> None:
    (root / "dog" / "1.png").write_bytes((root / "cat" / "0.png").read_bytes())


KINDS = [
    (empty, r"1 image cannot be read: cat/0.png \(empty file\)", ["cat/0.png (empty file)"]),
    (text, r"1 image cannot be read: cat/0.png \(not an image\)", ["cat/0.png (not an image)"]),
    (truncated, r"1 image cannot be read: cat/0.png \(.*truncated", None),
    (bomb, r"1 image is too large to decode: cat/0.png \(10000 x 10000 pixels; the limit is 89,478,485\)", None),
    (worse_bomb, r"1 image is too large to decode: cat/0.png \(more than 89,478,485 pixels\)", None),
    (strip, r"1 image is too large to decode: cat/0.png \(6000 x 3 pixels; one side may be 32 times", None),
    (pipe, r"1 image cannot be read: cat/0.png \(not a regular file\)", ["cat/0.png (not a regular file)"]),
    (link_out, r"1 link is not followed: cat/0.png \(leads out of the data folder\)", None),
    (folder_out, r"1 link is not followed: cat/more \(leads out of the data folder\)", None),
    (broken_link, r"1 link is not followed: cat/0.png \(a broken link\)", ["cat/0.png (a broken link)"]),
    (loop, r"1 link is not followed: cat/up \(leads back to a folder that holds it\)", None),
    (renamed, r"1 file is an image .* not by its name: cat/0.dat \(a PNG image by its content\)", None),
    (raw, r"1 photo is in a format that is not read: cat/0.NEF", ["cat/0.NEF (NEF is not read)"]),
    (not_utf8, r"1 name is not UTF-8: cat/caf\\udce9.png", ["cat/caf\\udce9.png (name is not UTF-8)"]),
    (twice, r"1 photo is there twice: cat/0.png = cat/1.png", ["cat/1.png (the same photo as cat/0.png)"]),
    (
        two_classes,
        r"1 photo is in two classes: cat/0.png = dog/1.png",
        ["cat/0.png (the same photo as dog/1.png)", "dog/1.png (the same photo as cat/0.png)"],
    ),
]


@pytest.mark.parametrize(("spoil", "sentence", "skipped"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
class TestKinds:
    def test_refused_with_a_message(self, spoil: Callable[[Path], None], sentence: str, skipped, root: Path) -> None:
        spoil(root)
        with pytest.raises(UserError, match=f"^{sentence}.*--skip-corrupt"):
            load(root)

    def test_left_out_and_listed(self, spoil: Callable[[Path], None], sentence: str, skipped, root: Path) -> None:
        spoil(root)
        data = load(root, skip=True)
        if skipped:
            assert list(data.skipped) == skipped
        assert len(data.skipped) == (2 if spoil is two_classes else 1)
        gone = {entry.split(" (")[0] for entry in data.skipped}
        assert not gone & set(data.files)
        assert len(data.files) == len(data.labels) == len(data.images) == 12 - len(gone - {"cat/more", "cat/up"})
        # What is left is as if the bad files had never been there.
        for name in gone:
            path = root / name.replace("\\udce9", "\udce9")
            path.unlink()
        clean = load(root)
        assert clean.fingerprint == data.fingerprint
        assert [data.classes[label] for label in data.labels] == [name.split("/")[0] for name in data.files]
        assert all(torch.equal(data.images[k], clean.images[k]) for k in range(len(data.files)))


class TestAtOnce:
    def test_several_kinds_in_one_message(self, root: Path) -> None:
        for spoil in (empty, folder_out, twice):
            spoil(root)
        (root / "void").mkdir()
        message = refusal(root)
        assert message.startswith("The data is not fit to train on, for 3 reasons:")
        for part in ("1 class folder holds no image: void", "cat/0.png (empty file)", "cat/more (leads out"):
            assert part in message

    def test_ten_names_of_a_kind(self, tmp_path: Path) -> None:
        for index in range(14):
            photo(tmp_path / "data" / "cat" / f"{index:02}.png").write_bytes(b"")
            photo(tmp_path / "data" / "dog" / f"{index:02}.png")
        message = refusal(tmp_path / "data")
        assert message.count("(empty file)") == 10
        assert "; and 4 more. Replace or remove." in message

    def test_a_class_that_gets_too_small_is_refused_all_the_same(self, root: Path) -> None:
        for index in range(4):
            (root / "dog" / f"{index}.png").write_bytes(b"")
        with pytest.raises(UserError, match=r"at least 3 images.*'dog' has 2.*Left out were: dog/0.png"):
            load(root, skip=True)

    def test_an_empty_class_is_refused_all_the_same(self, root: Path) -> None:
        (root / "void").mkdir()
        for skip in (False, True):
            with pytest.raises(UserError, match=r"1 class folder holds no image: void\. Add images"):
                load(root, skip)

    def test_a_name_cannot_write_to_the_terminal(self, root: Path) -> None:
        photo(root / "cat" / "a\nb\x1b[31m.png").write_bytes(b"")
        assert r"cat/a\nb\x1b[31m.png (empty file)" in refusal(root)


class TestMeasuredOnly:
    """Images that a model is measured on, and not trained."""

    def test_small_and_empty_classes_are_taken(self, root: Path) -> None:
        for index in range(1, 6):
            (root / "dog" / f"{index}.png").unlink()
        (root / "void").mkdir()
        data = load(root, to_train=False)
        assert np.bincount(data.labels, minlength=3).tolist() == [6, 1, 0]
        shutil.rmtree(root / "dog")
        shutil.rmtree(root / "void")
        assert load(root, to_train=False).classes == ("cat",)

    def test_copies_count_once_as_with_skip_corrupt(self, root: Path) -> None:
        shutil.copy(root / "cat/0.png", root / "cat/9.png")
        data = load(root, to_train=False)
        assert data.remarks == ["1 file left out: cat/9.png (the same photo as cat/0.png)."]
        assert data.fingerprint == load(root, skip=True).fingerprint

    def test_what_is_wrong_is_refused_all_the_same(self, root: Path) -> None:
        (root / "cat/0.png").write_bytes(b"")
        shutil.copy(root / "cat/1.png", root / "dog/9.png")
        with pytest.raises(
            UserError, match=r"not fit to measure, for 2 reasons:\n.*1 image cannot be(.|\n)*in two classes"
        ):
            load(root, to_train=False)

    def test_no_image_at_all(self, root: Path) -> None:
        for path in root.rglob("*.png"):
            path.unlink()
        with pytest.raises(UserError, match="There is no image in the data"):
            load(root, to_train=False)


class TestParts:
    def test_the_same_photo_in_both(self, parts: Path) -> None:
        (parts / "train/cat/3.png").write_bytes((parts / "test/cat/0.png").read_bytes())
        assert refusal(parts).startswith("1 photo is in two parts of the data: train/cat/3.png = test/cat/0.png")
        data = load(parts, skip=True)
        assert data.skipped == ("train/cat/3.png (the same photo as test/cat/0.png)",)
        assert data.test is not None
        assert [data.files[k] for k in data.test] == [f"test/{c}/{k}.png" for c in ("cat", "dog") for k in range(2)]
        split = split_dataset(data, 0)
        assert np.array_equal(split.test, data.test)
        assert len(split.train) + len(split.validation) == 11

    def test_numbers_of_the_test_part_follow_what_is_left(self, parts: Path) -> None:
        (parts / "train/cat/0.png").write_bytes(b"")
        (parts / "test/dog/0.png").write_bytes(b"")
        data = load(parts, skip=True)
        assert data.test is not None
        assert [data.files[k] for k in data.test] == ["test/cat/0.png", "test/cat/1.png", "test/dog/1.png"]

    def test_a_photo_twice_in_the_test_part_is_noted(self, parts: Path) -> None:
        (parts / "test/cat/1.png").write_bytes((parts / "test/cat/0.png").read_bytes())
        data = load(parts)
        assert data.notes == ("The test part has a photo more than once: test/cat/0.png = test/cat/1.png.",)
        assert len(data.files) == 16

    def test_val_is_the_test_part_where_there_is_no_other(self, parts: Path) -> None:
        (parts / "test").rename(parts / "val")
        data = load(parts)
        assert data.test is not None
        assert len(data.test) == 4
        assert data.notes == ("There is no test/: val/ is the test part.",)

    def test_val_beside_test_is_said_to_be_unused(self, parts: Path) -> None:
        photo(parts / "val" / "cat" / "0.png")
        assert load(parts).notes == ("val/ is not used: validation photos are drawn from train/.",)

    @pytest.mark.parametrize(
        ("train", "test"),
        [("Train", "Test"), ("Training", "Testing"), ("seg_train", "seg_test"), ("train", "Val"), ("TRAIN", "dev")],
    )
    def test_parts_are_known_by_their_names_in_any_case(self, parts: Path, train: str, test: str) -> None:
        (parts / "train").rename(parts / train)
        (parts / "test").rename(parts / test)
        data = load(parts)
        assert data.classes == ("cat", "dog")
        assert data.test is not None
        assert {Path(data.files[index]).parts[0] for index in data.test} == {test}
        assert len(data.test) == 4

    def test_a_part_within_a_folder_of_its_own_name(self, parts: Path) -> None:
        for part in ("train", "test"):
            (parts / f"seg_{part}").mkdir()
            (parts / part).rename(parts / f"seg_{part}" / f"seg_{part}")
        assert load(parts).classes == ("cat", "dog")

    def test_unlabelled_photos_are_not_used(self, parts: Path) -> None:
        photo(parts / "pred" / "0.png")
        assert load(parts).notes == ("pred/ is not used: its photos have no labels.",)

    @pytest.mark.parametrize("name", ["bird", "training", "Test"])
    def test_parts_beside_other_folders_are_refused(self, parts: Path, name: str) -> None:
        photo(parts / name / "cat" / "0.png")
        sentence = refusal(parts)
        assert "looks like a data set in parts, but has the folders" in sentence
        assert f"{name}/" in sentence
        assert "Move the other folders away" in sentence

    def test_a_training_part_alone_is_refused(self, parts: Path) -> None:
        shutil.rmtree(parts / "test")
        assert "looks like a data set in parts" in refusal(parts)

    def test_classes_may_be_called_train_and_test(self, tmp_path: Path) -> None:
        for name in ("train", "test"):
            for index in range(3):
                photo(tmp_path / "data" / name / f"{index}.png")
        data = load(tmp_path / "data")
        assert data.classes == ("test", "train")
        assert data.test is None


class TestAccepted:
    """Odd, but sound: read, and said where it may surprise."""

    def test_other_files_are_listed_and_hidden_ones_are_not(self, root: Path) -> None:
        for name in ("README.md", "cat/notes.txt", ".DS_Store", "cat/.hidden.png", "cat/Thumbs.db", "cover.png"):
            (root / name).write_text("not an image")
        (root / ".git").mkdir()
        data = load(root)
        assert data.notes == (
            "Of no class, and left out: cover.png.",
            "Not images, and left alone: README.md; cat/notes.txt.",
        )
        assert len(data.files) == 12

    def test_an_image_under_another_images_name_is_read(self, root: Path) -> None:
        (root / "cat" / "0.png").rename(root / "cat" / "0.jpg")
        data = load(root)
        assert data.notes == ("Read as what they are, not as what their extension says: cat/0.jpg (PNG).",)
        assert "cat/0.jpg" in data.files

    def test_class_names_survive(self, tmp_path: Path) -> None:
        names = sorted(["<script>", "a \"b\" 'c'", "=1+1", "line\nbreak", "ünï 猫", "a,b"])
        for name in names:
            for index in range(3):
                photo(tmp_path / "data" / name / f"{index}.png")
        assert list(load(tmp_path / "data").classes) == names

    def test_links_within_the_folder_and_folders_within_a_class(self, root: Path) -> None:
        photo(root / "cat" / "2020" / "a.png").rename(root / "cat" / "2020" / "z.png")
        (root / "puppy").symlink_to("dog")
        assert "6 photos are in two classes: dog/0.png = puppy/0.png" in refusal(root)
        (root / "puppy").unlink()
        assert "cat/2020/z.png" in load(root).files

    def test_a_link_to_the_data_folder_itself(self, root: Path) -> None:
        (root.parent / "link").symlink_to(root)
        assert load(root.parent / "link").fingerprint == load(root).fingerprint


class TestNothingIsDecoded:
    def test_of_a_bomb_but_its_header(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bomb(root)

        def decode(image: Image.Image, size: int) -> torch.Tensor:
            assert image.width < 10_000, "decoded a decompression bomb"
            return torch.zeros(3, 16, 16, dtype=torch.uint8)

        monkeypatch.setattr(photos, "decode", decode)
        assert load(root, skip=True).skipped[0].startswith("cat/0.png (10000 x 10000 pixels")

    def test_of_a_huge_file_but_its_size(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(photos, "FILE_LIMIT", 100)
        with pytest.raises(UserError, match=r"12 images are too large.* bytes; the limit is 100"):
            load(root)


class TestPool:
    def test_in_order_and_progress_from_the_callers_thread(self, root: Path) -> None:
        calls = []

        class Calls(Progress):
            def photos(self, done: int, total: int) -> None:
                assert threading.current_thread() is threading.main_thread()
                calls.append((done, total))

        data = load_dataset(root, 16, progress=Calls())
        assert calls == [(k + 1, 12) for k in range(12)]
        for index, name in enumerate(data.files):
            assert torch.equal(data.images[index], read_photo(root / name, 16).pixels)

    def test_an_interrupt_stops_it_at_once(self, root: Path) -> None:
        seen = []

        def interrupted(index: int) -> int:
            seen.append(index)
            return index

        def run() -> None:
            for index in loading.in_order(interrupted, range(10_000)):
                if index == 3:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run()
        assert len(seen) < 200
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("photos")]

    def test_beyond_the_cache_a_photo_is_read_again(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = load(root)
        monkeypatch.setattr("labelsmooth.data.dataset.CACHE_BYTES", 5_000)
        data = load(root)
        assert isinstance(data.images, PhotoImages)
        assert not data.images.all_cached
        assert data.fingerprint == whole.fingerprint
        assert all(torch.equal(data.images[k], whole.images[k]) for k in range(12))
        (root / "dog" / "5.png").write_bytes(b"")
        with pytest.raises(UserError, match=r"dog/5.png cannot be read any more \(empty file\)"):
            data.images[11]


def test_pets_with_a_bad_photo(tmp_path: Path) -> None:
    """The pets in torchvision's layout: photos twice are published so, and kept; links that lead out are not read."""
    base = tmp_path / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for part, numbers in (("trainval", range(4)), ("test", range(4, 6))):
        lines = [f"{breed}_{k} {label} 1 1" for label, breed in ((1, "Pug"), (2, "Bengal")) for k in numbers]
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines))
        for line in lines:
            photo(base / "images" / f"{line.split()[0]}.jpg")
    images = base / "images"
    (images / "Pug_1.jpg").write_bytes((images / "Pug_4.jpg").read_bytes())

    def pets(skip: bool = False) -> Dataset:
        return load_dataset("pets", 16, data_dir=tmp_path, skip_corrupt=skip)

    data = pets()
    assert data.files[0] == "oxford-iiit-pet/images/Pug_0.jpg"
    assert len(data.files) == 12
    assert "Pug_1.jpg = " in data.notes[0]
    (images / "Bengal_4.jpg").write_bytes(b"")
    (images / "Pug_0.jpg").unlink()
    (images / "Pug_0.jpg").symlink_to(photo(tmp_path / "elsewhere" / "a.jpg"))
    with pytest.raises(UserError, match=r"(?s)Pug_0.jpg \(leads out.*Bengal_4.jpg \(empty file\)"):
        pets()
    data = pets(skip=True)
    assert len(data.skipped) == 2
    assert data.test is not None
    assert [data.files[k].split("/")[-1] for k in data.test] == ["Pug_4.jpg", "Pug_5.jpg", "Bengal_5.jpg"]


def test_no_warning_reaches_the_user(root: Path) -> None:
    bomb(root)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(root, skip=True)
    assert not caught


def test_a_study_goes_on_and_keeps_the_list(root: Path) -> None:
    from typer.testing import CliRunner

    from labelsmooth.cli import app

    empty(root)
    out = root.parent / "out"
    options = ["--methods", "plain", "--seeds", "1", "--epochs", "1", "--backbone", "test_resnet", "--weights", "none"]
    arguments = ["study", str(root), *options, "--out", str(out)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "or give --skip-corrupt to go on" in " ".join(refused.stderr.split())
    done = CliRunner().invoke(app, [*arguments, "--skip-corrupt"])
    assert done.exit_code == 0, done.output
    assert "Note: 1 file left out: cat/0.png (empty file)." in " ".join(done.stderr.split())
    assert load_study(out).data.skipped == ["cat/0.png (empty file)"]
