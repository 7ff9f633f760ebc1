"""Tables of predictions in batches of rows: CSV and its relatives, Parquet, JSON lines, and data frames."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import UserError
from labelsmooth.extras import MissingExtraError
from labelsmooth.predictions.chunks import Chunk, Source
from labelsmooth.predictions.columns import LABELS, ColumnOptions, Kind, Roles, Table, find_roles
from labelsmooth.predictions.labels import LabelReader

ROWS = 16_384  # of a batch, at most
FIELDS = 1 << 20  # of a batch, at most
BLOCK = 1 << 24  # bytes of text that are parsed at a time
COMPRESSED = (".gz", ".bz2", ".zst")
DELIMITERS = ",;\t|"


class Frame(Protocol):
    """A data frame of pandas, Polars, pyarrow or any library with the Arrow stream interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def table_suffix(path: Path) -> str:
    """The suffix that tells the format, without the one of a compression."""
    name = path.name.lower()
    for compression in COMPRESSED:
        name = name.removesuffix(compression)
    return Path(name).suffix


def table_source(path: Path, kind: Kind | None, options: ColumnOptions, labels: bool) -> Source:
    """Open a file that holds a table; a UserError where it cannot be read, or its columns are not found."""
    return _source(str(path), lambda: FORMATS[table_suffix(path)](_pyarrow(str(path)), path), kind, options, labels)


def separator_of(path: Path) -> str:
    """What separates the fields of a table that is text; a comma for other tables, which have no separator."""
    return _header(_pyarrow(str(path)), path)[1] if FORMATS[table_suffix(path)] is _open_csv else ","


def frame_source(frame: Frame, kind: Kind | None, options: ColumnOptions, labels: bool) -> Source:
    """Read a data frame of pandas, Polars or any library with the Arrow stream interface."""
    table = _arrow_table(frame)
    return _source("the data frame", lambda: iter(table.to_batches()), kind, options, labels)


def read_columns(source: Path | Frame) -> dict[str, list[object]]:
    """A whole table that fits in memory, by column; the cells of CSV are text."""
    name = str(source) if isinstance(source, Path) else "the data frame"
    pa = _pyarrow(name)
    with _reader_errors(name):
        if isinstance(source, Path):
            batches = [_trimmed(batch) for batch in FORMATS[table_suffix(source)](pa, source)]
        else:
            batches = [_trimmed(batch) for batch in _arrow_table(source).to_batches()]
    if not batches:
        raise UserError(f"{name} has no rows.")
    table = pa.Table.from_batches(batches)
    if twice := [column for column, count in Counter(table.column_names).items() if count > 1]:
        raise UserError(f"{name} has the column {twice[0]!r} twice; rename one.")
    return {column: table.column(column).to_pylist() for column in table.column_names}


def _arrow_table(frame: Any) -> Any:
    pa = _pyarrow("a data frame")
    if hasattr(frame, "__dataframe__") and type(frame).__module__.startswith("pandas"):
        return pa.Table.from_pandas(frame, preserve_index=False)
    return pa.table(frame)


def _pyarrow(name: str) -> Any:
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise MissingExtraError(f"Reading {name} needs pyarrow: pip install 'labelsmooth[cli]'.") from error


Batches = Iterator[Any]  # of pyarrow.RecordBatch


def _source(
    name: str, open_batches: Callable[[], Batches], kind: Kind | None, options: ColumnOptions, labels: bool
) -> Source:
    with _reader_errors(name):
        batches = open_batches()
        head = next(batches, None)
        if head is None:
            raise UserError(f"{name} has no rows.")
        head = _trimmed(head)
        own = set(head.schema.names) >= OWN
        prepare = _trimmed
        if own:
            options = _of_own(head, options)
            prepare = partial(_answered, options)
            head = prepare(head)
            _check_own(name, head, options)
        roles = find_roles(_described(name, head), kind, options, labels)
        reader = LabelReader(name, roles, [] if roles.label is None else _values(head, roles.label))
        chunks = _chunks(name, itertools.chain([head], map(prepare, batches)), roles, reader, options.percent)
        first = next(chunks)  # the percentages, if they are any, are known with the first rows
    remarks = _remarks(roles, options, reader, first)
    if own:
        remarks = (*remarks, "Rows without a prediction (abstained, or not read) are left out.")
    return Source(name, roles.kind, _readable(name, itertools.chain([first], chunks)), remarks, roles.classes, roles)


