"""Exported models: the same probabilities in every format, for a stranger too, and nothing written that differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from labelsmooth import calibrate, models
from labelsmooth.errors import UserError
from labelsmooth.models import formats
from labelsmooth.models.export import Exported

EXAMPLE = Path(__file__).parents[2] / "examples" / "use_onnx.py"


def noise(count: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def run_onnx(path: Path, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    probabilities, logits = session.run(["probabilities", "logits"], {"images": images.numpy()})
    return probabilities, logits


@pytest.mark.parametrize("folder", ["digits_model", "photo_model"])
def test_onnx_gives_the_models_probabilities(folder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = models.load(request.getfixturevalue(folder))
    worst = models.export(model, tmp_path / "model.onnx")
    assert worst < 1e-4
    for count in (1, 2, 7):
        images = noise(count, *model.input.shape)
        probabilities, logits = run_onnx(tmp_path / "model.onnx", images)
        expected = model.probabilities(images)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        np.testing.assert_allclose(torch.softmax(torch.from_numpy(logits), 1), expected, atol=1e-5)
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]


def test_the_metadata_says_how_to_use_it(photo_model: Path, tmp_path: Path) -> None:
    model = models.load(photo_model)
    models.export(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto)
    said = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert said["classes"] == list(model.classes)
    assert said["preprocessing"]["short_side"] == 73
    assert said["preprocessing"]["center_crop"] == [64, 64]
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    ]
    assert shapes == [["N", 3, 64, 64], ["N", 4], ["N", 4]]


def test_torchscript_and_pt2_give_the_models_probabilities(digits_model: Path, tmp_path: Path) -> None:
    model = models.load(digits_model)
    models.export(model, tmp_path / "model.pt")
    models.export(model, tmp_path / "model.pt2")
    extra = {"classes": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["classes"]) == list(model.classes)
    # A process of its own, which does not know of labelsmooth and does not mind that TorchScript is old.
    script = (
        "import torch, sys; p, z = torch.jit.load(sys.argv[1])(torch.load(sys.argv[2])); torch.save(p, sys.argv[3])"
    )
    for count in (1, 5):
        images = noise(count, 1, 8, 8)
        torch.testing.assert_close(program.module()(images)[0].double(), model.probabilities(images))
        torch.save(images, tmp_path / "in.pt")
        command = [sys.executable, "-c", script, *(str(tmp_path / name) for name in ("model.pt", "in.pt", "out.pt"))]
        subprocess.run(command, check=True)
        torch.testing.assert_close(torch.load(tmp_path / "out.pt").double(), model.probabilities(images))


FITTED = {name: entry.make() for name, entry in calibrate.CATALOGUE.items()}
FITTED["top-label"] = calibrate.IsotonicCalibration("top-label")


# Two classes are a case of their own for those that ask one question a class.
@pytest.mark.parametrize(
    ("name", "classes"),
    [(name, 5) for name in FITTED] + [(name, 2) for name in ("platt", "beta", "histogram", "isotonic")],
)
@pytest.mark.filterwarnings("ignore:.*each class is fitted on its own")
def test_every_calibrator_can_be_exported(name: str, classes: int) -> None:
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(300, classes))
    calibrator = FITTED[name].fit(2 * z, (z + rng.gumbel(size=z.shape)).argmax(1))
    module = Exported(Flat(), calibrator).eval()
    pixels = torch.from_numpy(np.clip(z.reshape(-1, 1, 1, classes) * 20 + 128, 0, 255).astype(np.uint8))
    expected = calibrator.predict_proba(Flat()(pixels)).numpy()
    for write in formats.WRITERS.values():
        _, run = write(module, pixels[:2], {})
        np.testing.assert_allclose(run(pixels)[0], expected, atol=1e-5)


class Flat(torch.nn.Module):
    """Pixels as logits."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1).float() - 128) / 20 + 1e-3 * torch.arange(images.shape[-1])  # no ties


def test_a_model_that_differs_is_not_written(
    digits_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(module, example, metadata):
        content, run = formats._onnx(module, example, metadata)
        return content, lambda images: tuple(value + 2e-4 for value in run(images))

    monkeypatch.setitem(formats.WRITERS, "onnx", wrong)
    with pytest.raises(UserError, match=r"differs from the network by 0\.0002 in a probability.*was not written"):
        models.export(models.load(digits_model), tmp_path / "model.onnx")
    monkeypatch.setitem(formats.WRITERS, "onnx", lambda *_: (b"", lambda x: (np.full((len(x), 10), np.nan),) * 2))
    with pytest.raises(UserError, match="differs from the network by inf"):
        models.export(models.load(digits_model), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_an_exporter_cannot_do_is_refused(digits_model: Path, tmp_path: Path) -> None:
    model = models.load(digits_model)
    model.network.model.append(Odd())
    for name in ("onnx", "pt2"):
        with pytest.raises(UserError, match=r"cannot express this network.*Try another --format"):
            models.export(model, tmp_path / "model", name)
    assert list(tmp_path.iterdir()) == []


class Odd(torch.nn.Module):
    """Takes a path that depends on the numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_refusals(digits_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(digits_model)
    with pytest.raises(UserError, match=r"has none of the suffixes \.onnx, \.pt, \.pt2"):
        models.export(model, tmp_path / "model.bin")
    with pytest.raises(UserError, match="format 'coreml' is unknown; there are onnx, torchscript, pt2"):
        models.export(model, tmp_path / "model.bin", "coreml")
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(UserError, match="exists; choose another name, or replace it with --overwrite"):
        models.export(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "mine"
    monkeypatch.setattr("labelsmooth.extras.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnxscript: pip install 'labelsmooth\[export\]'"):
        models.export(model, tmp_path / "model.onnx", overwrite=True)


def test_a_strangers_program_gives_the_same_answer(photo_model: Path, photos: Path, tmp_path: Path) -> None:
    assert "labelsmooth" not in EXAMPLE.read_text().split('"""', 2)[2]
    model = models.load(photo_model)
    models.export(model, tmp_path / "model.onnx")
    with Image.open(photos / "cats/1.png") as image:
        image.convert("RGB").save(photos / "cats/1.jpg", quality=95)
    for name in ("cats/0.png", "dogs/3.png", "cats/1.jpg"):
        command = [sys.executable, str(EXAMPLE), str(tmp_path / "model.onnx"), str(photos / name)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        (ours,) = model.predict([photos / name])
        assert said == f"{ours.label} {ours.confidence:.1%}\n"
