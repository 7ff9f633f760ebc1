"""How often intervals and verdicts are right: nominal against observed, by simulation.

    python bench/all_coverage.py [--quick] [--section metrics] [--jobs 2]

A section is a list of cells; a cell draws samples whose truth is known and counts how often the statement made of each
holds it.  The table has a line for each cell and quantity with the standard error of what was observed, and marks the
lines that are below the bar of their quantity by more than two standard errors.  ``--quick`` takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import coverage_metrics
import numpy as np
from coverage_cells import Cell, Line
from harness import keep

# A section is a function of `quick` that returns its cells; add those of other rooms here.
SECTIONS: dict[str, Callable[[bool], Sequence[Cell]]] = {
    "metrics": coverage_metrics.cells,
    "splits": coverage_metrics.split_cells,
    "verdicts": coverage_metrics.verdict_cells,
    "differences": coverage_metrics.difference_cells,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--section", action="append", choices=list(SECTIONS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    lines: list[Line] = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for section in arguments.section or SECTIONS:
            print(f"\n{section}\n{Line.heading()}")
            for found in pool.map(Cell.run, SECTIONS[section](arguments.quick)):
                for line in found:
                    print(line, flush=True)
                lines += found
    below = [line for line in lines if line.fails]
    print(f"\n{len(lines)} lines, {len(below)} on the wrong side of their bar by more than two standard errors.")
    keep(
        "coverage",
        {
            "command": ["bench/all_coverage.py", *sys.argv[1:]],
            "versions": {"python": platform.python_version(), "numpy": np.__version__},
            "lines": [line.record() for line in lines],
        },
    )


if __name__ == "__main__":
    main()
