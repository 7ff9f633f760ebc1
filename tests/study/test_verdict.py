"""The verdict says what the numbers say: each situation that a study can end in, from made-up numbers."""

from __future__ import annotations

import dataclasses

import numpy as np

from labelsmooth.study.compare import MARGINS, compare
from labelsmooth.study.components import Design
from labelsmooth.study.methods import CALIBRATORS, find_method
from labelsmooth.study.planned import planned_comparisons
from labelsmooth.study.recommend import NONE_YET, RULE, candidates, recommend
from labelsmooth.study.records import METRICS, Candidate, Curves, DataRecord, MethodRecord, StudyRecord, StudySettings
from labelsmooth.study.summarise import summary
from labelsmooth.study.verdict import details, verdict

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
    splits=1,
    margins=dict(MARGINS),
    skip_corrupt=False,
    ema=0.0,
    precision="32",
    calibrators=list(CALIBRATORS),
)


def study(
    changes: dict[str, dict[str, float]], seeds: int = 5, spread: float = 0.002, methods=None, splits: int = 1
) -> StudyRecord:
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
    for key in list(table):
        if f"{key[0]}=plain" in changes:  # a copy
            table[key] = table[("plain", *key[1:])]
    design = Design(splits, 0.5, same_test=False) if splits > 1 else Design()
    rows = [
        dataclasses.replace(summary(*key, values, design), floor=0.037 if key[2] == "ece" else None)
        for key, values in table.items()
    ]
    assert set(BASELINE) == set(METRICS)
    wrong = {method: table[method, "none", "error"].sum(1).mean() for method in methods}
    comparisons = compare(table, planned_comparisons(methods, CALIBRATORS), design, wrong=wrong)
    made = StudyRecord(
        config=dataclasses.replace(SETTINGS, methods=list(methods), seeds=seeds, splits=splits),
        data=DataRecord("toys", ["a", "b"], "0", [], [], 800, 400, 400),
        methods=[
            MethodRecord(name, find_method(name).title, {} if name == "plain" else {"epsilon": 0.1}, None)
            for name in methods
        ],
        runs=[],
        summary=rows,
        seconds=[],
        comparisons=comparisons,
        candidates=candidates(table, comparisons, design, wrong),
        guess_error=0.5,
        curves=Curves([], [], {}),
        recommendation=NONE_YET,
        verdict=[],
        details=[],
    )
    return dataclasses.replace(made, recommendation=recommend(made))


def words(*args, **kwargs) -> list[str]:
    """The whole verdict; at most five sentences beside what to use and the rule."""
    made = study(*args, **kwargs)
    sentences = verdict(made)
    assert sentences[:2] == [made.recommendation.text, RULE]
    assert 1 <= len(sentences) - 2 <= 5
    return sentences


def text(*args, **kwargs) -> str:
    return "\n".join([*words(*args, **kwargs), *details(study(*args, **kwargs))])


def test_the_lowest_nll_after_a_calibrator_is_recommended() -> None:
    changes = {"label-smoothing": {"nll": 0.25}, "label-smoothing/temperature": {"nll": 0.22, "ece": 0.012}}
    made = study(changes)
    assert (made.recommendation.method, made.recommendation.calibrator) == ("label-smoothing", "temperature")
    assert made.recommendation.text == (
        "Use label smoothing (epsilon 0.1) with temperature scaling: error 10.0%, NLL 0.220, ECE 1.2% "
        "(a perfect model would show 3.7% here)."
    )


def test_a_tie_goes_to_the_simpler() -> None:
    """Plain training with a temperature is the simplest; without one comes next, then other calibrators."""
    made = study({"label-smoothing/temperature": {"nll": 0.2999}}, spread=0.02)
    assert (made.recommendation.method, made.recommendation.calibrator) == ("plain", "temperature")
    lower = {"nll": 0.25}
    made = study(
        {"label-smoothing": lower, "plain/none": lower, "plain/isotonic": lower, "plain/platt": lower}, spread=0.02
    )
    assert (made.recommendation.method, made.recommendation.calibrator) == ("plain", "platt")


