"""A user's ``mypy --strict`` passes over the examples of the README and the documentation."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def program(page: Path) -> str:
    """The examples of a page as one module; what an expression prints is left out."""
    examples = doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8"))
    return "from __future__ import annotations\n" + "".join(example.source for example in examples)


def test_examples_pass_mypy_strict(tmp_path: Path) -> None:
    for page in PAGES:
        (tmp_path / (page.stem.replace("-", "_") + "_page.py")).write_text(program(page))
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-redefinition", "--no-error-summary"]
    # The examples define helpers without annotations, as a user's notebook does, and use libraries without types.
    command += ["--allow-untyped-defs", "--allow-untyped-calls", "--allow-incomplete-defs", "--ignore-missing-imports"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
