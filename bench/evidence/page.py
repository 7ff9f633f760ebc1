"""docs/evidence.md, from the claims and their records."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import readme_claims
from claim import Claim, Statement

__all__ = ["write"]

ROOT = Path(__file__).resolve().parents[2]

HEAD = """# What the literature says

What papers claim about label smoothing, run again at a small size. Each row is one statement of a claim, with the mean
over the seeds, its 95% interval, and a verdict: *agrees* if the whole interval is on the claimed side of 0 (or of the
margin that is named), *does not* if it is on the other side, *undecided* otherwise.

Fashion-MNIST is halved to 14 × 14 pixels and cut into blocks of 7,000 images, one for each seed. No image is in two
blocks, so the seeds are independent, and Student's interval for their mean covers the choice of the images. Of this
many statements at 95%, one may be wrong by chance. All claims were run with 5 seeds first, and then, if their trainings
are short enough, with 10.

A verdict here is about small networks and few images. *Does not* says that the effect is absent or reversed at this
size, not that the paper is wrong.

"""
FOOT = """
## How to run it

`python bench/evidence --list` names the claims, `python bench/evidence CLAIM` runs one and writes its record to
`runs/evidence/`, and `python bench/evidence --page` writes this page from the records. `--data-dir` or
`LABELSMOOTH_DATA` is the folder of torchvision's data sets. Trainings of the small CNN are kept in `studies/evidence`,
and claims share them. No claim took more than half an hour on one core of a machine that was busy with other work.

The experiment that this project began with is one command for those who have the data (all Oxford-IIIT Pets,
ResNet-34, four epochs; reported error 7.5%): `python examples/article.py`. It has not been run in full here: that
awaits the data and a GPU.
"""


def write(claims: Iterable[Claim], folder: Path) -> str:
    """The page: one table of all statements, then for each claim its settings and what was measured.

    A claim without a record is listed as not run.
    """
    records = {claim: _read(folder / f"{claim.name}.json") for claim in claims}
    lines = [
        "| claim, and what it says of our runs | command, and ours: mean (95% interval) | verdict |",
        "|---|---|---|",
    ]
    for claim, record in records.items():
        command, state = (f"`{record['command']}`", "") if record else ("", "not run")
        lines.append(f"| **[{claim.sentence}](#{claim.name})** {claim.source} | {command} | {state} |")
        for statement in map(Statement.read, record["statements"] if record else []):
            ours = f"{statement.quantity}: {statement}"
            lines.append(f"| {statement.text} | {ours} | **{statement.verdict()}** |")
    sections = [_section(claim, record) for claim, record in records.items()]
    return HEAD + "\n".join(lines) + "\n" + readme_claims.table(ROOT) + "".join(sections) + FOOT


def _section(claim: Claim, record: dict[str, Any] | None) -> str:
    heading = f"""
## {claim.name.replace("-", " ").capitalize()} {{#{claim.name}}}

{claim.sentence} ({claim.source})

- In the paper: {claim.original}.
- Here: {claim.setting}"""
    if record is None:
        return f"{heading}. Not run.\n"
    rows = ["| | mean over the seeds (standard deviation) |", "|---|---|"]
    rows += [f"| {name} | {_number(values)} |" for name, values in record["measured"].items()]
    table = "\n".join(f"    {row}" for row in rows)
    return f"""{heading}; {record["seeds"]} seeds.
- Reading: {claim.reading}
- Command: `{record["command"]}`

??? note "What was measured"

{table}
"""


def _number(values: list[float]) -> str:
    mean, spread = statistics.mean(values), statistics.stdev(values)
    digits = 3 if abs(mean) < 1 and spread < 0.05 else 1 if spread > 0.05 else 2
    return f"{mean:.{digits}f} ({spread:.{digits}f})".replace("-", "−")


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None
