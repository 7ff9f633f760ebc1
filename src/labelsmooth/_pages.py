"""Self-contained pages from templates; what comes from outside is escaped."""

from __future__ import annotations

from typing import Any

__all__ = ["render"]


def render(package: str, template: str, **values: Any) -> str:
    """A template of a package's folder ``templates`` filled in; every string is escaped that is not Markup.

    Raises:
        ImportError: Jinja2 is missing.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
