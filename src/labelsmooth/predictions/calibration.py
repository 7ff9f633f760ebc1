"""Calibrators from and to files: fit on one file of predictions, apply to another."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from labelsmooth.calibrate import CATALOGUE, Calibrator, Name, best, check_name, load, save
from labelsmooth.calibrate.catalogue import title_of
from labelsmooth.calibrate.inputs import random_parts, zero_of
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath, check_output, disk_errors, whole_file
from labelsmooth.metrics import Interval
from labelsmooth.metrics.numbers import capitalized
from labelsmooth.predictions.arrays import NpzWriter
from labelsmooth.predictions.chunks import Chunk, Source
from labelsmooth.predictions.columns import ColumnOptions, Kind
from labelsmooth.predictions.evaluate import Evaluation, measure
from labelsmooth.predictions.read import logits_of, open_predictions, read_all
from labelsmooth.predictions.tables import separator_of


def fit_file(
    source: StrPath,
    out: StrPath,
    method: Name | Literal["best"] = "temperature",
    kind: Kind | None = None,
    *,
    labels_path: StrPath | None = None,
    columns: ColumnOptions | None = None,
    overwrite: bool = False,
) -> str:
    """Fit a calibrator on a file of predictions and save it as JSON.

    Probabilities are calibrated as the logits ln p, whose softmax they are.  All rows are held in memory, N x K
    numbers; a part of a long file serves as well.

    Args:
        source, kind, labels_path, columns: as in :func:`labelsmooth.predictions.evaluate`.
        out: the JSON file.
        method: a calibrator's name, or "best": by cross-validated NLL, none at all where none helps.
        overwrite: replace ``out`` where it exists.

    Returns:
        What was fitted, in words.

    Raises:
        UserError: the file cannot be used, or ``out`` exists and ``overwrite`` is false.
    """
    out = Path(out)
    if method != "best":
        check_name(method)
    check_output(out, overwrite)
    predictions = open_predictions(source, kind, labels_path=labels_path, columns=columns)
    scores, labels = read_all(predictions)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        zero = zero_of(scores) if predictions.kind == "probabilities" else 0.0
        logits = logits_of(predictions, scores, zero=zero)
        try:
            if method == "best":
                choice = best(logits, labels)
                fitted, reason = choice.calibrator, choice.reason
            else:
                fitted, reason = CATALOGUE[method].make().fit(logits, labels), ""
        except (ValueError, TypeError, ImportError) as error:
            raise UserError(f"{predictions.name}: {error}") from error
    fitted.zero_ = zero
    with disk_errors(out):
        save(fitted, out, overwrite=overwrite)
    first = f"{fitted!r}, fitted on {len(labels):,} rows of {predictions.name}, saved in {out}."
    sentences = [first, reason, *predictions.remarks, *(str(warning.message) for warning in caught)]
    return " ".join(filter(None, sentences))


def evaluate_held_out(
    calibrator: Calibrator,
    source: StrPath,
    kind: Kind | None = None,
    *,
    labels_path: StrPath | None = None,
    columns: ColumnOptions | None = None,
    interval: Interval | None = None,
) -> Evaluation:
    """Measure what a calibrator does to predictions that it was not fitted on, on the file that it was fitted on.

    Each fifth of the rows is calibrated by a calibrator of the same kind that is fitted on the others.

    Args:
        calibrator: of :func:`fit_file`, loaded; it is not changed.
        source, kind, labels_path, columns: as for :func:`fit_file`.
        interval: level and resamples of the intervals; 95% and 1,000 unless given.

    Returns:
        An :class:`Evaluation` of the calibrated probabilities, compared with the uncalibrated ones.

    Raises:
        UserError: the file cannot be used, or a fifth of it cannot be calibrated.
    """
    return held_out(calibrator, open_predictions(source, kind, labels_path=labels_path, columns=columns), interval)


def held_out(calibrator: Calibrator, predictions: Source, interval: Interval | None = None) -> Evaluation:
    """:func:`evaluate_held_out` of opened predictions."""
    scores, labels = read_all(predictions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fit_file has told them of all the rows
        logits = logits_of(predictions, scores, zero=calibrator.zero_)
        calibrated = np.empty(logits.shape)
        try:
            for held in random_parts(len(labels)):
                fitted = copy.deepcopy(calibrator).fit(logits[~held], labels[~held])
                calibrated[held] = fitted.predict_proba(logits[held])
        except (ValueError, TypeError) as error:
            raise UserError(f"{predictions.name}: a fifth of the rows cannot be calibrated: {error}") from error
    remark = f"Each fifth of the rows is calibrated by {title_of(calibrator)} fitted on the others."
    before = dataclasses.replace(predictions, chunks=iter([Chunk(scores, labels)]))
    after = dataclasses.replace(
        predictions,
        name=f"{predictions.name}, calibrated",
        kind="probabilities",
        chunks=iter([Chunk(calibrated if scores.ndim == 2 else calibrated[:, 1], labels)]),
        remarks=(remark, *predictions.remarks),
    )
    return measure(after, before, interval=interval, curves=True)


def apply_file(
    calibrator: StrPath,
    source: StrPath,
    out: StrPath,
    kind: Kind | None = None,
    *,
    labels_path: StrPath | None = None,
    columns: ColumnOptions | None = None,
    overwrite: bool = False,
) -> str:
    """Calibrate a file of predictions, chunk by chunk, in memory that does not grow with the file.

    Args:
        calibrator: the JSON file of :func:`fit_file`.
        source, kind, labels_path, columns: as in :func:`labelsmooth.predictions.evaluate`; labels may be missing.
        out: ``.npz`` with ``probabilities``, and ``labels`` where there are any; or, for a table, ``.csv``, ``.tsv`` or
            ``.parquet`` with its other columns as they are and probabilities in place of the scores.  ``.csv`` has the
            separator (but tabs) and the decimal mark of a table that is text.
        overwrite: replace ``out`` where it exists.

    Returns:
        What was done, in words.

    Raises:
        UserError: the file cannot be used, or ``out`` exists and ``overwrite`` is false.
    """
    out = Path(out)
    check_output(out, overwrite)
    try:
        fitted = load(calibrator)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    predictions = open_predictions(source, kind, labels_path=labels_path, columns=columns, labels=False)
    rows = 0
    with (
        warnings.catch_warnings(record=True) as caught,
        disk_errors(out),
        whole_file(out) as file,
        _writer(out, file, predictions, Path(source)) as write,
    ):
        warnings.simplefilter("always", UserWarning)
        for chunk in predictions.chunks:
            if chunk.correct is not None:
                raise UserError(
                    f"{predictions.name} has the confidence of the predicted class only; a calibrator needs the scores "
                    "of all classes."
                )
            logits = logits_of(predictions, chunk.scores, rows, fitted.zero_)
            try:
                write(chunk, np.asarray(fitted.predict_proba(logits)))
            except (ValueError, TypeError) as error:
                raise UserError(f"{predictions.name}: {error}") from error
            rows += len(chunk.scores)
        if not rows:
            raise UserError(f"{predictions.name} has no rows.")
    first = f"{capitalized(title_of(fitted))} applied to {rows:,} rows of {predictions.name}, saved in {out}."
    # Of each kind the first: those of other chunks differ in their numbers.
    said = {re.sub(r"\d+", "", text): text for text in (str(warning.message) for warning in reversed(caught))}
    return " ".join([first, *predictions.remarks, *reversed(said.values())])


@contextlib.contextmanager
def _writer(
    out: Path, file: IO[bytes], predictions: Source, path: Path
) -> Iterator[Callable[[Chunk, npt.NDArray[Any]], None]]:
    """What writes the probabilities of a chunk in the format of the file's suffix."""
    suffix = out.suffix.lower()
    if suffix == ".npz":
        with NpzWriter(file, out.parent, ("probabilities", "labels")) as archive:
            yield partial(_write_arrays, archive)
    elif predictions.roles is not None and suffix in (".csv", ".tsv", ".parquet", ".pq"):
        separator = separator_of(path).replace("\t", ",") if suffix == ".csv" else "\t"
        writer = _TableWriter(file, suffix, predictions, separator)
        yield writer.write
        writer.close()
    else:
        formats = ".npz" if predictions.roles is None else ".npz, .csv, .tsv or .parquet"
        raise UserError(f"{out} must end in {formats}: other formats are not written for {predictions.name}.")


