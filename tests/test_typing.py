"""A user's ``mypy --strict`` passes over the examples of the README and the documentation."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def program(page: Path) -> str:
    """The examples of a page as one module; what an expression prints is left out."""
    examples = doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8"))
    return "from __future__ import annotations\n" + "".join(example.source for example in examples)


METRICS = """
from typing_extensions import assert_type
import numpy as np
import torch
from labelsmooth import metrics

p, y = np.full((2, 2), 0.5), np.array([0, 1])
t, u = torch.full((2, 2), 0.5), torch.tensor([0, 1])
assert_type(metrics.ece(p, y), float)
assert_type(metrics.ece(logits=p, labels=y, bins=5, norm="l2"), float)
assert_type(metrics.nll(t, u), torch.Tensor)
assert_type(metrics.aurc(logits=t, labels=u, score="p-norm"), torch.Tensor)
assert_type(metrics.risk_at_coverage(p, y, coverage=0.5, interval=0.9), metrics.Estimate)
metrics.ece(p, y, binning="quantile")  # type: ignore[call-overload]
"""


def test_examples_pass_mypy_strict(tmp_path: Path) -> None:
    for page in PAGES:
        (tmp_path / (page.stem.replace("-", "_") + "_page.py")).write_text(program(page))
    (tmp_path / "metrics_types.py").write_text(METRICS)
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-redefinition", "--no-error-summary"]
    # The examples define helpers without annotations, as a user's notebook does, and use libraries without types.
    command += ["--allow-untyped-defs", "--allow-untyped-calls", "--allow-incomplete-defs", "--ignore-missing-imports"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
