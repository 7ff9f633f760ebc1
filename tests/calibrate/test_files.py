"""Calibrators saved as JSON and loaded again."""

import json

import pytest
from draws import draw

from labelsmooth import calibrate
from labelsmooth.calibrate import (
    CATALOGUE,
    TemperatureScaling,
    load,
    save,
)


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
def test_a_bad_file_is_a_sentence(change, words, tmp_path):
    path = tmp_path / "cal.json"
    save(TemperatureScaling().fit(*draw(1500, 4)), path)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(ValueError, match=words):
        load(path)
