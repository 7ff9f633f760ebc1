"""Choosing, saving, loading, layers and folding."""

import json

import numpy as np
import pytest
import torch

from labelsmooth import calibrate
from labelsmooth.calibrate import METHODS, MatrixScaling, TemperatureScaling, VectorScaling, best, fold, load, save


def make(n=1500, k=4, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    return z / scale, (z + rng.gumbel(size=z.shape)).argmax(1)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("k", [2, 4])
def test_a_file_brings_back_the_same_bits(name, k, tmp_path):
    z, y = make(k=k)
    fitted = METHODS[name]().fit(z, y)
    save(fitted, tmp_path / "cal.json")
    again = load(tmp_path / "cal.json")
    assert type(again) is type(fitted)
    assert again.get_params() == fitted.get_params()
    assert (again.predict_proba(z) == fitted.predict_proba(z)).all()
    assert [p.name for p in tmp_path.iterdir()] == ["cal.json"]


def test_saving_overwrites_nothing_unasked(tmp_path):
    fitted = TemperatureScaling().fit(*make())
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
    save(TemperatureScaling().fit(*make()), path)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(ValueError, match=words):
        load(path)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("k", [2, 4])
def test_the_layer_is_the_calibrator(name, k):
    z, y = make(k=k)
    fitted = METHODS[name]().fit(z, y)
    layer = fitted.to_module()
    x = torch.from_numpy(z)
    assert torch.softmax(layer(x), 1).numpy() == pytest.approx(fitted.predict_proba(z), abs=1e-12)
    assert layer(x.float()).dtype == torch.float32
    twin = METHODS[name]().fit(*make(k=k)).to_module()
    twin.load_state_dict(layer.state_dict())
    assert not list(layer.parameters())
    with pytest.raises(ValueError, match="must have shape"):
        layer(x[0])


@pytest.mark.parametrize("calibrator", [TemperatureScaling, VectorScaling, MatrixScaling])
@pytest.mark.parametrize("bias", [False, True])
def test_folding_gives_the_calibrated_logits(calibrator, bias):
    torch.manual_seed(0)
    layer, h = torch.nn.Linear(6, 4, bias=bias), torch.randn(300, 6)
    y = torch.distributions.Categorical(logits=3 * layer(h)).sample()
    fitted = calibrator().fit(layer(h), y)
    before = layer.weight.clone()
    folded = fold(fitted, layer)
    assert torch.allclose(folded(h).softmax(1), fitted.predict_proba(layer(h)), atol=1e-6)
    assert torch.equal(layer.weight, before)
    with pytest.raises(ValueError, match="layer has 5 outputs"):
        fold(fitted, torch.nn.Linear(6, 5))


def test_only_affine_maps_fold():
    fitted = calibrate.DirichletCalibration().fit(*make())
    with pytest.raises(TypeError, match="use to_module"):
        fold(fitted, torch.nn.Linear(3, 4))


def test_best_finds_what_helps_and_refuses_what_does_not():
    z, y = make(scale=0.25, n=3000)
    found = best(z, y)
    assert found.name in ("temperature", "ensemble")
    assert found.gain[found.name] > 10 * found.standard_error[found.name]
    assert "nats" in found.reason
    test_z, test_y = make(scale=0.25, n=3000, seed=1)
    p = found.calibrator.predict_proba(test_z)
    plain = torch.nn.functional.cross_entropy(torch.from_numpy(test_z), torch.from_numpy(test_y))
    assert -np.log(p[np.arange(3000), test_y]).mean() < float(plain) - 0.1

    z, y = make(n=3000)
    calm = best(z, y)
    assert calm.name == "identity"
    assert (calm.calibrator.transform(z) == z).all()
    assert "No method is surely better" in calm.reason


def test_best_prefers_vector_scaling_where_the_classes_differ():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 3))
    y = (z + np.array([2.0, 0.0, -2.0]) + rng.gumbel(size=z.shape)).argmax(1)
    found = best(z, y, ("temperature", "vector"), sample_weight=np.ones(4000))
    assert found.name == "vector"
    assert found.nll["vector"] < found.nll["temperature"] < found.nll["identity"] + 0.01


def test_best_never_takes_a_method_that_gives_a_label_no_chance():
    z, y = make(n=60, scale=0.25)
    found = best(z, y, {"steps": calibrate.HistogramBinning(bins=30)})
    assert found.name == "identity"
    assert found.gain["steps"] == -np.inf


def test_best_checks_its_arguments():
    z, y = make(n=20)
    with pytest.raises(ValueError, match=r"\['magic'\] are unknown"):
        best(z, y, ("magic",))
    with pytest.raises(ValueError, match="folds must be"):
        best(z, y, folds=1)
    with pytest.raises(ValueError, match="candidates are empty"):
        best(z, y, ())
