"""How often intervals and verdicts are right: nominal against observed, by simulation.

    python bench/all_coverage.py [--quick] [--section study] [--jobs 2]

A section is a list of cells; a cell draws samples whose truth is known and counts how often the statement made of each
holds it.  The table has a line for each cell and quantity with the standard error of what was observed, and marks the
lines that are below the bar of their quantity by more than two standard errors.  ``--quick`` takes about a minute
of one core and writes nothing; without it each section is written to bench/results/coverage.json when it is done, and
all of them take about 40 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import coverage_calibrators
import coverage_metrics
import coverage_study
import numpy as np
from coverage_cells import Cell, Line
from harness import RESULTS, keep

# A section is a function of `quick` that returns its cells.
SECTIONS: dict[str, Callable[[bool], Sequence[Cell]]] = {
    "metrics": coverage_metrics.cells,
    "splits": coverage_metrics.split_cells,
    "verdicts": coverage_metrics.verdict_cells,
    "differences": coverage_metrics.difference_cells,
    "calibrators": coverage_calibrators.cells,
    "study": coverage_study.cells,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--section", action="append", choices=list(SECTIONS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    every: list[Line] = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for section in arguments.section or SECTIONS:
            print(f"\n{section}\n{Line.heading()}")
            lines: list[Line] = []
            for of_cell in pool.map(Cell.run, SECTIONS[section](arguments.quick)):
                for line in of_cell:
                    print(line, flush=True)
                lines += of_cell
            every += lines
            if not arguments.quick:
                save(section, lines)
    below = sum(line.fails for line in every)
    print(f"\n{len(every)} lines, {below} on the wrong side of their bar by more than two standard errors.")


def save(section: str, lines: Sequence[Line]) -> None:
    """Replace a section of bench/results/coverage.json, and leave the others."""
    path = RESULTS / "coverage.json"
    sections = json.loads(path.read_text()) if path.exists() else {}
    sections[section] = {
        "command": ["bench/all_coverage.py", *sys.argv[1:]],
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "lines": [line.record() for line in lines],
    }
    keep("coverage", {name: sections[name] for name in SECTIONS if name in sections})


if __name__ == "__main__":
    main()
