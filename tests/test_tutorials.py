"""The tutorials, followed to the letter: each block of a page is run in order in one empty folder.

A python block is executed; the text block after it is what it prints.  In a console block each line after "$" is a
command, and the lines below it are its output.  "..." stands for anything, as in doctest.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from pathlib import Path

import pytest

from labelsmooth.__main__ import main

PAGES = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_command(command: str) -> str:
    """The standard output of a labelsmooth command that must succeed."""
    program, *arguments = shlex.split(command)
    assert program == "labelsmooth", f"a tutorial runs nothing but labelsmooth: {command}"
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr("sys.argv", [program, *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code, f"{command} ended with {end.value.code}:\n{output.getvalue()}"
    return output.getvalue()


def check(wanted: str, printed: str) -> None:
    assert doctest.OutputChecker().check_output(wanted, printed, FLAGS), f"wanted:\n{wanted}\nprinted:\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorial(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(page.read_text())
    assert blocks
    names: dict[str, object] = {}
    printed = ""
    for language, text in blocks:
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(text, f"{page.name}", "exec"), names)
            printed = output.getvalue()
        elif language == "text":
            check(text, printed)
        elif language == "console":
            for part in text.split("$ ")[1:]:
                command, _, wanted = part.partition("\n")
                printed = run_command(command)
                if wanted.strip():
                    check(wanted, printed)
