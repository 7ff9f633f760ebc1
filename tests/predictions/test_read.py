"""Files of predictions: each format gives the same record, and errors name the row."""

import csv
import pickle

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.predictions import ColumnOptions, apply_file, evaluate, fit_file, open_predictions
from labelsmooth.predictions.read import read_all

SETTINGS = Interval(resamples=100)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    z = 1.5 * rng.normal(size=(500, 4))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    p = np.exp(2 * z)
    return p / p.sum(1, keepdims=True), 2 * z, y


def write_csv(path, scores, labels, letter="p", group=None):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [f"{letter}{k}" for k in range(scores.shape[1])]
        writer.writerow(["name, quoted", *names, "label", *([] if group is None else ["where"])])
        for i, (row, label) in enumerate(zip(scores, labels, strict=True)):
            writer.writerow([f"row, {i}", *map(repr, row.tolist()), label, *([] if group is None else [group[i]])])


def test_every_format_gives_the_same_record(data, tmp_path):
    p, z, y = data
    np.savez(tmp_path / "a.npz", probabilities=p, labels=y)
    np.savez(tmp_path / "z.npz", logits=z, labels=y)
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "y.npy", y)
    write_csv(tmp_path / "a.csv", p, y)
    expected = evaluate(tmp_path / "a.npz", interval=SETTINGS)
    in_memory = metrics.summary(p, y, interval=SETTINGS)
    assert expected.metrics == in_memory | {"failure_auroc": metrics.failure_auroc(p, y, interval=SETTINGS)}
    assert expected.scores == "probabilities"
    assert evaluate(tmp_path / "a.csv", interval=SETTINGS).metrics == expected.metrics
    pair = evaluate(tmp_path / "p.npy", "probabilities", labels_path=tmp_path / "y.npy", interval=SETTINGS)
    assert pair.metrics == expected.metrics
    from_logits = evaluate(tmp_path / "z.npz", interval=SETTINGS)
    assert from_logits.scores == "logits"
    assert from_logits.metrics["nll"].value == pytest.approx(expected.metrics["nll"].value, abs=1e-12)
    assert "Over-confident" in expected.sentence


def test_long_files_are_read_in_chunks(tmp_path):
    n = 40_000
    p = np.random.default_rng(0).random(n)
    p = np.stack([p, 1 - p], 1)
    np.savez(tmp_path / "a.npz", probabilities=p, labels=np.zeros(n, int))
    write_csv(tmp_path / "a.csv", p, np.zeros(n, int))
    for name in ("a.npz", "a.csv"):
        sizes = [len(chunk.scores) for chunk in open_predictions(tmp_path / name).chunks]
        assert sum(sizes) == n
        assert max(sizes) <= 16_384
        np.testing.assert_array_equal(read_all(open_predictions(tmp_path / name))[0], p)
    p[33_333] = [0.7, 0.7]
    np.savez(tmp_path / "bad.npz", probabilities=p, labels=np.zeros(n, int))
    with pytest.raises(UserError, match=r"bad.npz: probabilities: row 33333 sums to 1.4"):
        evaluate(tmp_path / "bad.npz")


def test_groups_and_comparisons(data, tmp_path):
    p, _, y = data
    where = np.array(["north", "south"])[np.arange(500) % 2]
    write_csv(tmp_path / "a.csv", p, y, group=where)
    np.savez(tmp_path / "a.npz", probabilities=p, labels=y, where=where)
    worse = np.full_like(p, 0.25)
    np.savez(tmp_path / "b.npz", probabilities=worse, labels=y)
    evaluation = evaluate(
        tmp_path / "a.csv", columns=ColumnOptions(by="where"), compare=tmp_path / "b.npz", interval=SETTINGS
    )
    assert {name: rows for name, (rows, _) in evaluation.groups.items()} == {"north": 250, "south": 250}
    assert evaluation.groups["south"][1]["nll"].value == pytest.approx(metrics.nll(p[1::2], y[1::2]))
    assert (
        evaluation.groups == evaluate(tmp_path / "a.npz", columns=ColumnOptions(by="where"), interval=SETTINGS).groups
    )
    paired = metrics.compare("nll", p, worse, y, interval=SETTINGS)
    assert evaluation.differences["nll"] == paired
    np.savez(tmp_path / "c.npz", probabilities=worse, labels=(y + 1) % 4)
    with pytest.raises(UserError, match="row 0 has the label"):
        evaluate(tmp_path / "a.csv", compare=tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", probabilities=worse[:9], labels=y[:9])
    with pytest.raises(UserError, match=r"500 rows and .* 9"):
        evaluate(tmp_path / "a.csv", compare=tmp_path / "d.npz")


def bad_arrays():
    p, y = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])
    return {
        "nan": ({"probabilities": np.array([[0.9, 0.1], [np.nan, 0.8]]), "labels": y}, "row 1, class 0 is nan"),
        "sum": ({"probabilities": np.array([[0.9, 0.1], [0.3, 0.8]]), "labels": y}, "row 1 sums to 1.1"),
        "logits as probabilities": (
            {"probabilities": np.array([[3.0, -1.0]]), "labels": y[:1]},
            "row 0.*give --logits",
        ),
        "infinite logits": ({"logits": np.array([[3.0, np.inf]]), "labels": y[:1]}, "logits: row 0"),
        "label": ({"probabilities": p, "labels": np.array([0, 2])}, "row 1 is 2, outside 0 to 1"),
        "length": ({"probabilities": p, "labels": np.array([0])}, r"labels have shape \(1,\), but there are 2 rows"),
        "float labels": ({"probabilities": p, "labels": y.astype(float)}, "save labels.astype"),
        "no labels": ({"probabilities": p}, "no array 'labels'"),
        "no scores": ({"labels": y}, "no array 'probabilities' or 'logits'"),
        "both": ({"probabilities": p, "logits": p, "labels": y}, "give --probabilities or --logits"),
        "no rows": ({"probabilities": p[:0], "labels": y[:0]}, "shape"),
        "integers": ({"probabilities": np.eye(2, dtype=int), "labels": y}, "not floating point"),
        "object": ({"probabilities": np.array([[1.0, None]], dtype=object), "labels": y}, "never loaded"),
    }


