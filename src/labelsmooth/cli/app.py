"""The command itself, its errors as sentences, and ``doctor``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.markup import escape

from labelsmooth.errors import UserError

__all__ = ["app", "errors", "sentences"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Label smoothing and probability calibration: measure what helps on your own data.",
)
errors = Console(stderr=True)


@app.callback()
def labelsmooth() -> None:
    """Label smoothing and probability calibration: measure what helps on your own data."""


@app.command()
def doctor() -> None:
    """Print versions, device, threads, the kernel that would run, and how to install what is missing."""
    from labelsmooth.doctor import report

    print(report())


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """A UserError becomes one line on standard error and exit code 2."""
    try:
        yield
    except UserError as error:
        errors.print(f"[bold red]Error:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
