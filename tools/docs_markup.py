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
    """Rewrites each docstring once, when its object has been read, and gives metrics the signature that they have."""

    def on_function_instance(self, *, func: griffe.Function, **_: object) -> None:
        if any(str(decorator.value).endswith("metric") for decorator in func.decorators):
            own = list(func.parameters)[1:]  # what is written in the source is the statistic, a function of rows
            kinds = griffe.ParameterKind.positional_or_keyword, griffe.ParameterKind.keyword_only

            def optional(name: str, annotation: str, keyword: bool = True) -> griffe.Parameter:
                return griffe.Parameter(name, annotation=annotation, kind=kinds[keyword], default="None")

            for option in own:
                option.kind = kinds[1]
            func.parameters = griffe.Parameters(
                optional("probabilities", "Array | None", keyword=False),
                optional("labels", "Array | None", keyword=False),
                optional("logits", "Array | None"),
                *own,
                optional("ignore_index", "int | None"),
                optional("interval", "float | Interval | None"),
            )
            func.returns = "float | Tensor | Estimate"

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            text = MATH.sub(_formula, text)
            # The Google style knows the section in the plural only.
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
