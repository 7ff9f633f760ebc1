"""Pages that need no other file: one base template and style for all of them; text from outside is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelsmooth.extras import require
from labelsmooth.files import StrPath, write_text

__all__ = ["render", "write"]


def render(template: str, **values: Any) -> str:
    """Fill in a template of this room; every string is escaped.

    Raises:
        MissingExtraError: Jinja2 is missing.
    """
    require("cli", "A page")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("labelsmooth.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write(page: str, path: StrPath) -> None:
    """Write a page, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(Path(path), page)
