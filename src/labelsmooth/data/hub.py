"""Data sets of Hugging Face's ``datasets``, as objects or as saved folders."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from labelsmooth.data.loading import Listing
from labelsmooth.data.photos import BadPhoto, read_bytes
from labelsmooth.data.problems import Problems
from labelsmooth.data.table import Columns, Labelled, as_text, find_column, list_labelled
from labelsmooth.errors import UserError


class HubData(Protocol):
    """A ``Dataset`` or a ``DatasetDict`` of Hugging Face's ``datasets``."""

    @property
    def column_names(self) -> object: ...

    def save_to_disk(self, dataset_path: str) -> None: ...


def is_hub_data(data: object) -> bool:
    """Whether an object is of the library ``datasets``."""
    return type(data).__module__.split(".")[0] == "datasets"


def is_saved_hub_data(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def scan_hub(data: HubData | Path, columns: Columns, problems: Problems) -> Listing:
    """List the images of a data set; the splits of a ``DatasetDict`` are its parts.

    Args:
        data: the object, or the folder of a saved one.
        columns: of the images and labels; by default the column of images, and that of class labels.

    Raises:
        UserError: the library is missing, the data cannot be read, or its columns are not found.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise UserError(f"{data} is data of Hugging Face's datasets; to read it: pip install datasets.") from error
    if isinstance(data, Path):
        try:
            data = datasets.load_from_disk(str(data))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{data} cannot be read by datasets ({error}); save it again.") from error
    parts: Mapping[str, Any] = data if isinstance(data, Mapping) else {"": data}
    photos: list[Labelled] = []
    for part, rows in parts.items():
        title = f"The part {part!r}" if part else "The data set"
        kinds = rows.features
        images = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
        classes = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
        image = images[0] if len(images) == 1 and not columns.path else find_column("path", images, columns.path, title)
        label = classes[0] if len(classes) == 1 and not columns.label else None
        label = label or find_column("label", rows.column_names, columns.label, title)
        assert image is not None
        names = getattr(kinds[label], "names", None)
        encoded = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        for row, value in enumerate(rows[label]):
            name = f"{part or 'row'} {row}"
            if value is None or (names is not None and value < 0):
                problems.add("rows", name, "no label")
            else:
                text = as_text(value) if names is None else names[value]
                photos.append(Labelled(partial(_encoded, encoded, image, row), name, text, part))
    return list_labelled(photos, "data set", [], problems)


def _encoded(rows: Any, column: str, row: int) -> bytes:
    """The bytes of an image file."""
    cell = rows[row][column]
    if cell is None:
        raise BadPhoto("unreadable", "no image")
    content: bytes | None = cell["bytes"]
    return read_bytes(Path(cell["path"])) if content is None else content