def test_a_model_is_not_recommended_over_a_simpler_or_equally_simple_one_with_a_lower_nll() -> None:
    """Weight decay is surely better than plain training, by little; smoothing varies and may be as good as either."""
    made = study({}, methods=("plain", "label-smoothing", "weight-decay"))
    nll = {"plain": 0.303, "label-smoothing": 0.311, "weight-decay": 0.300}
    tied = {"plain": False, "label-smoothing": True, "weight-decay": True}
    made = dataclasses.replace(
        made,
        candidates=[
            Candidate(name, "temperature", 0.1, nll[name], nll[name] - 0.3, 0.0, admitted=True, tied=tied[name])
            for name in nll
        ],
    )
    assert recommend(made).method == "weight-decay"


def test_a_lower_nll_counts_against_the_simplest_only_where_it_is_significant_among_all_candidates() -> None:
    """Of two standard errors each, the lowest of many is no evidence."""
    made = study({"label-smoothing/temperature": {"nll": 0.297}}, spread=0.045)
    row = next(c for c in made.candidates if (c.method, c.calibrator) == ("plain", "temperature"))
    uncorrected = 1.96 / 2.9 * row.half_width
    assert uncorrected < row.above_lowest < row.half_width
    assert (made.recommendation.method, made.recommendation.calibrator) == ("plain", "temperature")
    made = study({"label-smoothing/temperature": {"nll": 0.285}}, spread=0.045)
    assert made.recommendation.method == "label-smoothing"


def test_a_method_that_is_significantly_worse_in_error_is_not_recommended() -> None:
    worse = {"error": 0.13, "nll": 0.2}
    made = study({"label-smoothing": worse})
    assert made.recommendation.method == "plain"
    assert {row.method for row in made.candidates if not row.admitted} == {"label-smoothing"}
    made = study({"label-smoothing": {"error": 0.07}})
    assert made.recommendation.method != "plain"
    assert {row.method for row in made.candidates if not row.admitted} == {"plain"}


def test_with_two_seeds_plain_training_is_recommended_and_nothing_is_significant() -> None:
    sentences = words({"label-smoothing": {"error": 0.02, "nll": 0.1}}, seeds=2)
    assert sentences[0].startswith("Use plain cross-entropy with temperature scaling")
    assert "With 2 seeds no difference is significant" in sentences[2]
    assert "error inconclusive (10.0% to 2.0%" in sentences[3]
    assert "the intervals are of the test examples alone" not in sentences[2]
    assert "With 1 seed no difference" in words({}, seeds=1)[2]
    assert "the intervals are of the test examples alone" in words({}, seeds=1)[2]


def test_no_better_than_guessing_comes_first() -> None:
    sentences = words({name: {"error": 0.6} for name in ("plain", "dropout", "label-smoothing")})
    assert sentences[0].startswith("Use none of these models: they are not significantly better than guessing.")
    assert "60.0%" in sentences[0]
    assert "50.0%" in sentences[0]
    sentences = words({"dropout": {"error": 0.6, "nll": 0.1}})
    assert "Not significantly better than guessing" in sentences[2]
    assert "dropout" in sentences[2]
    assert sentences[0].startswith("Use plain")


def test_too_few_errors_are_said() -> None:
    """Of 400 test examples 4 are misclassified at 1%, 8 at 2%."""
    rare = {name: {"error": 0.01} for name in ("plain", "dropout", "label-smoothing")}
    assert "Too few errors: no method misclassifies more than 4.0 of 400 test examples." in words(rare)[2]
    assert "Too few errors" not in text(rare | {"dropout": {"error": 0.02}})


