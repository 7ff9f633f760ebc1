"""The plan of a study: what it promises is what studies of that size show."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.errors import UserError
from labelsmooth.study import StudyRecord
from labelsmooth.study.compare import compare
from labelsmooth.study.plan import plan
from labelsmooth.study.planned import planned_comparisons

METHODS = ("plain", "label-smoothing", "dropout", "mixup")
PAIRS = planned_comparisons(METHODS, ("none", "temperature"))


def table(rng, seeds: int, examples: int, effect: float = 0.0):
    return {
        (method, calibrator, metric): effect * (method == "label-smoothing")
        + 0.01 * rng.standard_normal((seeds, 1))
        + 0.2 * (rng.standard_normal((1, examples)) + rng.standard_normal((seeds, examples)))
        for method in METHODS
        for calibrator in ("none", "temperature")
        for metric in ("error", "nll", "ece", "aurc", "confidence_gap")
    }


def pilot(study: StudyRecord, seeds: int, examples: int, splits: int = 1) -> StudyRecord:
    comparisons = compare(table(np.random.default_rng(0), seeds, examples), PAIRS)
    return dataclasses.replace(
        study,
        config=dataclasses.replace(study.config, seeds=seeds, splits=splits),
        data=dataclasses.replace(study.data, test=examples),
        comparisons=comparisons,
    )


def test_the_planned_difference_is_found_in_four_studies_of_five(tiny_study: StudyRecord) -> None:
    error = plan(pilot(tiny_study, 8, 2000), seeds=[5], examples=[500])[0]
    assert error.metric == "error"
    rng = np.random.default_rng(1)
    results = [compare(table(rng, 5, 500, error.smallest[0][0]), PAIRS[:3])[0] for _ in range(60)]
    # At the strictest of Holm's levels: the primary comparisons of nothing beside it.
    assert 0.62 <= np.mean([row.significant for row in results]) <= 0.97


def test_more_seeds_and_more_examples_show_less(tiny_study: StudyRecord) -> None:
    for row in plan(pilot(tiny_study, 4, 300)):
        smallest = np.array(row.smallest)
        assert smallest.shape == (len(row.seeds), len(row.examples))
        assert row.examples == [300, 600, 1200, 3000]
        assert (np.diff(smallest, axis=0) < 0).all()
        assert (np.diff(smallest, axis=1) < 0).all()


def test_a_pilot_needs_two_seeds_and_a_plan_three(tiny_study: StudyRecord) -> None:
    with pytest.raises(UserError, match="at least 2 seeds"):
        plan(pilot(tiny_study, 1, 50))
    with pytest.raises(UserError, match="at least 3 seeds"):
        plan(pilot(tiny_study, 3, 50), seeds=[2])


def test_the_command_prints_the_plan_of_a_finished_study(
    tiny_study: StudyRecord, tiny_npz: Path, tiny_folder: Path
) -> None:
    command = ["study", str(tiny_npz), "--out", str(tiny_folder), "--plan"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "Error, points" in result.output
    assert re.search(rf"Seeds\W+{tiny_study.data.test}\W+{2 * tiny_study.data.test}\W", result.output)
    result = CliRunner().invoke(app, [*command, "--json"])
    assert [row["metric"] for row in json.loads(result.output)] == ["error", "nll", "ece"]


def test_margins_are_given_in_points_and_nats(
    tiny_study: StudyRecord, tiny_npz: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder / "runs", tmp_path / "runs")
    options = ["--methods", "label-smoothing,early-stopping", "--seeds", "2", "--epochs", "2", "--batch-size", "32"]
    command = ["study", str(tiny_npz), "--out", str(tmp_path), *options, "--json"]
    result = CliRunner().invoke(app, [*command, "--margin", "error=25", "--margin", "nll=0.2"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["config"]["margins"] == {"error": 0.25, "ece": 0.01, "nll": 0.2}
    assert record["recommendation"]["method"] == "plain"
    result = CliRunner().invoke(app, [*command, "--margin", "error"])
    assert result.exit_code == 2
    assert "--margin error is not of the form METRIC=SIZE" in " ".join(result.stderr.split())
