"""Plain English: turns of phrase that the code and the documentation do not use, and the words for them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(
        path
        for folder in ("src", "docs", "tests", "bench", "examples")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".j2") and path != Path(__file__)
    ),
]
# A phrase, and the words for it.
INSTEAD = {
    r"\bsay(s|ing)? --": "give --option",
    r"looked at": "validated",
    r"wants to hear|who wants": "progress callbacks",
    r"is a sentence": "raises UserError",
    r"\bunasked\b": "without --force, without being asked",
    r"plain PyTorch serves": "no fused kernel: using PyTorch operators",
    r"cannot tell": "no significant difference, or inconclusive",
    r"(difference|it) is called\b": "a difference is significant",
    r"has seen nothing": "needs at least one observed batch",
    r"nobody|somebody|whoever": "no process, a user, the caller",
    r"\bhears?\b": "is called with",
    r"told (about|of)\b": "called with",
    r"\bfor ever\b": "without bound",
    r"\bmeanwhile\b": "until then",
    r"\b(is|are|was|were) judged\b": "is compared, is measured",
}


@pytest.mark.parametrize("phrase", INSTEAD)
def test_plain_english(phrase: str) -> None:
    pattern = re.compile(phrase, re.IGNORECASE)
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not lines, f"write {INSTEAD[phrase]!r} instead:\n" + "\n".join(lines)


VAGUE = {"found", "how", "each", "what"}


def test_locals_say_what_they_hold() -> None:
    """No variable or parameter of the package has one of these names."""
    lines = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_local = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE
            if is_local or (isinstance(node, ast.arg) and node.arg in VAGUE):
                lines.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not lines, "\n".join(lines)