def test_where_hardly_an_example_is_misclassified_only_the_error_is_compared() -> None:
    """Of 400 test examples 4 are misclassified, or 8: smoothing has a much lower NLL on those that are right."""
    lower = {"label-smoothing": {"nll": 0.2}, "label-smoothing/temperature": {"nll": 0.2}}
    rare = {"plain": {"error": 0.01}, "dropout": {"error": 0.01}, "label-smoothing": {"error": 0.01}}
    few = study({name: rare.get(name, {}) | lower.get(name, {}) for name in rare | lower})
    assert {row.verdict for row in few.comparisons if row.metric != "error" and not row.identical} == {"inconclusive"}
    assert few.comparison("label-smoothing", "nll", "temperature").p_value == 1.0
    assert (few.recommendation.method, few.recommendation.calibrator) == ("plain", "temperature")
    assert "NLL inconclusive: fewer than 5 test examples are misclassified" in "\n".join(verdict(few))
    enough = {name: rare.get(name, {}) | lower.get(name, {}) for name in rare | lower} | {"dropout": {"error": 0.02}}
    enough["plain"] = {"error": 0.02}
    made = study(enough)
    assert made.comparison("label-smoothing", "nll", "temperature").significant
    assert made.recommendation.method == "label-smoothing"


def test_smoothing_that_helps() -> None:
    helps = {"error": 0.08, "ece": 0.02, "nll": 0.25, "confidence_gap": -0.01, "aurc": 0.03}
    said = text({"label-smoothing": helps})
    assert (
        "with a temperature on both (primary): error lower (10.0% to 8.0%, -2.0 points, corrected interval -2" in said
    )
    assert "no calibrator (secondary): ECE lower (5.0% to 2.0%" in said
    assert "over-confident by 5.0 points" in said
    assert "under-confident by 1.0 points" in said
    assert "AURC higher (0.0200 to 0.0300" in said
    assert "less well" in said


def test_equivalent_and_identical_are_said() -> None:
    said = text({"label-smoothing": {"error": 0.1002}, "dropout=plain": {}}, spread=0.01)
    assert "error equivalent (10.0% to 10.0%, +0.0 points, 90% interval" in said
    assert "within the margin of 0.5 points" in said
    assert "identical with dropout (10.0%)" in said


def test_a_significant_difference_within_the_margin_says_so() -> None:
    said = text({"label-smoothing": {"error": 0.102}}, spread=0.001)
    assert "error higher (10.0% to 10.2%" in said
    assert "less than the margin of 0.5 points" in said


def test_what_is_inconclusive_says_what_it_would_take() -> None:
    said = text({"label-smoothing": {"error": 0.12}}, spread=0.3)
    assert "error inconclusive (10.0% to 12.0%" in said
    assert "seeds would" in said


def test_it_says_of_how_many_splits_it_speaks() -> None:
    assert "one split of the data" in words({})[-1]
    assert "spread over 5 of them" in words({}, splits=5)[-1]


def test_a_training_too_short_to_over_fit() -> None:
    under = {"confidence_gap": -0.05, "nll_gap": -0.01}
    said = text({"plain": under, "label-smoothing": {"confidence_gap": -0.2, "ece": 0.2}})
    assert "training too short to over-fit (7 epochs" in said
    assert "lowers its confidence further" in said
    assert "too short" not in text({"label-smoothing": {"confidence_gap": -0.2, "ece": 0.2}})


def test_calibrators_and_other_methods() -> None:
    said = text({"dropout": {"error": 0.09}, "plain/temperature": {"ece": 0.01, "nll": 0.31}})
    assert "Calibrators on the plain model, ECE 5.0% before: lower with temperature scaling (1.0%)" in said
    assert "Other methods (secondary), error 10.0% without them: lower with dropout (9.0%)" in said
    assert "From label smoothing alone to plain training with a temperature: NLL higher (0.300 to 0.310" in said


def test_without_smoothing_it_speaks_of_the_rest() -> None:
    said = text({"dropout": {"error": 0.09}}, methods=("plain", "dropout", "focal"))
    assert "label smoothing" not in said.lower()
    assert "lower with dropout" in said
