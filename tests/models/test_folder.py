"""A model's folder: what is saved comes back, and damage of every kind raises UserError."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import labelsmooth as ls
from labelsmooth import models
from labelsmooth.calibrate import TemperatureScaling
from labelsmooth.errors import UserError
from labelsmooth.models.folder import check_backbone
from labelsmooth.training import make_network


@pytest.fixture
def damaged(digits_model: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(digits_model, tmp_path / "model"))


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_saved_comes_back(photo_model: Path, photo_network: torch.nn.Module) -> None:
    model = models.load(photo_model)
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = photo_network(images)
    torch.testing.assert_close(model.logits(images), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.probabilities(images), torch.softmax(expected.double(), 1), rtol=1e-4, atol=1e-5)
    assert model.classes[1] == "=Bengal"
    assert model.config["recipe"] == {"epochs": 0}
    assert model.config["versions"]["torch"]
    assert not model.network.training


def test_the_calibrator_is_applied_where_the_config_says_so(damaged: Path) -> None:
    calibrated = models.load(damaged)
    assert isinstance(calibrated.calibrator, TemperatureScaling)
    change(damaged, calibrate=False)
    raw = models.load(damaged)
    assert raw.calibrator is None
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(raw.logits(images).double() / calibrated.calibrator.temperature_, 1)
    torch.testing.assert_close(calibrated.probabilities(images), expected)
    assert models.load(damaged, calibrated=False).calibrator is None


def test_a_compiled_network_and_a_state_dict_save_the_same(photo_network: torch.nn.Module, tmp_path: Path) -> None:
    state = {f"model._orig_mod.{key[6:]}" if key[:6] == "model." else key: v for key, v in _strided(photo_network)}
    options = dict(backbone="test_resnet", classes=list("abcd"), input=models.Input.photo(64))
    models.save_model(tmp_path / "one", photo_network, **options)
    models.save_model(tmp_path / "two", state, **options)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def _strided(network: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(k, v.to(memory_format=torch.channels_last) if v.ndim == 4 else v) for k, v in network.state_dict().items()]


def test_loading_leaves_the_random_numbers_as_they_were(photo_model: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    models.load(photo_model)
    assert torch.equal(torch.rand(2), expected)


def test_saving_again_without_a_calibrator_removes_the_old_one(damaged: Path, photo_network: torch.nn.Module) -> None:
    models.save_model(
        damaged, photo_network, backbone="test_resnet", classes=list("abcd"), input=models.Input.photo(64)
    )
    assert not (damaged / "calibrator.json").exists()
    assert models.load(damaged).classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"format": 2}, "reads format 1: update labelsmooth"),
        ({"format": "x"}, "not the folder of a trained model"),
        ({"classes": ["a"]}, "'classes' must be a list of 2 names or more"),
        ({"classes": ["a", "a", *"bcdefghi"]}, "'classes' has a name twice"),
        ({"classes": list("abc")}, "does not fit small-cnn with the classes and images of config.json.*has shape"),
        ({"classes": None}, "'classes' is None"),
        ({"input": {"channels": 1, "height": 8, "width": 8}}, "'input' must have channels, height, width and size"),
        ({"input": {"channels": 1, "height": 0, "width": 8, "size": None}}, "'input' has height 0"),
        ({"input": {"channels": 1, "height": 8, "width": True, "size": None}}, "'input' has width True"),
        ({"input": {"channels": 1, "height": 8, "width": 8, "size": 8}}, "channels must be 3"),
        ({"classes": [*"abcdefghi", "\ud800"]}, "which is not text"),
        ({"classes": [*"abcdefghi", ""]}, "which is not text"),
        ({"data": {"fractions": [0.5, "half", 0.1]}}, "fractions .* must be three shares that sum to 1"),
        ({"data": {"fractions": [-1, 1, 1]}}, "fractions .* must be three shares that sum to 1"),
        ({"data": {"split_seed": -1}}, "split_seed -1; it must be a whole number"),
        ({"data": {"split_seed": 1.5}}, "split_seed 1.5; it must be a whole number"),
        ({"data": {"limits": [1, 2]}}, "limits .* must be three whole numbers"),
        ({"data": {"fingerprint": 7}}, "fingerprint that is not text"),
        ({"calibrated": "yes"}, "'calibrated' must be an object"),
        ({"input": {"channels": 1, "height": 8192, "width": 8192, "size": None}}, "does not fit small-cnn"),
        ({"input": {"channels": 1, "height": 28, "width": 28, "size": None}}, "does not fit small-cnn"),
        ({"backbone": "resnet18"}, "does not fit resnet18.*missing"),
        ({"backbone": "no-such"}, "'no-such' is neither small-cnn nor a model of timm"),
        ({"backbone": "hf-hub:timm/resnet18"}, "is neither small-cnn nor a model of timm"),
        ({"backbone": "local-dir:/tmp"}, "is neither small-cnn nor a model of timm"),
        ({"calibrate": "yes"}, "'calibrate' is 'yes'"),
        ({"weights_sha256": "0" * 64}, "is not the file that config.json was written for"),
    ],
)
def test_a_config_that_cannot_be_right_is_refused(damaged: Path, values: dict[str, object], sentence: str) -> None:
    change(damaged, **values)
    with pytest.raises(UserError, match=sentence):
        models.load(damaged)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "calibrator.json"])
@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "flipped", "pickle"])
def test_a_damaged_or_missing_file_is_refused(damaged: Path, name: str, fault: str) -> None:
    path = damaged / name
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "pickle":
        path.write_bytes(pickle.dumps(Bomb(str(damaged / "exploded"))))
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 255]) + content[half + 1 :]
        path.write_bytes({"empty": b"", "truncated": content[:half], "flipped": flipped}[fault])
    with pytest.raises(UserError, match=name):
        models.load(damaged)
    assert not (damaged / "exploded").exists()


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def test_weights_that_are_not_finite_are_refused(photo_network: torch.nn.Module, tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in photo_network.state_dict().items()}
    state["model.fc.weight"][0, 0] = float("nan")
    models.save_model(tmp_path, state, backbone="test_resnet", classes=list("abcd"), input=models.Input.photo(64))
    with pytest.raises(UserError, match=r"model\.fc\.weight holds numbers that are not finite"):
        models.load(tmp_path)


def test_a_calibrator_for_other_classes_is_refused(damaged: Path) -> None:
    from labelsmooth.calibrate import Identity, save

    fitted = Identity().fit(3 * torch.eye(3), torch.arange(3))
    save(fitted, damaged / "calibrator.json", overwrite=True)
    with pytest.raises(UserError, match="is for 3 classes, the model has 10"):
        models.load(damaged)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"is not a model's folder: it has no config\.json"):
            models.load(path)


def test_a_backbone_that_could_not_be_loaded_again_is_not_saved(photo_network: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is neither small-cnn nor a model of timm"):
        models.save_model(
            tmp_path / "x", photo_network, backbone="hf-hub:a/b", classes=list("abcd"), input=models.Input.photo(64)
        )
    assert not (tmp_path / "x").exists()


def test_a_mistyped_backbone_is_answered_with_close_names() -> None:
    with pytest.raises(UserError, match=r"'resnt34' is neither .*; did you mean resnet34, "):
        check_backbone("resnt34")
    with pytest.raises(UserError, match=r"did you mean small-cnn"):
        check_backbone("small_cnn")
    with pytest.raises(UserError, match=r"'zzz' is neither .*; timm\.list_models\(\) returns their names\."):
        check_backbone("zzz")


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 8, 8), torch.zeros((1, 8, 8), dtype=torch.uint8), torch.zeros((1, 3, 8, 8), dtype=torch.uint8)],
)
def test_images_of_another_kind_are_refused(digits_model: Path, images: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"takes torch\.uint8 of shape \(N, 1, 8, 8\)"):
        models.load(digits_model).probabilities(images)


def test_a_device_that_is_not_there(digits_model: Path) -> None:
    with pytest.raises(UserError, match="device 'nonsense' cannot be used"):
        models.load(digits_model, "nonsense")


def test_it_is_there_on_first_use_and_light() -> None:
    assert ls.models is models
    program = (
        "import sys; from labelsmooth import models; heavy = ['torchvision', 'timm', 'lightning', 'sklearn', 'onnx']; "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("device", ["meta", "tpu", "cuda:99"])
def test_a_device_that_cannot_be_used(digits_model: Path, device: str) -> None:
    with pytest.raises(UserError, match=rf"device '{device}' cannot be used .*give auto, cpu or cuda"):
        models.load(digits_model, device)


def test_weights_in_float8_are_read_as_numbers(tmp_path: Path) -> None:

    from safetensors.torch import load_file, save_file

    network = make_network("small-cnn", 3, (1, 8, 8))
    models.save_model(tmp_path, network, backbone="small-cnn", classes=("a", "b", "c"), input=models.Input(1, 8, 8))
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    save_file({key: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v for key, v in state.items()}, weights)
    config = json.loads((tmp_path / "config.json").read_text())
    config["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps(config))
    probabilities = models.load(tmp_path, "cpu").probabilities(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, dtype=torch.float64))
