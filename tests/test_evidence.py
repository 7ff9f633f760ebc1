"""bench/evidence: the page agrees with the records, and a claim runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import ttest_1samp

ROOT = Path(__file__).parents[1]


def evidence(*arguments: str | Path) -> str:
    command = [sys.executable, ROOT / "bench" / "evidence", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def test_page_follows_from_records(tmp_path: Path) -> None:
    evidence("--page", tmp_path / "evidence.md")
    assert (tmp_path / "evidence.md").read_text() == (ROOT / "docs" / "evidence.md").read_text()


RECORDS = sorted((ROOT / "runs" / "evidence").glob("*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_verdicts_of_record(path: Path) -> None:
    for statement in json.loads(path.read_text())["statements"]:
        values, bound = statement["values"], statement["bound"]
        assert len(values) >= 5
        if len(set(values)) == 1:  # an interval without width
            low = high = values[0]
        else:
            low, high = ttest_1samp(values, 0.0).confidence_interval(0.95)
        below, above = high < bound, low > bound
        claimed, other = (below, above) if statement["claimed"] == "below" else (above, below)
        assert statement["verdict"] == ("agrees" if claimed else "does not" if other else "undecided")


def test_every_claim_runs(tmp_path: Path) -> None:
    names = [line.split()[0] for line in evidence("--list").splitlines()]
    output = evidence(*names, "--toy", "--seeds", "2", "--out", tmp_path)
    for name in names:
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert all(f"{statement['text']}: {statement['verdict']}" in output for statement in record["statements"])
    record = json.loads((tmp_path / "largest-logits.json").read_text())
    plain, smoothed = (record["measured"][f"largest logit, {name}"] for name in ("plain", "smoothed"))
    assert record["statements"][0]["values"] == [s - p for s, p in zip(smoothed, plain, strict=True)]
    assert all(s != p for s, p in zip(smoothed, plain, strict=True))  # two trainings, not one
