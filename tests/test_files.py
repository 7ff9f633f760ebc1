"""A file is the old one or the new one, never a part, and as readable as the user's other files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from labelsmooth.files import whole_file


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        (other,) = [entry for entry in tmp_path.iterdir() if entry != path]
        assert (other.name[0], other.suffix) == (".", ".partial")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("old")

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"a part")
            raise failure

    with pytest.raises(failure):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_permissions_are_those_of_the_users_new_files(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / "numbers.json") as file:
            file.write(b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "numbers.json").stat().st_mode) == 0o666 & ~mask


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    with whole_file(path) as first, whole_file(path) as second:
        first.write(b"first" * 1000)
        second.write(b"second" * 1000)
    assert path.read_bytes() == b"first" * 1000  # renamed last
    assert list(tmp_path.iterdir()) == [path]
