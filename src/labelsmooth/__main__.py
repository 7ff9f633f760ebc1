"""Where the command ``labelsmooth`` starts, also as ``python -m labelsmooth``."""

from __future__ import annotations

import sys

import labelsmooth
from labelsmooth.errors import UserError
from labelsmooth.extras import missing, require

__all__ = ["main"]

HELP = """Usage: labelsmooth COMMAND [ARGS]...

train      train a calibrated classifier             needs labelsmooth[study]
predict    predict images with it                    needs labelsmooth[study]
evaluate   is a model calibrated?                    needs labelsmooth[cli]
calibrate  fit a calibrator, apply it                needs labelsmooth[cli]
study      does smoothing help on your data?         needs labelsmooth[study]
export     a model as ONNX, TorchScript or pt2       needs labelsmooth[export]
doctor     what is installed, and what would run

Install with pip, for example: pip install 'labelsmooth[study]'.
"""


def main() -> None:
    """Run the command; without the extra ``cli`` only ``doctor``, ``--help`` and ``--version`` work."""
    words = sys.argv[1:]
    if words == ["--version"]:
        print(f"labelsmooth {labelsmooth.__version__}")
    elif {"typer", "rich"}.isdisjoint(missing("cli")):
        from labelsmooth.cli import app

        app()
    elif words[:1] == ["doctor"]:
        from labelsmooth.doctor import report

        print(report())
    elif not words or {"--help", "-h"} & set(words):
        print(HELP)
    else:
        try:
            require("cli", f"labelsmooth {words[0]}")
        except UserError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
