"""A file of predictions as checked chunks: .npz, a pair of .npy, CSV or Parquet. Never a pickle, nothing guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import UserError

from .arrays import npy_array, npz_arrays, rows_of
from .tables import Chunk, csv_chunks, parquet_chunks

Kind = Literal["probabilities", "logits"]


def chunks(
    path: Path,
    kind: Kind | None = None,
    *,
    labels_path: Path | None = None,
    by: str | None = None,
    labels: bool = True,
) -> tuple[Kind, Iterator[Chunk]]:
    """Open a file of predictions.

    Args:
        path: ``.npz`` with the arrays ``labels`` and ``probabilities`` or ``logits``; ``.npy`` of scores (N, K), whose
            labels are in `labels_path`; ``.csv`` or ``.parquet`` with the columns ``label`` and p0, p1, ... or
            z0, z1, ...
        kind: which scores; needed for ``.npy``, and where a file holds both.
        labels_path: the ``.npy`` of labels (N,).
        by: a column (CSV, Parquet) or array (``.npz``) to group the rows by.
        labels: whether labels must be there.

    Returns:
        What the scores are, and the rows as chunks (scores [n, K], labels [n] or None, groups [n] or None). Files are
        read chunk by chunk and need little memory however long they are; arrays in Fortran's order are the exception.

    Raises:
        UserError: a sentence with the file, and the row where there is one.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty.")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _npz(path, kind, by, labels)
    if suffix == ".npy":
        return _npy(path, kind, labels_path, by, labels)
    try:
        if suffix == ".csv":
            found, rows = csv_chunks(path, kind, by, labels)
        elif suffix in (".parquet", ".pq"):
            found, rows = parquet_chunks(path, kind, by, labels)
        else:
            raise UserError(
                f"{path}: {suffix or 'no suffix'} is none of .npz, .npy, .csv and .parquet. Save your predictions with "
                "numpy.savez(file, probabilities=p, labels=y); pickles (.pkl, .pt) are never opened."
            )
    except UnicodeDecodeError as problem:
        raise UserError(f"{path} is not text in UTF-8: {problem}.") from problem
    return found, rows  # type: ignore[return-value]


def everything(
    path: Path, kind: Kind | None = None, *, labels_path: Path | None = None, labels: bool = True
) -> tuple[Kind, npt.NDArray[Any], npt.NDArray[np.int64] | None]:
    """A whole file: what the scores are, the scores (N, K), and the labels (N,) where there are any."""
    found, rows = chunks(path, kind, labels_path=labels_path, labels=labels)
    parts = list(rows)
    if not parts:
        raise UserError(f"{path} has no rows.")
    given = [part[1] for part in parts]
    joined = None if any(one is None for one in given) else np.concatenate([one for one in given if one is not None])
    return found, np.concatenate([part[0] for part in parts]), joined


def _npz(path: Path, kind: Kind | None, by: str | None, labels: bool) -> tuple[Kind, Iterator[Chunk]]:
    arrays = npz_arrays(path)
    names = list(arrays)
    held = [name for name in ("probabilities", "logits") if name in names]
    if kind is None and len(held) == 2:
        raise UserError(f"{path} holds both probabilities and logits: say --probabilities or --logits.")
    if not held or (kind is not None and kind not in held):
        wanted = "'probabilities' or 'logits'" if kind is None else repr(kind)
        raise UserError(f"{path} has no array {wanted}; its arrays are {', '.join(names) or 'none'}.")
    found: Kind = kind or held[0]
    for name in ("labels", by):
        if name is not None and name not in names and (name != "labels" or labels):
            raise UserError(f"{path} has no array {name!r}; its arrays are {', '.join(names)}.")
    return found, rows_of(path, arrays[found], arrays.get("labels"), None if by is None else arrays[by])


def _npy(
    path: Path, kind: Kind | None, labels_path: Path | None, by: str | None, labels: bool
) -> tuple[Kind, Iterator[Chunk]]:
    if kind is None:
        raise UserError(f"{path} does not say what its numbers are: say --probabilities or --logits.")
    if by is not None:
        raise UserError(f"{path} has no columns: grouping needs a CSV or Parquet file, or an .npz with {by!r}.")
    if labels and labels_path is None:
        raise UserError(f"{path} holds scores alone: give the labels with --labels labels.npy.")
    truth = None if labels_path is None else npy_array(labels_path)
    return kind, rows_of(path, npy_array(path), truth, None)
