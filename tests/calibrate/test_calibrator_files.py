"""Calibrators saved as JSON and loaded again."""

import json
import math

import pytest
from draws import draw

from labelsmooth import calibrate
from labelsmooth.calibrate import (
    CATALOGUE,
    TemperatureScaling,
    load,
    save,
)
from labelsmooth.errors import UserError


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("k", [2, 4])
def test_a_file_brings_back_the_same_bits(name, k, tmp_path):
    z, y = draw(1500, k)
    fitted = CATALOGUE[name].make().fit(z, y)
    save(fitted, tmp_path / "cal.json")
    again = load(tmp_path / "cal.json")
    assert type(again) is type(fitted)
    assert again.get_params() == fitted.get_params()
    assert (again.predict_proba(z) == fitted.predict_proba(z)).all()
    assert [p.name for p in tmp_path.iterdir()] == ["cal.json"]


def test_saving_overwrites_nothing_unasked(tmp_path):
    fitted = TemperatureScaling().fit(*draw(1500, 4))
    save(fitted, tmp_path / "cal.json")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save(fitted, tmp_path / "cal.json")
    save(fitted, tmp_path / "cal.json", overwrite=True)
    with pytest.raises(calibrate.NotFittedError):
        save(TemperatureScaling(), tmp_path / "other.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: "not json", "not JSON"),
        (lambda r: json.dumps([1]), "its format is not"),
        (lambda r: json.dumps(r | {"version": 2}), "version 2"),
        (lambda r: json.dumps(r | {"calibrator": "Magic"}), "'Magic'"),
        (lambda r: json.dumps({k: v for k, v in r.items() if k != "learnt"}), "damaged"),
        (lambda r: json.dumps(r | {"learnt": {}}), "damaged"),
        (lambda r: json.dumps(r | {"parameters": {"nothing": 1}}), "damaged"),
    ],
)
def test_a_bad_file_is_refused(change, words, tmp_path):
    path = tmp_path / "cal.json"
    save(TemperatureScaling().fit(*draw(1500, 4)), path)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(ValueError, match=words):
        load(path)


NEVER = [
    *(("temperature", {"temperature_": value}) for value in (0.0, -1.0, math.nan, math.inf, "1", None, [1.0], {})),
    *(("temperature", {"n_classes_": value}) for value in (0, 1, -3, 10**9, 4.0, True, "4", None)),
    ("ensemble", {"weights_": [0.5, 0.6, 0.1]}),
    ("ensemble", {"weights_": [-0.5, 1.4, 0.1]}),
    ("platt", {"slope_": [1.0]}),
    ("platt", {"slope_": [1.0, 2.0, 3.0, math.nan]}),
    ("beta", {"coefficients_": [[1.0, 1.0]] * 4}),
    ("vector", {"scale_": [[1.0]] * 4}),
    ("vector", {"intercept_": ["a", "b", "c", "d"]}),
    ("matrix", {"matrix_": [1.0] * 16}),
    ("svs", {"uniform_": 1.0}),
    ("svs", {"uniform_": 0.0}),
    ("isotonic", {"knots_": []}),
    ("isotonic", {"knots_": [[[], []]] * 4}),
    ("isotonic", {"knots_": [[[0.5, 0.4], [0.1, 0.2]]] * 4}),
    ("isotonic", {"knots_": [[[0.4, 0.5], [0.1, 1.2]]] * 4}),
    ("histogram", {"values_": [[0.1]] * 4}),
    ("histogram", {"edges_": [[math.nan]] * 4}),
]


@pytest.mark.filterwarnings("ignore:.*each class is fitted on its own")
@pytest.mark.parametrize(("name", "change"), NEVER)
def test_values_that_no_fit_gives_are_refused(name, change, tmp_path):
    path = tmp_path / "cal.json"
    save(CATALOGUE[name].make().fit(*draw(1500, 4)), path)
    record = json.loads(path.read_text())
    record["learnt"] |= change
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="is a damaged"):
        load(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "null", "", "\xff", '{"format": "labelsmooth.calibrator"}'])
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "cal.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"is not a calibrator|has version None"):
        load(path)
