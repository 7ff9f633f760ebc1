"""A folder of class folders: its classes, its photos, and every problem with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labelsmooth.data.dataset import class_count, too_few
from labelsmooth.data.loading import Listing, PhotoFile
from labelsmooth.data.photos import EXTENSIONS, image_format, pillow_quiet
from labelsmooth.data.problems import Problems, listed
from labelsmooth.errors import shown

# Folders with these words in their name, in any case, are parts: train, Training, seg_test, Val, ...
PARTS = {
    "train": {"train", "training", "trainset"},
    "test": {"test", "testing", "testset"},
    "validation": {"val", "valid", "validation", "dev"},
    "unlabelled": {"pred", "predict", "prediction", "unlabeled", "unlabelled"},
}
# Files and folders of operating systems and file servers.
CLUTTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"}
# Formats of photos that Pillow does not read, or not safely.
FOREIGN = {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".psd", ".svg", ".eps", ".jxl"}


def scan_folder(root: Path, problems: Problems, nested: bool = False) -> Listing:
    """List ``CLASS/photo.jpg``, or ``train/CLASS/photo.jpg`` with ``test/CLASS/...`` (or ``val/``) beside it.

    Args:
        nested: each folder that holds photos is a class, named by its path: ``cat/siamese/1.jpg`` is of the class
            "cat/siamese".

    Raises:
        UserError: there are no class folders, or one only, or the parts have different classes.
    """
    tree = _Tree(root, problems)
    parts, notes = _parts(tree, root, problems)
    names = [[folder.relative_to(part).as_posix() for folder in tree.classes(part, nested)] for part in parts]
    classes = names[0]
    if not any(names):
        problems.add("structure", f"{root} is not a folder of class folders with images in each: expected {EXPECTED}.")
    elif any(other != classes for other in names):
        only = sorted(set(names[0]) ^ set(names[1]))
        problems.add(
            "structure",
            f"{parts[0]} and {parts[1]} have different classes; in one of them only: {listed(map(shown, only), ', ')}.",
        )
    elif len(classes) < 2 and problems.to_train:
        problems.add("structure", class_count(tuple(classes)))
    else:
        for name in classes:
            if not _is_utf8(name):
                message = f"The class folder {shown(name)} has a name that is not UTF-8; rename it."
                problems.add("structure", message)
        files = [
            PhotoFile(path, path.relative_to(root).as_posix(), label, "test" if number else "train")
            for number, part in enumerate(parts)
            for label, name in enumerate(classes)
            for path in tree.photos(part / name, nested)
        ]
        counts = np.bincount([file.label for file in files], minlength=len(classes))
        few = too_few(tuple(classes), np.where(counts == 0, 3, counts))  # empty folders are reported by themselves
        if few:
            problems.add("counts", few)
        notes += [f"Of no class, and left out: {listed(tree.stray)}."] if tree.stray else []
        notes += [f"Not images, and left alone: {listed(tree.others)}."] if tree.others else []
        return Listing(tuple(classes), files, notes)
    problems.raise_all()
    raise AssertionError("a folder without classes is a problem")


def _parts(tree: _Tree, root: Path, problems: Problems) -> tuple[list[Path], list[str]]:
    """The folders that hold the class folders, training part first, and notes: the root alone, or two parts.

    Names of parts are class names too, as in a data set of vehicles with photos right within train/ and bus/.  So
    folders are parts only if a training part holds folders.
    """
    kinds: dict[str, list[Path]] = {}
    for folder in tree.folders(root):
        kinds.setdefault(part_of(folder.name), []).append(folder)
    training = [folder for folder in kinds.get("train", []) if _has_folders(folder)]
    held_out = kinds.get("test") or kinds.get("validation") or []
    if not training:
        return [root], []
    others = [folder.name for folder in kinds.get("", [])]
    if len(kinds["train"]) > 1 or len(held_out) != 1 or others:
        names = listed(shown(f"{folder.name}/") for folders in kinds.values() for folder in folders)
        problems.add(
            "structure",
            f"{root} looks like a data set in parts, but has the folders {names}. Expected are one folder of training "
            f"photos and one of test (or validation) photos, each of class folders: {EXPECTED}. Move the other folders "
            "away, or give the folder of class folders itself.",
        )
        problems.raise_all()
    test = held_out[0]
    notes = [f"There is no test/: {test.name}/ is the test part."] if part_of(test.name) != "test" else []
    if unused := [folder.name for folder in kinds.get("validation", []) if folder != test]:
        notes.append(f"{', '.join(unused)}/ is not used: validation photos are drawn from {training[0].name}/.")
    if unlabelled := [folder.name for folder in kinds.get("unlabelled", [])]:
        notes.append(f"{', '.join(unlabelled)}/ is not used: its photos have no labels.")
    return [_unwrapped(tree, part) for part in (training[0], test)], notes


def part_of(name: str) -> str:
    """The part that a folder's name means: "train", "test", "validation", "unlabelled", or "" for none."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((part for part, known in PARTS.items() if words & known), "")