def _write_arrays(archive: NpzWriter, chunk: Chunk, probabilities: npt.NDArray[Any]) -> None:
    archive.add("probabilities", probabilities)
    if chunk.labels is not None:
        archive.add("labels", chunk.labels)


class _TableWriter:
    """The table's own columns, with probabilities in place of its scores; logits z0, ... become p0, ..."""

    def __init__(self, file: IO[bytes], suffix: str, predictions: Source, separator: str) -> None:
        assert predictions.roles is not None
        self._file, self._suffix, self._roles = file, suffix, predictions.roles
        self._separator = separator  # of text
        self._decimal_comma = False  # known with the first rows
        self._writer: Any = None
        self._names = {column: column for column in self._roles.scores}
        if predictions.kind == "logits" and not self._roles.lists:
            one = len(self._roles.scores) == 1
            classes = ["1"] if one else self._roles.classes
            plain = all(name.isdigit() for name in classes)
            self._names = {
                column: f"p{name}" if plain else f"prob_{name}"
                for column, name in zip(self._roles.scores, classes, strict=True)
            }

    def write(self, chunk: Chunk, probabilities: npt.NDArray[Any]) -> None:
        pa = importlib.import_module("pyarrow")
        arrays, names = [], []
        position = {column: k for k, column in enumerate(self._roles.scores)}
        if self._writer is None and self._suffix in (".csv", ".tsv"):
            self._decimal_comma = any(_has_comma(chunk.table.column(column)) for column in position)
        for column, array in zip(chunk.table.schema.names, chunk.table.columns, strict=True):
            if column not in position:
                arrays.append(array)
            elif self._roles.lists:
                arrays.append(pa.array(list(probabilities)))
            else:
                one = len(position) == 1  # of the positive class
                values = pa.array(probabilities[:, 1 if one else position[column]])
                arrays.append(_with_comma(values) if self._decimal_comma else values)
            names.append(self._names.get(column, column))
        batch = pa.RecordBatch.from_arrays(arrays, names=names)
        if self._writer is None:
            self._writer = self._open(batch.schema)
        self._writer.write_batch(batch)

    def _open(self, schema: Any) -> Any:
        if self._suffix in (".parquet", ".pq"):
            return importlib.import_module("pyarrow.parquet").ParquetWriter(self._file, schema)
        arrow_csv = importlib.import_module("pyarrow.csv")
        options = arrow_csv.WriteOptions(delimiter=self._separator, quoting_style="needed")
        return arrow_csv.CSVWriter(self._file, schema, write_options=options)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _has_comma(array: Any) -> bool:
    return any(isinstance(value, str) and "," in value for value in array.to_pylist())


def _with_comma(numbers: Any) -> Any:
    """Numbers as text with a decimal comma."""
    compute = importlib.import_module("pyarrow.compute")
    return compute.replace_substring(compute.cast(numbers, "string"), ".", ",")
