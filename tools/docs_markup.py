"""Docstrings are written to be read in a terminal; this griffe extension gives their roles and formulas to Markdown."""

from __future__ import annotations

import re
import textwrap

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|attr):`~?([^`]+)`")
MATH = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +.*| *$))*)", re.MULTILINE)


def _formula(match: re.Match[str]) -> str:
    indent, body = match[1], textwrap.dedent(match[2]).strip()
    return f"{indent}$$\n{textwrap.indent(body, indent)}\n{indent}$$\n"


class Markup(griffe.Extension):
    """Rewrites each docstring once, when its object has been read."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            text = MATH.sub(_formula, text)
            # The Google style knows the section in the plural only.
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
