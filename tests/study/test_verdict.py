"""The verdict says what the numbers say: each situation that a study can end in, from made-up numbers."""

from __future__ import annotations

import dataclasses

import numpy as np

from labelsmooth.study.compare import compare, estimate, planned_comparisons
from labelsmooth.study.methods import CALIBRATORS, METHODS
from labelsmooth.study.records import METRICS, Curves, DataRecord, MethodRecord, StudyRecord, StudySettings, Summary
from labelsmooth.study.verdict import verdict

BASELINE = {
    "error": 0.10,
    "nll": 0.30,
    "brier": 0.2,
    "ece": 0.05,
    "ece_equal_width": 0.05,
    "confidence_gap": 0.05,
    "aurc": 0.02,
    "nll_gap": -0.3,
    "largest_logit": 12.0,
    "logit_gap": 14.0,
}


SETTINGS = StudySettings(
    data="toys",
    methods=[],
    seeds=5,
    epochs=7,
    backbone="small-cnn",
    weights="none",
    size=0,
    batch_size=64,
    learning_rate=0.003,
    tune=False,
    quick=False,
    data_dir=None,
    out=None,
    split_seed=0,
    skip_corrupt=False,
    ema=0.0,
    precision="32",
    calibrators=list(CALIBRATORS),
)


def study(changes: dict[str, dict[str, float]], seeds: int = 5, spread: float = 0.002, methods=None) -> StudyRecord:
    """A study whose methods have the baseline's numbers but for the changes, "method" or "method/calibrator"."""
    rng = np.random.default_rng(0)
    methods = methods or ("plain", "dropout", "label-smoothing")
    table = {}
    for method in methods:
        for calibrator in CALIBRATORS:
            for metric, value in BASELINE.items():
                key = method if calibrator == "none" else f"{method}/{calibrator}"
                mean = changes.get(key, {}).get(metric, changes.get(method, {}).get(metric, value))
                noise = spread * rng.standard_normal((seeds, 400))
                table[method, calibrator, metric] = mean + noise - noise.mean()
    summary = []
    for key, values in table.items():
        result = estimate(values)
        summary.append(Summary(*key, result.mean, *result.interval(), seeds))
    assert set(BASELINE) == set(METRICS)
    return StudyRecord(
        config=dataclasses.replace(SETTINGS, methods=list(methods), seeds=seeds),
        data=DataRecord("toys", ["a", "b"], "0", [], [], 800, 400, 400),
        methods=[MethodRecord(name, METHODS[name].title, {"epsilon": 0.1}, None) for name in methods],
        runs=[],
        summary=summary,
        seconds=[],
        comparisons=compare(table, planned_comparisons(methods, CALIBRATORS)),
        curves=Curves([], [], {}),
        verdict=[],
    )


def text(*args, **kwargs) -> str:
    return "\n".join(verdict(study(*args, **kwargs)))


def test_smoothing_that_helps() -> None:
    words = text({"label-smoothing": {"error": 0.08, "ece": 0.02, "nll": 0.25, "confidence_gap": -0.01, "aurc": 0.03}})
    assert (
        "label smoothing alone improves the error, the calibration error (ECE) and the NLL and worsens the ranking"
        in words
    )
    assert "lowers the error from 10.0% to 8.0%, -2.0 points" in words
    assert "lowers the calibration error (ECE) from 5.0% to 2.0%" in words
    assert "over-confident by 5.0 points" in words
    assert "under-confident by 1.0 points" in words
    assert "Smoothing costs ranking" in words


def test_smoothing_that_harms() -> None:
    words = text({"label-smoothing": {"error": 0.12, "ece": 0.15, "nll": 0.4}})
    assert "worsens the error, the calibration error (ECE) and the NLL" in words
    assert "raises the error from 10.0% to 12.0%" in words


def test_what_cannot_be_told_is_said_with_what_it_would_take() -> None:
    words = text({"label-smoothing": {"error": 0.101}}, spread=0.3)
    assert "leaves undecided the error" in words
    assert "cannot tell whether it changes the error" in words
    assert "it takes more test examples" in words
    assert "The two came out the same." not in words


def test_a_training_too_short_to_over_fit() -> None:
    under = {"confidence_gap": -0.05, "nll_gap": -0.01}
    words = text({"plain": under, "label-smoothing": {"confidence_gap": -0.2, "ece": 0.2}})
    assert "under-confident already, the sign of a training too short to over-fit (7 epochs" in words
    assert "Smoothing lowers its confidence further, and calibration gets worse" in words
    assert "under-confident already" not in text({"label-smoothing": {"confidence_gap": -0.2, "ece": 0.2}})


def test_temperature_against_smoothing() -> None:
    words = text({"label-smoothing": {"ece": 0.02}, "plain/temperature": {"ece": 0.01, "nll": 0.31}})
    assert "Temperature scaling of the plain model does better than smoothing in ECE (1.0% against 2.0%)" in words
    assert "does worse than smoothing in NLL (0.310 against 0.300)" in words
    assert "Calibrators on the plain model, ECE 5.0% before: better with temperature scaling (1.0%)" in words


def test_rivals() -> None:
    words = text({"dropout": {"error": 0.09, "ece": 0.09}})
    assert "The rivals, Error 10.0% without them: better with dropout (9.0%)" in words
    assert "worse with dropout (9.0%)" in words


def test_one_seed_promises_nothing() -> None:
    words = text({"label-smoothing": {"error": 0.02}}, seeds=1)
    assert "One seed cannot tell a method from the luck of its initial weights" in words
    assert "lowers the error" not in words


def test_without_smoothing_it_speaks_of_the_rest() -> None:
    words = text({"dropout": {"error": 0.09}}, methods=("plain", "dropout"))
    assert "label smoothing" not in words.lower()
    assert "better with dropout" in words
