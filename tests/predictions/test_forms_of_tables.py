"""Tables that people have: each gives the numbers of the arrays that it was made from, and says what was guessed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.calibrate import TemperatureScaling, load, save
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.predictions import ColumnOptions, Evaluation, apply_file, evaluate, evaluate_held_out, fit_file

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

QUICK = Interval(resamples=100)
ROWS = 300


def predictions(classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(ROWS, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    exp = np.exp(2 * logits)
    return exp / exp.sum(1, keepdims=True), labels


P, Y = predictions()
P2, Y2 = predictions(2)
NAMES = np.array(["cat", "dog", "emu"])
WORDS = np.array(["benign", "malignant"])
EXPECTED = metrics.summary(P, Y, interval=QUICK) | {"failure_auroc": metrics.failure_auroc(P, Y, interval=QUICK)}
EXPECTED2 = metrics.summary(P2[:, 1], Y2, interval=QUICK)


def columns(prefix: str, values: np.ndarray = P, names: Any = range(3)) -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": values[:, k] for k, name in enumerate(names)}


# Columns of a table, the options that it needs, and what is said about it.
TABLES: dict[str, tuple[dict[str, Any], ColumnOptions, str]] = {
    "p0, p1, p2": (columns("p") | {"label": Y}, ColumnOptions(), ""),
    "zero-padded": (columns("p0") | {"label": Y}, ColumnOptions(), ""),
    "prob_0 and y_true": (columns("prob_") | {"y_true": Y}, ColumnOptions(), "labels from column y_true"),
    "numbered from 1": (columns("class_", names=(1, 2, 3)) | {"label": Y + 1}, ColumnOptions(), ""),
    "float labels": (columns("p") | {"label": Y.astype(float)}, ColumnOptions(), ""),
    "logits": (columns("logit_", np.log(P)) | {"target": Y}, ColumnOptions(), "labels from column target"),
    "named columns": (columns("", names=NAMES) | {"label": NAMES[Y]}, ColumnOptions(), "of the classes cat, dog, emu"),
    "named columns beside others": (
        {"id": np.arange(ROWS), "diagnosis": NAMES[Y], "age": 40 + Y} | columns("", names=NAMES),
        ColumnOptions(),
        "labels from column diagnosis; probabilities of the classes cat, dog, emu",
    ),
    "prefixed names": (columns("prob_", names=NAMES) | {"label": NAMES[Y]}, ColumnOptions(), ""),
    "names in another order": (
        {"label": NAMES[Y], "prob_emu": P[:, 2], "prob_cat": P[:, 0], "prob_dog": P[:, 1]},
        ColumnOptions(),
        "",
    ),
    "positions of named columns": (
        columns("prob_", names=NAMES) | {"label": Y},
        ColumnOptions(),
        "labels are the positions of the classes, from 0",
    ),
    "percentages": (columns("p", 100 * P) | {"label": Y}, ColumnOptions(), "probabilities are percentages"),
    "given columns": (
        columns("score ", names=NAMES) | {"what it is": Y},
        ColumnOptions(label="what it is", probabilities=("score cat", "score dog", "score emu")),
        "",
    ),
}
BINARY: dict[str, tuple[dict[str, Any], ColumnOptions, str]] = {
    "y_true and y_prob": ({"y_true": Y2, "y_prob": P2[:, 1]}, ColumnOptions(), "positive class: 1"),
    "label and p1": ({"label": Y2, "p1": P2[:, 1]}, ColumnOptions(), "positive class: 1"),
    "booleans": ({"label": Y2 == 1, "score": P2[:, 1]}, ColumnOptions(), "positive class: True"),
    "column named after the class": (
        {"diagnosis": WORDS[Y2], "prob_malignant": P2[:, 1]},
        ColumnOptions(label="diagnosis", probabilities=("prob_malignant",)),
        "positive class: malignant",
    ),
    "positive class given": (
        {"label": WORDS[Y2], "y_prob": P2[:, 1]},
        ColumnOptions(positive="malignant"),
        "probabilities from column y_prob",
    ),
    "a prediction that is a probability": (
        {"id": range(ROWS), "target": np.where(Y2 == 1, "yes", "no"), "prediction": P2[:, 1]},
        ColumnOptions(),
        "Read labels from column target; probabilities from column prediction; positive class: yes.",
    ),
    "logits": ({"label": Y2, "logit": np.log(P2[:, 1] / P2[:, 0])}, ColumnOptions(), "logits from column logit"),
}


def write(frame: Any, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        separator = {".tsv": "\t", ".csv": ","}.get(path.with_suffix("").suffix or path.suffix, ";")
        frame.to_csv(path, sep=separator, index=False, decimal="," if separator == ";" else ".")
    return path


def same(result: Evaluation, expected: dict[str, metrics.Estimate]) -> None:
    for name, estimate in expected.items():
        assert result.metrics[name].value == pytest.approx(estimate.value, abs=1e-9), name


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_all_classes(case: str, tmp_path: Path) -> None:
    table, options, remark = TABLES[case]
    result = evaluate(write(pd.DataFrame(table), tmp_path / "t.csv"), columns=options, interval=QUICK)
    same(result, EXPECTED)
    assert remark in " ".join(result.remarks)


@pytest.mark.parametrize("case", BINARY)
def test_tables_of_one_column_of_scores(case: str, tmp_path: Path) -> None:
    table, options, remark = BINARY[case]
    result = evaluate(write(pd.DataFrame(table), tmp_path / "t.csv"), columns=options, interval=QUICK)
    same(result, EXPECTED2)
    assert remark in " ".join(result.remarks)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "t.parquet", "t.jsonl"])
def test_formats(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(columns("prob_", names=NAMES) | {"label": NAMES[Y], "note": "a, b; c"})
    same(evaluate(write(frame, tmp_path / name), interval=QUICK), EXPECTED)


def test_data_frames() -> None:
    frame = pd.DataFrame(columns("p") | {"label": Y})
    same(evaluate(frame, interval=QUICK), EXPECTED)
    import pyarrow as pa

    same(evaluate(pa.table(frame), interval=QUICK), EXPECTED)


def test_lists_in_json_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"label": int(y), "logits": np.log(p).tolist()}) for p, y in zip(P, Y, strict=True)]
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    same(evaluate(tmp_path / "t.jsonl.gz", interval=QUICK), EXPECTED)


def test_lists_beside_given_columns() -> None:
    frame = pd.DataFrame({"label": 0, "what": Y, "site": np.where(Y == 0, "a", "b"), "probabilities": list(P)})
    result = evaluate(frame, columns=ColumnOptions(label="what", by="site"), interval=QUICK)
    same(result, EXPECTED)
    assert {name: rows for name, (rows, _) in result.groups.items()} == {"a": (Y == 0).sum(), "b": (Y != 0).sum()}


TOP_LABEL = ("error", "ece", "smooth_ece", "ks", "confidence_gap", "aurc", "e_aurc", "augrc", "failure_auroc")


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ({"confidence": P.max(1), "correct": P.argmax(1) == Y}, ColumnOptions()),
        ({"confidence": P.max(1), "acc": (P.argmax(1) == Y).astype(float)}, ColumnOptions()),
        ({"label": NAMES[Y], "prediction": NAMES[P.argmax(1)], "confidence": P.max(1)}, ColumnOptions()),
        ({"gold": NAMES[Y], "label": NAMES[P.argmax(1)], "score": P.max(1)}, ColumnOptions()),
        (
            {"truth ": Y, "guess": P.argmax(1), "sure": 100 * P.max(1)},
            ColumnOptions(label="truth", prediction="guess", confidence="sure", percent=True),
        ),
    ],
)
def test_predictions_of_the_most_probable_class_only(
    table: dict[str, Any], options: ColumnOptions, tmp_path: Path
) -> None:
    result = evaluate(write(pd.DataFrame(table), tmp_path / "t.csv"), columns=options, interval=QUICK)
    same(result, {name: EXPECTED[name] for name in TOP_LABEL})
    assert set(result.metrics) == set(TOP_LABEL)  # the NLL and the Brier score need all classes
    with pytest.raises(UserError, match="confidence of the predicted class only"):
        fit_file(tmp_path / "t.csv", tmp_path / "c.json", columns=options)


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        ({"label": WORDS[Y2], "y_prob": P2[:, 1]}, ColumnOptions(), "Say which class .* --positive-class"),
        ({"label": NAMES[Y], "prob": P[:, 1]}, ColumnOptions(positive="cat"), "is a third one"),
        (columns("p") | {"label": NAMES[Y]}, ColumnOptions(), "'(cat|dog|emu)' is not a whole number"),
        (columns("p", names=NAMES), ColumnOptions(), "no columns of"),
        ({"label": Y2, "pred": Y2}, ColumnOptions(), "give --probability-columns COLUMN --positive-class CLASS"),
        ({"y": Y2, "pred": P2[:, 1]}, ColumnOptions(confidence="pred"), "need the true label, the prediction"),
        (
            {"y": Y2, "conf": P2.max(1)},
            ColumnOptions(label="y", prediction="y", confidence="conf"),
            "the true label is read from 'y', the prediction from 'y' .* these are three columns",
        ),
        (columns("p") | {"label": Y}, ColumnOptions(label="labels"), r"no column 'labels' \(--label-column\)"),
        (columns("p") | {"label": Y}, ColumnOptions(by="site"), "no column 'site' to group by"),
        (columns("p") | {"p00": Y, "label": Y}, ColumnOptions(), "'p0' and 'p00' are both of class 0"),
        (columns("p") | {"label": [10**20] * ROWS}, ColumnOptions(), "too large to be the number of a class"),
        ({"confidence": 100 * P.max(1), "correct": Y == 0}, ColumnOptions(), r"outside \[0, 1\]. Give --percent"),
    ],
)
def test_what_is_ambiguous_asks_for_the_option(
    table: dict[str, Any], options: ColumnOptions, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        evaluate(write(pd.DataFrame(table), tmp_path / "t.csv"), columns=options, interval=QUICK)


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("p0,p1,label,label\n0.5,0.5,0,1\n")
    with pytest.raises(UserError, match="column 'label' is there twice"):
        evaluate(tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_applying_a_calibrator_keeps_the_other_columns(suffix: str, kind: str, tmp_path: Path) -> None:
    fitted = TemperatureScaling().fit(np.log(P), Y)
    save(fitted, tmp_path / "c.json")
    scores = columns("p") if kind == "probabilities" else columns("z", np.log(P))
    table = {"file": [f"{k}, a.jpg" for k in range(ROWS)]} | scores | {"label": Y, "site": "north"}
    apply_file(tmp_path / "c.json", write(pd.DataFrame(table), tmp_path / f"t{suffix}"), tmp_path / f"out{suffix}")
    out = tmp_path / f"out{suffix}"
    frame = pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out, sep="\t" if suffix == ".tsv" else ",")
    assert list(frame) == ["file", "p0", "p1", "p2", "label", "site"]
    np.testing.assert_allclose(frame[["p0", "p1", "p2"]], fitted.predict_proba(np.log(P)), atol=1e-9)
    assert frame["file"][2] == "2, a.jpg"
    assert (frame["label"].astype(int) == Y).all()
    calibrated = evaluate(out, interval=QUICK)
    assert calibrated.metrics["nll"].value < EXPECTED["nll"].value


@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), (";", "."), ("|", "."), (",", ",")])
def test_a_calibrated_table_has_the_separator_and_the_decimal_mark_of_its_source(
    separator: str, decimal: str, tmp_path: Path
) -> None:
    save(TemperatureScaling().fit(np.log(P), Y), tmp_path / "c.json")
    expected = load(tmp_path / "c.json").predict_proba(np.log(P))
    frame = pd.DataFrame({"note": "1.5"} | columns("p") | {"label": Y})
    frame.to_csv(tmp_path / "t.csv", sep=separator, decimal=decimal, index=False)
    for name, written in (("out.csv", separator), ("out.tsv", "\t"), ("out.parquet", "")):
        apply_file(tmp_path / "c.json", tmp_path / "t.csv", tmp_path / name)
        if written:
            result = pd.read_csv(tmp_path / name, sep=written, decimal=decimal, dtype={"note": str})
        else:
            result = pd.read_parquet(tmp_path / name)
        np.testing.assert_allclose(result[["p0", "p1", "p2"]].to_numpy(), expected, atol=1e-12)
        assert set(result["note"]) == {"1.5"}
        same(evaluate(tmp_path / name, interval=QUICK), metrics.summary(expected, Y, interval=QUICK))


@pytest.mark.filterwarnings("ignore:.*probabilities are 0")
def test_rounded_probabilities_are_calibrated_in_files_as_they_are_from_python(tmp_path: Path) -> None:
    z = 6 * np.random.default_rng(1).normal(size=600)
    labels = (np.random.default_rng(2).random(600) < 1 / (1 + np.exp(-z / 3))).astype(int)
    p = (1 / (1 + np.exp(-z))).round(2)
    table = write(pd.DataFrame({"label": labels, "prob": p}), tmp_path / "t.csv")
    fitted = TemperatureScaling().fit(probabilities=p, labels=labels)
    expected = fitted.predict_proba(probabilities=p)[:, 1]
    assert 2 < fitted.temperature_ < 4
    assert "read as 0.001, a tenth of the smallest other" in fit_file(table, tmp_path / "c.json")
    apply_file(tmp_path / "c.json", table, tmp_path / "out.csv")
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out.csv")["prob"], expected, atol=1e-12)
    held_out = evaluate_held_out(load(tmp_path / "c.json"), table, interval=QUICK)
    assert held_out.metrics["nll"].value < 0.6


def test_an_option_for_a_table_is_refused_for_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", probabilities=P, labels=Y)
    with pytest.raises(UserError, match="is not a table"):
        evaluate(tmp_path / "a.npz", columns=ColumnOptions(label="y"))
    with pytest.raises(UserError, match=r"--labels .* is for .npy files"):
        evaluate(tmp_path / "a.npz", labels_path=tmp_path / "absent.npy")


def test_what_was_done_to_rounded_rows_and_to_zeros_is_said_once_each(tmp_path: Path) -> None:
    table = write(pd.DataFrame(columns("p", P.round(2)) | {"label": Y}), tmp_path / "t.csv")
    fit_file(table, tmp_path / "c.json")
    long = write(pd.concat([pd.read_csv(table)] * 60), tmp_path / "long.csv")  # two chunks
    said = apply_file(tmp_path / "c.json", long, tmp_path / "out.csv")
    assert said.count("rounded to 2 decimals") == said.count("probabilities are 0; they are read as") == 1