def _unwrapped(tree: _Tree, part: Path) -> Path:
    """``seg_train/seg_train`` where a part holds nothing but itself."""
    folders = tree.folders(part)
    if len(folders) == 1 and part_of(folders[0].name) == part_of(part.name) and _has_folders(folders[0]):
        return folders[0]
    return part


EXPECTED = "CLASS/photo.jpg, or train/CLASS/photo.jpg and test/CLASS/photo.jpg"


def _has_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    except OSError:
        return True  # listing the folder reports the error


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)  # Python's escapes of undecodable bytes


class _Tree:
    """The folders and photos below a root; links that lead out of it are refused."""

    def __init__(self, root: Path, problems: Problems) -> None:
        self._root = root
        self._real = os.path.realpath(root)
        self._problems = problems
        self._folders: dict[Path, list[Path]] = {}
        self._listings: dict[Path, list[tuple[Path, bool]]] = {}
        self.others: list[str] = []  # files that are not images
        self.stray: list[str] = []  # photos beside the class folders

    def folders(self, folder: Path) -> list[Path]:
        """The folders within a folder, sorted; files beside them belong to no class."""
        if folder not in self._folders:
            entries = self._entries(folder)
            self._folders[folder] = [path for path, is_folder in entries if is_folder]
            for path, is_folder in entries:
                if not is_folder:
                    (self.stray if is_photo_name(path) else self.others).append(self._shown(path))
        return self._folders[folder]

    def classes(self, part: Path, nested: bool) -> list[Path]:
        """The folders that are classes, sorted: those within the part or, nested, all below it that hold photos."""
        if not nested:
            return self.folders(part)
        below = (folder for child in self.folders(part) for folder in [child, *self._all_folders(child)])
        return sorted(folder for folder in below if any(is_photo_name(path) for path, _ in self._entries(folder)))

    def _all_folders(self, folder: Path) -> Iterator[Path]:
        for path, is_folder in self._entries(folder):
            if is_folder and not path.is_symlink():  # a link may lead to a folder that holds it
                yield from [path, *self._all_folders(path)]

    def photos(self, folder: Path, nested: bool = False) -> list[Path]:
        """The photos below a class folder, or nested right within it, sorted by folder and then by name."""
        photos: list[tuple[str, str]] = []
        real = Path(os.path.realpath(folder))
        self._collect(folder, (str(real), *map(str, real.parents)), photos, nested)
        if not photos:
            self._problems.add("class", self._name(folder))
        return [Path(parent, name) for parent, name in sorted(photos)]

    def _collect(self, folder: Path, above: tuple[str, ...], photos: list[tuple[str, str]], nested: bool) -> None:
        for path, is_folder in self._entries(folder):
            if is_folder and nested:
                continue  # a class of its own
            if is_folder:
                real = os.path.realpath(path)
                if real in above:
                    self._problems.add("link", self._name(path), "leads back to a folder that holds it")
                else:
                    self._collect(path, (*above, real), photos, nested)
            elif self._is_photo(path):
                photos.append((str(folder), path.name))

    def _is_photo(self, path: Path) -> bool:
        extension = path.suffix.lower()
        name = self._name(path)
        if not _is_utf8(name):
            self._problems.add("encoding", name)
        elif not path.is_file():
            self._problems.add("unreadable", name, "not a regular file")
        elif is_photo_name(path):
            return True
        elif extension in FOREIGN:
            self._problems.add("format", name, f"{extension[1:].upper()} is not read")
        else:
            with pillow_quiet():
                content = image_format(path)
            if content:
                self._problems.add("extension", name, f"a {content} image by its content")
            else:
                self.others.append(self._shown(path))
        return False

    def _entries(self, folder: Path) -> list[tuple[Path, bool]]:
        """(path, whether it is a folder), sorted; without hidden files, clutter, and refused links."""
        if folder not in self._listings:  # once, so that each problem is reported once
            self._listings[folder] = list(self._listing(folder))
        return self._listings[folder]

    def _listing(self, folder: Path) -> Iterator[tuple[Path, bool]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._problems.add("unreadable", self._name(folder), error.strerror or str(error))
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                continue
            reason = leads_out(entry.path, self._real) if entry.is_symlink() else None
            if reason:
                self._problems.add("link", self._name(Path(entry.path)), reason)
            else:
                yield Path(entry.path), entry.is_dir()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _shown(self, path: Path) -> str:
        return shown(self._name(path))


def is_photo_name(path: Path) -> bool:
    """Whether the file has the extension of a photo."""
    return path.suffix.lower() in EXTENSIONS


def leads_out(link: str | Path, real_root: str) -> str | None:
    """Why a link is refused: its target is missing or outside the folder; None if it is within."""
    target = os.path.realpath(link)
    if not os.path.exists(target):
        return "a broken link"
    if not Path(target).is_relative_to(real_root):
        return "leads out of the data folder"
    return None
