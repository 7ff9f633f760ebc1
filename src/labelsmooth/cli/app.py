"""The command itself, its errors as sentences, and ``doctor``."""

from __future__ import annotations

import csv
import errno
import inspect
import os
import re
import shlex
import struct
import sys
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from tokenize import TokenError
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

import labelsmooth
from labelsmooth.errors import UserError, shown

# A notebook's !command has a terminal that cannot move its cursor up: each step of a bar would be lines of their own.
errors = Console(stderr=True, force_terminal=False if "JPY_PARENT_PID" in os.environ else None)
# What the readers of files raise for damaged content, beside ValueError and OSError.
DAMAGED: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, zlib.error, csv.Error, struct.error, TokenError),
    *(EOFError, UnicodeError, NotImplementedError, RecursionError),
)
Function = TypeVar("Function", bound=Callable[..., Any])
INTERNAL_ERROR = 70  # exit code; sysexits.h calls it EX_SOFTWARE


ORDER = ("train", "predict", "evaluate", "calibrate", "study", "export", "doctor")  # of the help


class Command(TyperCommand):
    """A command whose help shows flags without a value."""

    def get_params(self, ctx: Any) -> Any:
        return _without_values(super().get_params(ctx))


class Group(TyperGroup):
    """Commands under one name, whose help shows flags without a value."""

    def get_params(self, ctx: Any) -> Any:
        return _without_values(super().get_params(ctx))


def _without_values(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class Commands(Group):
    """The commands.  A UserError, and an error of the system or of a reader, is one line on standard error and exit
    code 2."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        paths = [word for word in [*ctx._protected_args, *ctx.args] if os.path.lexists(word.replace("\0", ""))]
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except UserError as error:
            _fail(_in_options(str(error), self, ctx))
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes standard output once more at exit
                _fail(f"The output could not be written ({error.strerror}).")
            name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            _fail(f"{name}{error.strerror or error}. Check the path and its permissions.")
        except MemoryError:
            _fail(f"There is not enough memory for {' or '.join(paths) or 'this'}.")
        except DAMAGED as error:
            name = " or ".join(paths) or "A file"
            _fail(f"{name} cannot be read ({type(error).__name__}: {error}); it is damaged or in an unknown format.")
        except Exception as error:
            if type(error).__module__.split(".")[0] in ("typer", "click"):
                raise  # wrong usage, and exit codes
            if "LABELSMOOTH_TRACEBACK" in os.environ:
                traceback.print_exc()
            _fail(
                f"Internal error: {type(error).__name__}: {error}. This is a fault of labelsmooth. Please report it "
                "with the command and the traceback, which LABELSMOOTH_TRACEBACK=1 shows.",
                INTERNAL_ERROR,
            )


def _in_options(message: str, command: Any, ctx: Any) -> str:
    """The message with the command's options in place of the arguments of Python: "--epochs 0" for "epochs=0"."""
    name = ctx.invoked_subcommand
    commands = [command.commands[name]] if name in command.commands else []
    while commands:
        current = commands.pop()
        commands += getattr(current, "commands", {}).values()
        for parameter in current.params:
            if parameter.opts[0].startswith("--"):
                message = re.sub(rf"(?<![\w.-]){parameter.name}=", f"{parameter.opts[0]} ", message)
    return message


def _fail(message: str, code: int = 2) -> NoReturn:
    """Print a message, without control characters, and exit."""
    text = "\n".join(map(shown, message.split("\n")))
    errors.print(f"[bold red]Error:[/bold red] {escape(text)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code) from None


def refuse_unused(ctx: typer.Context, names: Iterable[str], reason: str) -> None:
    """Raise a UserError if one of these parameters was given: an option is used or refused, never ignored."""
    for parameter in ctx.command.params:
        if parameter.name in names and is_given(ctx, parameter):
            raise UserError(f"{parameter.opts[0]} {reason}")


def is_given(ctx: typer.Context, parameter: Any) -> bool:
    """Whether a parameter was given, on the command line or in the file of ``--config``."""
    source = ctx.get_parameter_source(str(parameter.name))
    return source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP")


def command_line(words: Sequence[str] | None = None) -> str:
    """The command to repeat this one with; or the one of other words."""
    return shlex.join(["labelsmooth", *(sys.argv[1:] if words is None else words)])


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(example: str, group: typer.Typer = app, name: str | None = None) -> Callable[[Function], Function]:
    """Register a command whose help ends with an example.  Each paragraph of the help is wrapped anew."""

    def register(function: Function) -> Function:
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(function) or "")
        return group.command(name, cls=Command, help=text, epilog=f"Example: {example}")(function)

    return register


def _print_version(value: bool) -> None:
    if value:
        print(f"labelsmooth {labelsmooth.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", metavar="", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Label smoothing and probability calibration: train, predict, measure, repair, and study what helps."""


@command("labelsmooth doctor 'torch.nn:CrossEntropyLoss(label_smoothing=0.1)'")
def doctor(
    loss: Annotated[
        str | None,
        typer.Argument(help="MODULE:EXPRESSION or FILE.py:EXPRESSION. This runs its code: only name code you trust."),
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes that LOSS is made for.")] = None,
) -> None:
    """Print what is installed and what would run; or whether a LOSS smooths labels, how, and how much.

    That of a LOSS is measured from its gradients. Exit code 1: an option of LOSS for smoothing has no effect.
    """
    from labelsmooth.doctor import check_loss, load_loss, report

    if loss is None:
        if classes is not None:
            raise UserError("--classes is for a LOSS; name it.")
        print(report())
        return
    made, options = load_loss(loss)
    check = check_loss(made, num_classes=classes, name=loss, options=options)
    print("\n".join(map(shown, str(check).split("\n"))))
    if check.no_effect:
        raise typer.Exit(1)
