"""The examples of trainers, run as a reader would run them, on small data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what NumPy's namespace holds
def test_a_language_model_is_measured_by_token(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    record: dict[str, Any] = load("language_model").main(["--quick", "--out", str(tmp_path / "numbers.json")])
    plain, smoothed = record["measured"]
    for measured in (plain, smoothed):
        assert measured["calibrated"]["NLL"].value <= measured["as trained"]["NLL"].value
        assert measured["calibrated"]["error"].value == pytest.approx(measured["as trained"]["error"].value)
    texts = plain["as trained"]["NLL"].examples
    assert texts > 100  # the unit of the intervals is a text, not a token
    assert (tmp_path / "numbers.json").stat().st_size > 100