@pytest.mark.parametrize("case", bad_arrays())
def test_bad_arrays_are_refused(case, tmp_path):
    arrays, words = bad_arrays()[case]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=words):
        evaluate(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p0,p1,label\n0.5,0.5,0\n0.5,x,1\n", "row 1, column p1: 'x' is not a number"),
        ("p0,p1,label\n0.5,0.5,0\n0.5,0.5,1.5\n", "row 1: the label '1.5' is not a whole number"),
        ("p0,p1,label\n0.5,0.5,0\n0.5,0.5\n", r"row 1 \(line 3\) has 2 fields, the header 3"),
        ("p0,p1,label\n", "no rows"),
        ("p0,p2,label\n0.5,0.5,0\n", "column p1 is missing"),
        ("p0,p1\n0.5,0.5\n", "no column of labels"),
        ("a,b,label\n0.5,0.5,0\n", "no columns of p0, p1"),
        ("p0,p1,z0,z1,label\n0.5,0.5,1,1,0\n", "holds both"),
        ("p0,p1,label\n0.5,,0\n", "row 0, column p1: '' is not a number"),
        ("", "is empty"),
    ],
)
def test_bad_tables_are_refused(text, words, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        evaluate(tmp_path / "a.csv")


def test_other_files_are_refused(data, tmp_path):
    p, _, y = data
    with pytest.raises(UserError, match="is not a file"):
        evaluate(tmp_path / "absent.npz")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps((p, y)))
    with pytest.raises(UserError, match=r"pickles .* are never opened"):
        evaluate(tmp_path / "a.pkl")
    (tmp_path / "a.npz").write_bytes(pickle.dumps((p, y)))
    with pytest.raises(UserError, match=r"never loaded|not a whole"):
        evaluate(tmp_path / "a.npz")
    np.savez(tmp_path / "whole.npz", probabilities=p, labels=y)
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"not a whole .npz file"):
        evaluate(tmp_path / "cut.npz")
    np.save(tmp_path / "p.npy", p)
    with pytest.raises(UserError, match="give --probabilities or --logits"):
        evaluate(tmp_path / "p.npy")
    with pytest.raises(UserError, match="give the labels with --labels"):
        evaluate(tmp_path / "p.npy", "logits")
    cut = (tmp_path / "p.npy").read_bytes()[:-100]
    (tmp_path / "p.npy").write_bytes(cut)
    np.save(tmp_path / "y.npy", y)
    with pytest.raises(UserError, match="not a whole"):
        evaluate(tmp_path / "p.npy", "probabilities", labels_path=tmp_path / "y.npy")
    (tmp_path / "latin.csv").write_bytes("p0,p1,läbel\n".encode("latin-1"))
    with pytest.raises(UserError, match="not text in UTF-8"):
        evaluate(tmp_path / "latin.csv")


