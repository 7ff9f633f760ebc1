"""Options in a YAML file: ``--config`` reads them, and a model or study keeps those that it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labelsmooth.errors import UserError
from labelsmooth.files import write_text

from .app import is_given
from .options import output_option

NOT_KEPT = ("config_file", "out", "resume", "overwrite", "as_json", "plan", "merge", "shard")  # of one call


def _read(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the options of the file the defaults of the command."""
    if path is None:
        return None
    import yaml

    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path} is not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(options, dict):
        raise UserError(f"--config {path} is not a list of options, one a line; write for example 'epochs: 8'.")
    names = {name: str(parameter.name) for name, parameter in _options(ctx).items() if name != "config"}
    for key, value in options.items():
        if str(key).replace("_", "-") not in names:
            raise UserError(f"--config {path}: there is no option {key!r}; there are {', '.join(sorted(names))}.")
        if isinstance(value, Mapping):
            raise UserError(f"--config {path}: {key} is a group of options; write each option on a line of its own.")
    ctx.default_map = {names[str(key).replace("_", "-")]: value for key, value in options.items()}
    return path


def _options(ctx: typer.Context) -> dict[str, Any]:
    """The parameters of the command by the name that a file gives them: that of the option, without its hyphens."""
    return {parameter.opts[0].lstrip("-").replace("_", "-"): parameter for parameter in ctx.command.params}


Config = Annotated[
    Path | None,
    output_option(
        "--config",
        help="YAML file of options, as a model keeps it; those given here come first.",
        is_eager=True,
        callback=_read,
    ),
]


def write_config(ctx: typer.Context, path: Path, settled: Mapping[str, object]) -> None:
    """Write the options that were given, so that ``--config`` repeats the command.

    ``settled`` holds values by parameter in place of those that were given; None leaves an option out.
    """
    import yaml

    values: dict[str, object] = {}
    for name, parameter in _options(ctx).items():
        value = settled.get(str(parameter.name), ctx.params.get(parameter.name))
        chosen = parameter.name in settled or is_given(ctx, parameter)
        if chosen and value is not None and parameter.name not in NOT_KEPT:
            values[name] = str(value) if isinstance(value, Path) else value
    command = ctx.info_name
    head = f"# The options of this {command}: 'labelsmooth {command} --config {path.name}' repeats it.\n"
    write_text(path, head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
