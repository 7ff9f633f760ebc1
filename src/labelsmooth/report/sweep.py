"""The page of a sweep: what smoothing does at each level, and each metric against the dimension."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelsmooth.files import StrPath
from labelsmooth.metrics.numbers import capitalized, change, value
from labelsmooth.report.page import render, write
from labelsmooth.report.study import outcome, write_study
from labelsmooth.report.study_figures import CALIBRATOR_TITLES, lines_picture
from labelsmooth.report.svg import Picture
from labelsmooth.report.tables import MARKS, Cell, Row, Table
from labelsmooth.study.planned import main_method
from labelsmooth.study.records import METRICS, StudyRecord
from labelsmooth.study.sweep import DIMENSIONS, Dimension, SweepRecord

Shown = tuple[str, str]  # a metric and a calibrator


def write_sweep(sweep: SweepRecord, path: StrPath) -> None:
    """Write the page of a sweep, and beside it the page of each level.

    Raises:
        UserError: a file cannot be written.
    """
    path = Path(path)
    for level, name in zip(sweep.levels, _names(sweep, path), strict=True):
        write_study(level, path.with_name(name))
    write(render_sweep(sweep, path), path)


def render_sweep(sweep: SweepRecord, path: StrPath = "report.html") -> str:
    """The page as a string, with links to the pages of the levels beside ``path``."""
    lead, *findings = sweep.findings
    dimension = max((DIMENSIONS[name] for name in sweep.dimensions), key=lambda d: len(_values(sweep.levels, d)))
    return render(
        "sweep.html.j2",
        title=f"{dimension.title} and label smoothing on {sweep.levels[0].data.name}",
        lead=lead,
        tone="",
        findings=findings,
        sweep=sweep,
        levels=levels_table(sweep),
        pages=list(zip(map(sweep.values, sweep.levels), _names(sweep, Path(path)), strict=True)),
        groups=[
            (
                heading,
                [
                    *(_against(levels, dimension, shown, heading) for shown in _shown(sweep)),
                    *_students(levels, dimension, heading),
                ],
            )
            for heading, levels in _groups(sweep, dimension)
        ],
        metrics=[METRICS[metric] for metric in ("error", "nll", "ece")],
        command=sweep.command,
    )


def levels_table(sweep: SweepRecord) -> Table:
    """A row for each level: plain training and the main method, in error, and in NLL and ECE."""
    main = main_method([method.name for method in sweep.levels[0].methods])
    rows = []
    for level in sweep.levels:
        cells = []
        for metric, calibrator in _shown(sweep):
            before = value(METRICS[metric], level.number("plain", metric, calibrator).mean)
            if not main:
                cells.append(Cell(before))
                continue
            after = value(METRICS[metric], level.number(main, metric, calibrator).mean)
            row = level.comparison(main, metric, calibrator, "plain")
            word, tone = outcome(row)
            difference, ends = change(METRICS[metric], row.difference, row.low, row.high)
            cells.append(Cell(f"{MARKS.get(word, '')}{before} → {after}", f"{difference} ({ends})", tone=tone))
        rows.append(Row(sweep.values(level), cells))
    titles = {method.name: method.title for method in sweep.levels[0].methods}
    note = (
        f"From plain training to {titles[main].lower()}, and the difference with its corrected interval."
        if main
        else ""
    )
    return Table([capitalized(sweep.heading), *map(_title, _shown(sweep))], rows, note)


def _shown(sweep: SweepRecord) -> list[Shown]:
    """What is shown against the dimension: where a temperature could be fitted everywhere, with one too."""
    if all("temperature" in level.config.calibrators for level in sweep.levels):
        return [("error", "none"), ("nll", "temperature"), ("ece", "temperature"), ("ece", "none")]
    return [("error", "none"), ("nll", "none"), ("ece", "none")]


def _title(shown: Shown) -> str:
    metric, calibrator = shown
    after = "" if metric == "error" else f", {CALIBRATOR_TITLES[calibrator]}"
    return METRICS[metric].title + after


def _names(sweep: SweepRecord, path: Path) -> list[str]:
    """The file name of each level's page."""
    slugs = [re.sub(r"[^a-z0-9.]+", "-", sweep.label(level).lower()).strip("-") for level in sweep.levels]
    return [f"{path.stem}-{slug}{path.suffix}" for slug in slugs]


def _values(levels: list[StudyRecord], dimension: Dimension) -> list[float | str]:
    return list(dict.fromkeys(getattr(level.config, dimension.name) for level in levels))


def _groups(sweep: SweepRecord, dimension: Dimension) -> list[tuple[str, list[StudyRecord]]]:
    """Levels that differ in the dimension alone, under a heading that says what they have in common."""
    others = [DIMENSIONS[name] for name in sweep.dimensions if name != dimension.name]
    groups: dict[str, list[StudyRecord]] = {}
    for level in sweep.levels:
        heading = ", ".join(f"{d.title} {d.written(getattr(level.config, d.name))}" for d in others)
        groups.setdefault(heading, []).append(level)
    return list(groups.items())


def _students(levels: list[StudyRecord], dimension: Dimension, heading: str) -> list[Picture]:
    """The error of the students against the dimension; nothing without students."""
    if (distillation := levels[0].distillation) is None:
        return []
    names = [student.name for student in [*distillation.students, distillation.alone]]
    return [_against(levels, dimension, ("error", "none"), heading, "Error of the students", names)]


def _against(
    levels: list[StudyRecord],
    dimension: Dimension,
    shown: Shown,
    heading: str,
    title: str = "",
    names: Sequence[str] = (),
) -> Picture:
    """A metric against the dimension: a line for each method, or for other names in the tables."""
    metric, calibrator = shown
    title, names = title or _title(shown), names or [method.name for method in levels[0].methods]
    values = _values(levels, dimension)
    places = np.arange(len(values), dtype=float)
    if dimension.unit != "name":
        places = np.array(values, float)
    titles = levels[0].titles
    lines = {titles[name]: [level.number(name, metric, calibrator) for level in levels] for name in names}
    return lines_picture(
        title,
        dimension.title.lower(),
        places,
        lines,
        [dimension.written(v) for v in values],
        logarithmic=dimension.logarithmic,
        name=f"{heading}-{title}",
    )
