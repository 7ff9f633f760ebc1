"""The table of calibrators."""

import inspect
from typing import get_args

import pytest

from labelsmooth import calibrate
from labelsmooth.calibrate import CATALOGUE, Calibrator, Name, check_name


def test_the_catalogue_has_every_calibrator_once():
    assert tuple(CATALOGUE) == get_args(Name)
    classes = [entry.make for entry in CATALOGUE.values()]
    public = {value for value in vars(calibrate).values() if inspect.isclass(value) and issubclass(value, Calibrator)}
    assert len(classes) == len(set(classes))
    assert set(classes) == public - {Calibrator}


def test_numbers_of_parameters():
    counts = {name: entry.parameters(10) for name, entry in CATALOGUE.items()}
    assert (counts["identity"], counts["temperature"], counts["vector"], counts["matrix"]) == (0, 1, 20, 110)
    assert counts["isotonic"] == float("inf")


def test_unknown_names():
    assert check_name("platt") == "platt"
    with pytest.raises(ValueError, match="'magic' is not a calibrator; choose among identity, temperature"):
        check_name("magic")
