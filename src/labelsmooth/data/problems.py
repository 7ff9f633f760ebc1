"""Everything that is wrong with a data set, collected and reported in one message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from labelsmooth.errors import UserError, shown

LISTED = 10  # names of one kind in a message


class Kind(NamedTuple):
    """The words for a kind of problem with one file and with several, and what to do about it."""

    one: str
    many: str
    remedy: str
    skippable: bool = True
    of_training: bool = False  # a problem in training only; in an evaluation the file is left out


KINDS = {
    "structure": Kind("", "", "", skippable=False),  # whole sentences, with their remedy
    "counts": Kind("", "", "", skippable=False, of_training=True),  # likewise
    "class": Kind(
        "1 class folder holds no image",
        "{} class folders hold no image",
        "Add images or remove the folder.",
        skippable=False,
        of_training=True,
    ),
    "encoding": Kind("1 name is not UTF-8", "{} names are not UTF-8", "Rename."),
    "link": Kind(
        "1 link is not followed",
        "{} links are not followed",
        "Only what lies within the data folder is read: copy the files there.",
    ),
    "unreadable": Kind("1 image cannot be read", "{} images cannot be read", "Replace or remove."),
    "huge": Kind("1 image is too large to decode", "{} images are too large to decode", "Scale down, or remove."),
    "missing": Kind(
        "1 file of the table does not exist",
        "{} files of the table do not exist",
        "Paths are relative to the folder of the table, or to --data-dir: correct them, or remove the rows.",
    ),
    "rows": Kind("1 row cannot be used", "{} rows cannot be used", "Correct or remove."),
    "format": Kind(
        "1 photo is in a format that is not read",
        "{} photos are in a format that is not read",
        "Install what is named, or convert to JPEG or PNG.",
    ),
    "extension": Kind(
        "1 file is an image by its content but not by its name",
        "{} files are images by their content but not by their name",
        "Rename, with the extension of an image, or remove.",
    ),
    "parts": Kind(
        "1 photo is in two parts of the data",
        "{} photos are in two parts of the data",
        "The model would be tested on what it has seen: remove one of each.",
        of_training=True,
    ),
    "classes": Kind("1 photo is in two classes", "{} photos are in two classes", "Remove the wrong one of each."),
    "copies": Kind(
        "1 photo is there twice",
        "{} photos are there twice",
        "Copies would land on both sides of the split: remove one of each.",
        of_training=True,
    ),
}


def listed(names: Iterable[str], between: str = "; ") -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return between.join(names[:LISTED] + more)


class Problems:
    """Collects problems; with ``skip``, files that can be left out are left out and listed in ``skipped``.

    For an evaluation (``to_train`` false) classes may be small or empty, and one of several copies is used.
    """

    def __init__(self, skip: bool = False, to_train: bool = True) -> None:
        self._skip = skip
        self.to_train = to_train
        self._names: dict[str, list[str]] = {}
        self.skipped: list[str] = []

    def add(self, kind: str, name: str, reason: str = "") -> None:
        """Add a file or class, by its path within the data; or, for a kind without words, a whole sentence."""
        known = KINDS[kind]
        if self._leaves_out(known):
            self.skipped.append(f"{shown(name)} ({reason or known.one.removeprefix('1 ')})")
        elif self._is_allowed(known):
            return
        elif not known.one:
            self._names.setdefault(kind, []).append(name)
        else:
            self._names.setdefault(kind, []).append(f"{shown(name)} ({reason})" if reason else shown(name))

    def add_group(self, kind: str, names: list[str], drop: list[str]) -> None:
        """Add files with the same content; ``drop`` are those to leave out, where problems are left out."""
        if self._leaves_out(KINDS[kind]):
            for name in drop:
                twin = next(other for other in [*(n for n in names if n not in drop), *names] if other != name)
                self.add(kind, name, f"the same photo as {shown(twin)}")
        else:
            self._names.setdefault(kind, []).append(" = ".join(map(shown, names)))

    def _leaves_out(self, kind: Kind) -> bool:
        return kind.skippable and (self._skip or self._is_allowed(kind))

    def _is_allowed(self, kind: Kind) -> bool:
        return kind.of_training and not self.to_train

    def raise_all(self) -> None:
        """Raise a UserError if there is a problem: every kind in one message, at most ten names of each."""
        sentences = [sentence for kind in KINDS for sentence in self._sentences(kind)]
        if not sentences:
            return
        if any(KINDS[kind].skippable for kind in self._names):
            end = "Then start again; or give --skip-corrupt to go on without the files named."
        else:
            end = ""
        if len(sentences) == 1:
            raise UserError(f"{sentences[0]} {end}".rstrip())
        numbered = "".join(f"\n  {number}. {sentence}" for number, sentence in enumerate(sentences, 1))
        purpose = "train on" if self.to_train else "measure"
        raise UserError(f"The data is not fit to {purpose}, for {len(sentences)} reasons:{numbered}\n{end}".rstrip())

    def _sentences(self, kind: str) -> list[str]:
        names, known = self._names.get(kind, []), KINDS[kind]
        if not known.one or not names:
            return names
        headline = known.one if len(names) == 1 else known.many.format(len(names))
        return [f"{headline}: {listed(names)}. {known.remedy}"]
