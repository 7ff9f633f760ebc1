"""Pages that need no other file: one base template and style for all of them; text from outside is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelsmooth.errors import plural
from labelsmooth.extras import require
from labelsmooth.files import StrPath, write_text
from labelsmooth.metrics.numbers import level, percent
from labelsmooth.report.tables import Table

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Fill in a template of this room; every string is escaped."""
    return _environment().get_template(template).render(**values)


def write(page: str, path: StrPath) -> None:
    """Write a page, whole or not at all."""
    write_text(Path(path), page)


def table_html(table: Table) -> str:
    """A table alone, as HTML for a notebook."""
    template: Any = _environment().get_template("parts.html.j2").module
    return str(template.table(table))


def _environment() -> Environment:
    require("cli", "A page")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("labelsmooth.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"level": level, "percent": percent, "plural": plural}
    return environment
