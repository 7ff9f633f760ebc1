"""The entry point of the command ``labelsmooth`` and of ``python -m labelsmooth``."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import labelsmooth
from labelsmooth.errors import UserError
from labelsmooth.extras import missing, require

SPINS = "5000"  # about a tenth of a millisecond
HELP = """Usage: labelsmooth COMMAND [ARGS]...

train      train a calibrated classifier             needs labelsmooth[study]
predict    predict images with it                    needs labelsmooth[study]
evaluate   is a model calibrated?                    needs labelsmooth[cli]
calibrate  fit a calibrator, apply it                needs labelsmooth[cli]
study      does smoothing help on your data?         needs labelsmooth[study]
export     a model as ONNX, TorchScript or pt2       needs labelsmooth[export]
doctor     what is installed and what would run; of a loss, whether it smooths

Install with pip, for example: pip install 'labelsmooth[study]'.
"""


def main() -> None:
    """Run the command; without the extra ``cli`` only ``doctor``, ``--help`` and ``--version`` work."""
    _prepare_process()
    words = sys.argv[1:]
    if words == ["--version"]:
        print(f"labelsmooth {labelsmooth.__version__}")
    elif {"typer", "rich"}.isdisjoint(missing("cli")):
        try:
            from labelsmooth.cli import app
        except KeyboardInterrupt:  # the imports take seconds
            sys.exit(130)
        app()
    elif words == ["doctor"]:
        from labelsmooth.doctor import report

        print(report())
    elif not words or {"--help", "-h"} & set(words):
        print(HELP)
    else:
        try:
            require("cli", f"labelsmooth {words[0]}")
        except UserError as error:
            sys.exit(str(error))


def _prepare_process() -> None:
    """Streams that can be used although they are closed or cannot encode a name; signals that clean up; threads that
    wait for each other without taking the processor from the program that they wait for."""
    # GNU's OpenMP, which PyTorch loads, otherwise spins for milliseconds wherever threads meet.  Beside other programs
    # the thread that is late is often not running at all, and a training takes several times as long.
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _exit)


def _exit(number: int, _: FrameType | None) -> None:
    """Raise SystemExit, so that temporary files are deleted."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
