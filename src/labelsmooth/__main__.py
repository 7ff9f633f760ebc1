"""Where the command ``labelsmooth`` starts, also as ``python -m labelsmooth``."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; without the study extra only ``doctor`` works, and the others say what to install."""
    if importlib.util.find_spec("typer") is None or importlib.util.find_spec("rich") is None:
        if sys.argv[1:2] == ["doctor"]:
            from labelsmooth.doctor import report

            print(report())
            return
        sys.exit(
            "labelsmooth's commands need the study extra: pip install 'labelsmooth[study]' (doctor works without)."
        )
    from labelsmooth.cli import app

    app()


if __name__ == "__main__":
    main()
