"""Predictions from any file or data frame, opened as checked chunks.  Pickles are never opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from labelsmooth.calibrate.inputs import read_logits
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.metrics.rows import float64
from labelsmooth.predictions.arrays import npy_array, npz_arrays, rows_of
from labelsmooth.predictions.chunks import Source
from labelsmooth.predictions.columns import ColumnOptions, Kind
from labelsmooth.predictions.tables import FORMATS, Frame, frame_source, table_source, table_suffix


def open_predictions(
    source: StrPath | Frame,
    kind: Kind | None = None,
    *,
    labels_path: StrPath | None = None,
    columns: ColumnOptions | None = None,
    labels: bool = True,
) -> Source:
    """Open predictions; they are read chunk by chunk, in memory that does not grow with the file.

    Args:
        source: ``.npz`` with the arrays ``labels`` and ``probabilities`` or ``logits``; ``.npy`` of scores (N, K),
            whose labels are in ``labels_path``; a table (``.csv``, ``.tsv``, ``.parquet``, ``.jsonl``; ``.gz`` too);
            or a data frame of pandas, Polars or pyarrow.
        kind: which scores; needed for ``.npy``, and where a file holds both.
        labels_path: the ``.npy`` of labels (N,).
        columns: which columns of a table hold what, or, for ``.npz``, the array to group by.
        labels: whether labels must be there.

    Raises:
        UserError: predictions that cannot be used; the message names the file.
    """
    options = columns or ColumnOptions()
    if not isinstance(source, (str, os.PathLike)):
        _refuse_labels_path(labels_path, "a data frame")
        return frame_source(source, kind, options, labels)
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path} is not a file.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty.")
    suffix = table_suffix(path)
    if suffix == ".npy":
        return _npy(path, kind, labels_path, options, labels)
    _refuse_labels_path(labels_path, str(path))
    if suffix == ".npz":
        return _npz(path, kind, options, labels)
    if suffix in FORMATS:
        return table_source(path, kind, options, labels)
    raise UserError(
        f"{path}: {suffix or 'no suffix'} is none of .npz, .npy, {', '.join(FORMATS)}. Save your predictions with "
        "numpy.savez(file, probabilities=p, labels=y); pickles (.pkl, .pt) are never opened."
    )


def read_all(source: Source) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """All scores [N, K] and labels [N] of a labelled source; a UserError without rows or without all scores."""
    chunks = list(source.chunks)
    if not chunks:
        raise UserError(f"{source.name} has no rows.")
    if chunks[0].correct is not None:
        raise UserError(
            f"{source.name} has the confidence of the predicted class only; the scores of all classes are needed. "
            "Save one column for each class (p0, p1, ...)."
        )
    labels = [chunk.labels for chunk in chunks if chunk.labels is not None]
    return np.concatenate([chunk.scores for chunk in chunks]), np.concatenate(labels)


def logits_of(
    source: Source, scores: npt.NDArray[Any], first_row: int = 0, zero: float = 0.0
) -> npt.NDArray[np.float64]:
    """Scores of a source as validated logits in float64; `first_row` and `zero` are those of `read_logits`."""
    try:
        z, _ = read_logits(**{source.kind: scores}, first_row=first_row, zero=zero)
    except (ValueError, TypeError) as error:
        raise UserError(f"{source.name}: {error}") from error
    return float64(z)


def _refuse_labels_path(labels_path: StrPath | None, name: str) -> None:
    if labels_path is not None:
        raise UserError(f"--labels {os.fspath(labels_path)} is for .npy files; {name} holds its labels itself.")


def _refuse_columns(path: Path, options: ColumnOptions) -> None:
    given = [name for name, option in options.named().items() if option != "by"]
    if given or options.positive is not None or options.percent:
        raise UserError(
            f"{path} is not a table: the options that name columns, --positive-class and --percent do not apply to it."
        )


def _npz(path: Path, kind: Kind | None, options: ColumnOptions, labels: bool) -> Source:
    _refuse_columns(path, options)
    arrays = npz_arrays(path)
    names = list(arrays)
    kinds: list[Kind] = [name for name in get_args(Kind) if name in names]
    if kind is None and len(kinds) == 2:
        raise UserError(f"{path} holds both probabilities and logits: give --probabilities or --logits.")
    if not kinds or (kind is not None and kind not in kinds):
        wanted = "'probabilities' or 'logits'" if kind is None else repr(kind)
        raise UserError(f"{path} has no array {wanted}; its arrays are {', '.join(names) or 'none'}.")
    chosen = kind or kinds[0]
    for name in ("labels", options.by):
        if name is not None and name not in names and (name != "labels" or labels):
            raise UserError(f"{path} has no array {name!r}; its arrays are {', '.join(names)}.")
    groups = None if options.by is None else arrays[options.by]
    return Source(str(path), chosen, rows_of(path, arrays[chosen], arrays.get("labels"), groups))


def _npy(path: Path, kind: Kind | None, labels_path: StrPath | None, options: ColumnOptions, labels: bool) -> Source:
    _refuse_columns(path, options)
    if kind is None:
        raise UserError(f"{path} does not say what its numbers are: give --probabilities or --logits.")
    if options.by is not None:
        raise UserError(f"{path} has no columns: grouping needs a table, or an .npz with {options.by!r}.")
    if labels and labels_path is None:
        raise UserError(f"{path} holds scores alone: give the labels with --labels labels.npy.")
    truth = None if labels_path is None else npy_array(Path(labels_path))
    return Source(str(path), kind, rows_of(path, npy_array(path), truth, None))
