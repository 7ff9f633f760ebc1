"""NumPy's files block by block: .npy and .npz are read, .npz is written. What asks to be unpickled is refused."""

from __future__ import annotations

import contextlib
import math
import shutil
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import UserError
from labelsmooth.predictions.chunks import Chunk

# What zipfile raises for damaged, encrypted or otherwise unreadable members.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, KeyError, struct.error)
# Numbers of a block: 16 MB in float64.
_BLOCK = 1 << 21
_ROWS = 16_384


@dataclass(frozen=True)
class StoredArray:
    """An array in a file: its shape and type are read, its numbers not yet."""

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    def blocks(self, rows: int) -> Iterator[npt.NDArray[Any]]:
        """The array in blocks of so many rows."""
        if self.fortran:  # its rows are not together in the file
            whole = np.load(self.path, allow_pickle=False)
            array = whole if self.member is None else whole[self.member]
            yield from (array[start : start + rows] for start in range(0, self.shape[0], rows))
            return
        with self._open() as file:
            _header(self.path, file)
            size = math.prod(self.shape[1:]) * self.dtype.itemsize
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                data = _exactly(self.path, file, count * size)
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])
            if self.member is not None:
                file.read(1)  # the end of the member, where its checksum is compared

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.member}.npy") as member:
                yield member


def npy_array(path: Path) -> StoredArray:
    """The array of an .npy file."""
    if not path.is_file():
        raise UserError(f"{path} is not a file.")
    with path.open("rb") as file:
        shape, fortran, dtype = _header(path, file)
        held = path.stat().st_size - file.tell()
    needed = math.prod(shape) * dtype.itemsize
    if held < needed:
        raise UserError(f"{path} is not a whole .npy file: it holds {held} of the {needed} bytes of an array {shape}.")
    return StoredArray(path, None, shape, dtype, fortran)


def npz_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of an .npz file by name."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as file:
                        shape, fortran, dtype = _header(path, file)
                    arrays[name[:-4]] = StoredArray(path, name[:-4], shape, dtype, fortran)
    except DAMAGED as problem:
        raise UserError(f"{path} is not a whole .npz file; it may be truncated ({problem}).") from problem
    return arrays


def rows_of(path: Path, scores: StoredArray, labels: StoredArray | None, groups: StoredArray | None) -> Iterator[Chunk]:
    """Scores beside their labels and groups, checked, in chunks."""
    _check(path, scores, labels, groups)
    rows = max(1, min(_ROWS, _BLOCK // math.prod(scores.shape[1:])))
    return _chunks(path, [None if a is None else a.blocks(rows) for a in (scores, labels, groups)])


def _chunks(path: Path, blocks: list[Iterator[npt.NDArray[Any]] | None]) -> Iterator[Chunk]:
    scores, labels, groups = blocks
    assert scores is not None
    try:
        for part in scores:
            yield Chunk(
                np.array(part),
                None if labels is None else np.array(next(labels), dtype=np.int64),
                None if groups is None else next(groups).astype(str),
            )
    except DAMAGED as problem:
        raise UserError(f"{path} is damaged; it may be truncated ({problem}).") from problem


def _check(path: Path, scores: StoredArray, labels: StoredArray | None, groups: StoredArray | None) -> None:
    if len(scores.shape) not in (1, 2) or 0 in scores.shape:
        raise UserError(
            f"{path}: the scores have shape {scores.shape}; expected (N, K), or (N,) for a yes-or-no question."
        )
    for name, other in (("labels", labels), ("the grouping array", groups)):
        if other is not None and other.shape != scores.shape[:1]:
            raise UserError(f"{path}: {name} have shape {other.shape}, but there are {scores.shape[0]} rows of scores.")
    if labels is not None and labels.dtype.kind not in "iu":
        raise UserError(f"{path}: labels are {labels.dtype}, not whole numbers; save labels.astype(int).")
    if scores.dtype.kind != "f":
        raise UserError(f"{path}: the scores are {scores.dtype}, not floating point numbers.")


class NpzWriter:
    """Arrays that grow by blocks of rows, and become an .npz when the block ends.

    An array's length comes before its numbers in the file, and is known last: until then they are in nameless
    temporary files beside the result.
    """

    def __init__(self, file: IO[bytes], folder: Path, names: tuple[str, ...]) -> None:
        self._file, self._folder = file, folder
        self._stack = contextlib.ExitStack()
        self._parts: dict[str, IO[bytes]] = {}
        self._like: dict[str, npt.NDArray[Any]] = {}
        self._rows = dict.fromkeys(names, 0)

    def __enter__(self) -> NpzWriter:
        for name in self._rows:
            self._parts[name] = self._stack.enter_context(tempfile.TemporaryFile(dir=self._folder))
        return self

    def add(self, name: str, block: npt.NDArray[Any]) -> None:
        """Add rows to an array."""
        self._like.setdefault(name, block[:0])
        self._rows[name] += len(block)
        self._parts[name].write(np.ascontiguousarray(block, dtype=self._like[name].dtype).data)

    def __exit__(self, failure: object, *_: object) -> None:
        with self._stack:
            if failure is None:
                with zipfile.ZipFile(self._file, "w") as archive:
                    for name, like in self._like.items():
                        self._copy(archive, name, like)

    def _copy(self, archive: zipfile.ZipFile, name: str, like: npt.NDArray[Any]) -> None:
        header = np.lib.format.header_data_from_array_1_0(like)
        header["shape"] = (self._rows[name], *like.shape[1:])
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            self._parts[name].seek(0)
            shutil.copyfileobj(self._parts[name], member, 1 << 20)


def _header(path: Path, file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy's, of a header that Python 2 wrote
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
            else:
                raise ValueError(f"version {version} of the format")
    except (ValueError, EOFError, SyntaxError, TokenError, RecursionError, MemoryError, OverflowError) as problem:
        raise UserError(
            f"{path} is not a whole NumPy file; it may be truncated, or a pickle, which is never opened ({problem})."
        ) from problem
    if dtype.hasobject:
        raise UserError(
            f"{path} holds Python objects (a pickle), which are never loaded: save plain arrays of numbers."
        )
    return shape, bool(fortran) and len(shape) > 1, dtype


def _exactly(path: Path, file: Any, size: int) -> bytes:
    parts, left = [], size
    while left:
        data = file.read(left)
        if not data:
            raise UserError(f"{path} is truncated: an array ends {left} bytes early.")
        parts.append(data)
        left -= len(data)
    return b"".join(parts)
