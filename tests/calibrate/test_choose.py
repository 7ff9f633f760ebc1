"""The choice among calibrators by cross-validation."""

import warnings

import numpy as np
import pytest
from draws import draw, draw_unequal, nll
from scipy.special import softmax

from labelsmooth import calibrate
from labelsmooth.calibrate import CANDIDATES, CATALOGUE, TemperatureScaling, best


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


def sure(rng, n, k=10, scale=75.0):
    """A calibrated model with an error of about 1.5%: logits, and labels drawn from their softmax."""
    z = scale * rng.normal(size=(n, k))
    return z, (z + rng.gumbel(size=z.shape)).argmax(1)


@pytest.mark.parametrize("rows", [50, 100])
@pytest.mark.filterwarnings("ignore:No row is misclassified")
def test_no_calibrated_model_gets_worse_with_few_rows(rows):
    rng = np.random.default_rng(rows)
    test_z, test_y = sure(rng, 10_000)
    assert 0.005 < (test_z.argmax(1) != test_y).mean() < 0.05
    faultless, by_best, by_temperature, by_likelihood = 0, [], [], []
    for _ in range(40):
        z, y = sure(rng, rows)
        faultless += (z.argmax(1) == y).all()
        by_best.append(nll(best(z, y).calibrator.transform(test_z), test_y) - nll(test_z, test_y))
        by_temperature.append(nll(TemperatureScaling().fit(z, y).transform(test_z), test_y) - nll(test_z, test_y))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = TemperatureScaling(prior=0).fit(z, y)
        by_likelihood.append(nll(fitted.transform(test_z), test_y) - nll(test_z, test_y))
    assert faultless > 2  # else the draws try nothing
    assert max(by_best) < 0.02
    assert max(by_temperature) < 0.03
    assert max(by_likelihood) > 5  # what the prior prevents


def test_best_says_what_is_missing():
    rng = np.random.default_rng(0)
    z, y = sure(rng, 60)
    few = best(z, y)
    assert few.name == "identity"
    assert list(few.nll) == ["identity"]
    assert set(few.left_out) == set(CANDIDATES)
    assert "of 60 rows are misclassified and the model's confidence expects" in few.reason
    assert "at least 5 are needed" in few.reason
    assert "12 rows; a calibrator needs at least 20" in best(*draw(12, 4)).reason
    z, y = draw(300, 4)
    choice = best(4 * z, y)
    assert choice.name == "temperature"
    assert choice.left_out == {}
    z, y = draw(120, 6)
    assert "each class is fitted on its own" in best(4 * z, y).left_out["platt"]
    assert "at least 43 are needed" in best(z[:60], y[:60], ["sms"]).left_out["sms"]


def test_best_counts_the_errors_that_the_model_expects():
    """An under-confident model with hardly an error says much by its low confidence."""
    rng = np.random.default_rng(1)
    z, y = sure(rng, 200)
    choice = best(0.02 * z, y)
    assert (z.argmax(1) != y).sum() < 5
    assert choice.name == "temperature"
    assert choice.calibrator.temperature_ < 0.5


def test_a_temperature_is_taken_where_its_likelihood_ratio_is_significant():
    z, y = draw(60, 4, seed=3)
    choice = best(2.2 * z, y, ["temperature"])
    assert choice.name == "temperature"


def test_a_fit_at_a_bound_counts_as_no_gain():
    z, y = draw(400, 4)
    choice = best(10 * z, y, {"bounded": TemperatureScaling(bounds=(0.9, 1.5))})
    assert choice.name == "identity"
    assert choice.gain["bounded"] == 0.0


def test_best_takes_structured_scaling_where_the_classes_differ():
    z, y = draw_unequal(n=3000)
    choice = best(2 * z, y)
    assert CATALOGUE[choice.name].parameters(3) > 1
    assert choice.gain["svs"] > choice.gain["temperature"]
    again = best(probabilities=softmax(2 * z, axis=1), labels=y)
    assert again.name == choice.name
    assert again.nll == pytest.approx(choice.nll, abs=1e-5)
    assert repr(choice).startswith(f"Choice('{choice.name}', gain=0.")
    with pytest.raises(ValueError, match="repeats must be"):
        best(z, y, repeats=0)


def test_a_temperature_that_chance_favours_is_held_back_and_one_beyond_doubt_is_not():
    """The 33rd of 60 samples of a calibrated model: T = 1.42 by itself, at a likelihood ratio of the 5% level."""
    rng = np.random.default_rng(33)
    z = 4 * rng.normal(size=(50, 6))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    choice = best(z, y)
    assert choice.name == "temperature"
    assert TemperatureScaling().fit(z, y).temperature_ > 1.4
    assert choice.calibrator.temperature_ < 1.3
    far = best(4 * z, y).calibrator
    assert far.temperature_ == TemperatureScaling().fit(4 * z, y).temperature_
