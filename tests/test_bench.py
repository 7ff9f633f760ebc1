"""What the benchmarks write: a record for each machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def harness(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    yield harness
    del sys.modules["harness"]


def test_a_new_record_replaces_that_of_the_same_machine_alone(harness, tmp_path) -> None:
    here, there = harness.machine(), {**harness.machine(), "cpu": "another"}
    harness.write("speed", rows=[1])
    harness.write("speed", rows=[2], machine=there)
    harness.write("speed", rows=[3], machine={**here, "load_average": 7.0})
    records = json.loads((tmp_path / "speed.json").read_text())
    assert [record["rows"] for record in records] == [[3], [2]]
    assert [record["machine"]["cpu"] for record in records] == [here["cpu"], "another"]
