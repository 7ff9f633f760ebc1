"""bench/evidence: the page agrees with the records, and a claim runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def evidence(*arguments: str | Path) -> str:
    command = [sys.executable, ROOT / "bench" / "evidence", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def test_page_follows_from_records(tmp_path: Path) -> None:
    evidence("--page", tmp_path / "evidence.md")
    assert (tmp_path / "evidence.md").read_text() == (ROOT / "docs" / "evidence.md").read_text()


def test_claim_runs(tmp_path: Path) -> None:
    output = evidence("largest-logits", "--toy", "--seeds", "2", "--out", tmp_path)
    record = json.loads((tmp_path / "largest-logits.json").read_text())
    assert record["statements"][0]["verdict"] in output
    measured = record["measured"]
    difference = [
        s - p for s, p in zip(measured["largest logit, smoothed"], measured["largest logit, plain"], strict=True)
    ]
    assert record["statements"][0]["values"] == difference
    assert all(abs(value) > 0 for value in difference)  # two trainings, not one