def _readable(name: str, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    with _reader_errors(name):
        yield from chunks


@contextlib.contextmanager
def _reader_errors(name: str) -> Iterator[None]:
    """Turn the errors of a reader into a UserError; pyarrow's are ValueError, OSError and NotImplementedError."""
    try:
        yield
    except UserError:
        raise
    except (csv.Error, OSError, ValueError, EOFError, KeyError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "utf8" in reason.lower() or isinstance(error, UnicodeDecodeError):
            raise UserError(f"{name} is not text in UTF-8: {reason}. Save it as UTF-8.") from error
        raise UserError(f"{name} is damaged; it may be truncated ({reason}).") from error


def _header(pa: Any, path: Path) -> tuple[str, str]:
    """The first line of a table that is text, and what separates its fields."""
    with pa.input_stream(str(path), compression="detect") as stream:
        line = stream.read(1 << 20)
    if not line:
        raise UserError(f"{path} is empty.")
    header = line.decode("utf-8-sig", errors="strict" if len(line) < 1 << 20 else "ignore").splitlines()[0]
    delimiter = "\t" if table_suffix(path) == ".tsv" else ","
    return header, delimiter if delimiter in header else max(DELIMITERS, key=header.count)


def _open_csv(pa: Any, path: Path) -> Batches:
    arrow_csv = importlib.import_module("pyarrow.csv")
    header, delimiter = _header(pa, path)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    unique = [f"{k}" for k in range(len(names))]  # find_roles refuses a name that is there twice
    short: list[str] = []

    def skip(row: Any) -> str:
        short.append(row.text)
        return "skip"

    reader = arrow_csv.open_csv(
        pa.input_stream(str(path), compression="detect"),
        read_options=arrow_csv.ReadOptions(column_names=unique, skip_rows=1, block_size=BLOCK),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        # As text, so that a number that is none is reported with its row, and labels keep their spelling.
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(unique, pa.string())),
    )
    for batch in reader:
        if short:
            break
        yield from _sliced(batch.rename_columns(names))
    if short:
        raise UserError(f"{path}: {_first_short(pa, path, delimiter, len(names))}; the file may be truncated.")


def _first_short(pa: Any, path: Path, delimiter: str, width: int) -> str:
    """Where the first row with another number of fields is: the parser does not say."""
    with pa.input_stream(str(path), compression="detect") as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        rows = csv.reader(text, delimiter=delimiter)
        next(rows)
        for row, fields in enumerate(fields for fields in rows if fields):
            if len(fields) != width:
                return f"row {row} (line {rows.line_num}) has {len(fields)} fields, the header {width}"
    return f"a row has not {width} fields"


def _open_parquet(pa: Any, path: Path) -> Batches:
    parquet = importlib.import_module("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}") from error
    width = len(file.schema_arrow.names)
    yield from file.iter_batches(batch_size=_batch_rows(width))


def _open_json(pa: Any, path: Path) -> Batches:
    arrow_json = importlib.import_module("pyarrow.json")
    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(64).lstrip()
    if start.startswith(b"["):
        raise UserError(f"{path} is one JSON array; write one JSON object a line (JSON lines) instead.")
    stream = pa.input_stream(str(path), compression="detect")
    for batch in arrow_json.open_json(stream, read_options=arrow_json.ReadOptions(block_size=BLOCK)):
        yield from _sliced(batch)


# The formats of tables: each suffix and what opens it as batches of rows.
FORMATS: dict[str, Callable[[Any, Path], Batches]] = {
    ".csv": _open_csv,
    ".tsv": _open_csv,
    ".tab": _open_csv,
    ".txt": _open_csv,
    ".parquet": _open_parquet,
    ".pq": _open_parquet,
    ".jsonl": _open_json,
    ".ndjson": _open_json,
    ".json": _open_json,
}


def _batch_rows(columns: int) -> int:
    return max(1, min(ROWS, FIELDS // max(columns, 1)))


def _sliced(batch: Any) -> Batches:
    rows = _batch_rows(batch.num_columns)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _trimmed(batch: Any) -> Any:
    """The batch with its columns' names stripped of blanks."""
    return batch.rename_columns([str(name).strip() for name in batch.schema.names])


# The columns of 'labelsmooth predict --csv'; its label is the predicted class.
OWN = {"path", "label", "confidence", "abstained", "error"}
FOLDER = "folder of the path"


def _of_own(head: Any, options: ColumnOptions) -> ColumnOptions:
    """Which columns of 'labelsmooth predict' hold what; the true label is the folder unless a column has it."""
    columns = {column.casefold(): column for column in head.schema.names}
    truth = options.label or next((columns[name] for name in LABELS[2:] if name in columns), FOLDER)
    prediction, confidence = ("class_1", "probability_1") if "class_1" in columns else ("label", "confidence")
    return dataclasses.replace(options, label=truth, prediction=prediction, confidence=confidence)


def _answered(options: ColumnOptions, batch: Any) -> Any:
    """The rows that have a prediction."""
    pa, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    batch = _trimmed(batch)
    text = compute.cast(batch.column(options.prediction), pa.string())
    batch = batch.filter(compute.fill_null(compute.not_equal(text, ""), False))
    if options.label != FOLDER:
        return batch
    folders = [Path(str(path)).parent.name for path in batch.column("path").to_pylist()]
    return batch.append_column(FOLDER, pa.array(folders, pa.string()))


def _check_own(name: str, head: Any, options: ColumnOptions) -> None:
    if not head.num_rows:
        raise UserError(f"{name} has no prediction among its first rows: the images were not read, or not answered.")
    predicted = {str(value) for value in head.column(options.prediction).to_pylist()}
    if options.label == FOLDER and not predicted & set(head.column(FOLDER).to_pylist()):
        raise UserError(
            f"{name} has predicted labels only, and no image lies in a folder that is named after one: add a column "
            "truth, or name the one of the true labels with --label-column."
        )


def _described(name: str, head: Any) -> Table:
    """The head of a table as :func:`find_roles` takes it."""
    types = importlib.import_module("pyarrow.types")
    indices = {column: index for index, column in enumerate(head.schema.names)}

    def numeric(column: str) -> bool:
        array = head.column(indices[column])
        if types.is_floating(array.type) or types.is_integer(array.type) or types.is_decimal(array.type):
            return True
        if not types.is_string(array.type) and not types.is_large_string(array.type):
            return False
        try:
            _numbers(name, column, array, 0)
        except UserError:
            return False
        return True

    def lists(column: str) -> bool:
        return bool(types.is_nested(head.column(indices[column]).type))

    return Table(name, tuple(head.schema.names), numeric, lists, lambda column: _values(head, column)[:1000])


def _values(batch: Any, column: str) -> list[object]:
    return [value for value in batch.column(column).to_pylist() if value is not None]


def _chunks(name: str, batches: Batches, roles: Roles, reader: LabelReader, percent: bool) -> Iterator[Chunk]:
    first = 0
    for batch in batches:
        for column in roles.columns:
            array = batch.column(column)
            if array.null_count:
                row = first + array.is_null().to_pylist().index(True)
                raise UserError(f"{name}: row {row}, column {column} is empty.")
        if roles.lists:
            scores = _listed(name, roles.scores[0], batch.column(roles.scores[0]), first)
        else:
            columns = [_numbers(name, column, batch.column(column), first) for column in roles.scores]
            scores = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
        divisor = 1.0
        percent = percent or _percent_signs(batch, roles) or (not first and _are_percentages(scores))
        if percent and roles.kind == "probabilities":
            divisor = 100.0
        yield Chunk(
            scores / divisor if divisor != 1.0 else scores,
            labels=reader.labels(batch, first),
            groups=None if roles.by is None else np.array([str(v) for v in batch.column(roles.by).to_pylist()]),
            correct=reader.correct(batch, first),
            table=batch,
            percent=percent,
        )
        first += batch.num_rows


def _are_percentages(scores: npt.NDArray[Any]) -> bool:
    """Whether rows of K numbers sum to about 100."""
    return scores.ndim == 2 and bool((np.abs(scores.sum(axis=1) - 100) < 2).all()) and bool((scores >= 0).all())


def _percent_signs(batch: Any, roles: Roles) -> bool:
    values = [batch.column(column)[0].as_py() for column in roles.scores if batch.num_rows]
    return any(isinstance(value, str) and value.strip().endswith("%") for value in values)


def _listed(name: str, column: str, array: Any, first: int) -> npt.NDArray[np.float64]:
    lengths = {len(value) for value in array.to_pylist()}
    if len(lengths) != 1:
        raise UserError(
            f"{name}: the lists in column {column} have {min(lengths)} to {max(lengths)} numbers; expected K in all."
        )
    try:
        return np.array(array.to_pylist(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: the lists in column {column} (rows from {first} on) are not numbers.") from error


def _numbers(name: str, column: str, array: Any, first: int) -> npt.NDArray[np.float64]:
    """A column as float64; text is parsed, with a decimal comma or a percent sign where there is one."""
    pa, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        text = compute.utf8_trim_whitespace(array)
        text = compute.replace_substring(compute.utf8_rtrim(text, "%"), ",", ".")
        try:
            array = compute.cast(compute.utf8_trim_whitespace(text), pa.float64())
        except pa.ArrowInvalid:
            row = next(i for i, value in enumerate(text.to_pylist()) if not _is_number(value))
            raise UserError(
                f"{name}: row {first + row}, column {column}: {array[row].as_py()!r} is not a number."
            ) from None
    try:
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: column {column} holds {array.type}, not numbers.") from error


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _remarks(roles: Roles, options: ColumnOptions, reader: LabelReader, first: Chunk) -> tuple[str, ...]:
    """What was guessed, in one line."""
    guesses = []
    if roles.label == FOLDER:
        guesses.append("labels from the folder of each path")
    elif roles.label is not None and roles.label not in (options.label, "label"):
        guesses.append(f"labels from column {roles.label}")
    if roles.top_label:
        guesses.append(f"confidences from column {roles.scores[0]}")
        guesses.append(
            f"correctness from column {roles.correct}" if roles.correct else f"predictions from {roles.prediction}"
        )
    elif len(roles.scores) == 1 and not (options.probabilities or options.logits):
        guesses.append(f"{roles.kind} from column {roles.scores[0]}")
    elif roles.classes and roles.classes == roles.scores and not (options.probabilities or options.logits):
        guesses.append(
            f"{roles.kind} of the classes {', '.join(roles.classes[:6])}{', ...' * (len(roles.classes) > 6)}"
        )
    if roles.positive is not None and options.positive is None:
        guesses.append(f"positive class: {roles.positive}")
    if reader.remark:
        guesses.append(reader.remark)
    if first.percent and not options.percent:
        guesses.append("probabilities are percentages")
    return (f"Read {'; '.join(guesses)}.",) if guesses else ()
