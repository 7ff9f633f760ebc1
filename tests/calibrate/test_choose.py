"""The choice among calibrators by cross-validation."""

import numpy as np
import pytest
from draws import draw, nll

from labelsmooth import calibrate
from labelsmooth.calibrate import best


def test_best_finds_what_helps_and_refuses_what_does_not():
    z, y = draw(3000, 4)
    choice = best(4 * z, y)
    assert choice.name in ("temperature", "ensemble")
    assert choice.gain[choice.name] > 10 * choice.standard_error[choice.name]
    assert "nats" in choice.reason
    test_z, test_y = draw(3000, 4, seed=1)
    assert nll(choice.calibrator.transform(4 * test_z), test_y) < nll(4 * test_z, test_y) - 0.1

    calm = best(z, y)
    assert calm.name == "identity"
    assert (calm.calibrator.transform(z) == z).all()
    assert "No calibrator is better than none by more than a standard error" in calm.reason


def test_best_prefers_vector_scaling_where_the_classes_differ():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 3))
    y = (z + np.array([2.0, 0.0, -2.0]) + rng.gumbel(size=z.shape)).argmax(1)
    choice = best(z, y, ("temperature", "vector"), sample_weight=np.ones(4000))
    assert choice.name == "vector"
    assert choice.nll["vector"] < choice.nll["temperature"] < choice.nll["identity"] + 0.01


def test_best_never_takes_a_method_that_gives_a_label_no_chance():
    class Certain(calibrate.Identity):
        @staticmethod
        def _calibrated(z, **tensors):
            return 1e4 * z

    z, y = draw(60, 4)
    choice = best(z, y, {"certain": Certain()})
    assert choice.name == "identity"
    assert choice.gain["certain"] < -100


def test_best_checks_its_arguments():
    z, y = draw(20, 4)
    with pytest.raises(ValueError, match=r"'magic' is not a calibrator; choose among identity, temperature"):
        best(z, y, ("magic",))
    with pytest.raises(ValueError, match="folds must be"):
        best(z, y, folds=1)
    with pytest.raises(ValueError, match="candidates are empty"):
        best(z, y, ())