def test_fit_and_apply(data, tmp_path):
    p, z, y = data
    np.savez(tmp_path / "val.npz", logits=z, labels=y)
    np.savez(tmp_path / "test.npz", probabilities=p, labels=y)
    said = fit_file(tmp_path / "val.npz", tmp_path / "cal.json")
    assert "TemperatureScaling(" in said
    apply_file(tmp_path / "cal.json", tmp_path / "test.npz", tmp_path / "out.npz")
    before, after = (
        evaluate(tmp_path / "test.npz", interval=SETTINGS),
        evaluate(tmp_path / "out.npz", interval=SETTINGS),
    )
    assert after.metrics["nll"].value < before.metrics["nll"].value
    assert "Over-confident" in before.sentence
    assert "Over-confident" not in after.sentence
    assert sorted(f.name for f in tmp_path.iterdir()) == ["cal.json", "out.npz", "test.npz", "val.npz"]
    for attempt in (
        lambda: fit_file(tmp_path / "val.npz", tmp_path / "cal.json"),
        lambda: apply_file(tmp_path / "cal.json", tmp_path / "test.npz", tmp_path / "out.npz"),
    ):
        with pytest.raises(UserError, match="exists; choose another name, or replace it with --overwrite"):
            attempt()
    assert "gains" in fit_file(tmp_path / "val.npz", tmp_path / "best.json", "best")
    with pytest.raises(UserError, match="'magic' is not a calibrator"):
        fit_file(tmp_path / "val.npz", tmp_path / "x.json", "magic")
    with pytest.raises(UserError, match=r"must end in .npz"):
        apply_file(tmp_path / "cal.json", tmp_path / "test.npz", tmp_path / "out.csv")
    np.savez(tmp_path / "odd.npz", probabilities=z, labels=y)
    with pytest.raises(UserError, match=r"odd.npz: probabilities: row 0, class 1 is .*, outside \[0, 1\]"):
        fit_file(tmp_path / "odd.npz", tmp_path / "y.json")
    np.savez(tmp_path / "sure.npz", probabilities=np.eye(4)[y], labels=y)
    said = apply_file(tmp_path / "cal.json", tmp_path / "sure.npz", tmp_path / "sure-out.npz")
    assert f"{3 * len(y)} of {4 * len(y)} probabilities are 0" in said
    np.savez(tmp_path / "three.npz", logits=z[:, :3])
    with pytest.raises(UserError, match="3 classes, but this TemperatureScaling was fitted on 4"):
        apply_file(tmp_path / "cal.json", tmp_path / "three.npz", tmp_path / "o.npz")
    with pytest.raises(UserError, match="not a calibrator"):
        apply_file(tmp_path / "val.npz", tmp_path / "test.npz", tmp_path / "o.npz")


def test_binary_files(tmp_path):
    rng = np.random.default_rng(0)
    s = rng.normal(size=800)
    y = (rng.random(800) < 1 / (1 + np.exp(-s))).astype(int)
    np.savez(tmp_path / "p.npz", probabilities=1 / (1 + np.exp(-3 * s)), labels=y)
    np.savez(tmp_path / "z.npz", logits=3 * s, labels=y)
    one, two = (evaluate(tmp_path / name, interval=SETTINGS) for name in ("p.npz", "z.npz"))
    assert one.metrics["brier"].value == pytest.approx(two.metrics["brier"].value, abs=1e-12)
    fit_file(tmp_path / "p.npz", tmp_path / "cal.json")
    apply_file(tmp_path / "cal.json", tmp_path / "z.npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert out["probabilities"].shape == (800, 2)
        assert metrics.nll(out["probabilities"], y) < two.metrics["nll"].value - 0.1


def damaged(folder, kind):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(20_000, 3)), rng.integers(0, 3, 20_000)
    path = folder / f"p.{kind.split('-')[0]}"
    if path.suffix == ".npz":
        (np.savez_compressed if kind == "npz-compressed" else np.savez)(path, logits=z, labels=y)
    elif path.suffix == ".csv":
        path.write_text("label,z0,z1,z2\n" + "".join(f"{k},{a},{b},{c}\n" for k, (a, b, c) in zip(y, z, strict=True)))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"label": y} | {f"z{k}": z[:, k] for k in range(3)}), path, row_group_size=500)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = b"\xff" * 5000
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["npz", "npz-compressed", "csv", "parquet"])
def test_damage_in_the_middle_is_one_line(kind, tmp_path):
    path = damaged(tmp_path, kind)
    with pytest.raises(UserError, match=r"damaged|UTF-8|row \d+") as caught:
        evaluate(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_place_that_cannot_be_written_is_refused(data, tmp_path):
    _, z, y = data
    np.savez(tmp_path / "p.npz", logits=z, labels=y)
    with pytest.raises(UserError, match="is not a folder; create it"):
        fit_file(tmp_path / "p.npz", tmp_path / "no" / "cal.json")
    fit_file(tmp_path / "p.npz", tmp_path / "cal.json")
    with pytest.raises(UserError, match="is not a folder; create it"):
        apply_file(tmp_path / "cal.json", tmp_path / "p.npz", tmp_path / "no" / "out.npz")
