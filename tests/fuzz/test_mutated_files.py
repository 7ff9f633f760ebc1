"""Files with random damage, over every reader: one line of error or a right answer, no traceback, no hang.

``make fuzz`` tries more: LABELSMOOTH_FUZZ is the number of mutated files for each reader, 50 by default.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labelsmooth import calibrate, models
from labelsmooth.data import load_dataset
from labelsmooth.data.photos import BadPhoto, pillow_quiet, read_photo
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.predictions import evaluate
from labelsmooth.study import Workers, load_study, run_study
from labelsmooth.training import make_network

TRIES = int(os.environ.get("LABELSMOOTH_FUZZ", "50"))
SECONDS = 60  # for one file; longer is a hang
SPECIAL = [
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"-1",
    b"",
    b"10" * 12,
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"[",
    b"{",
    b"\n",
    b",",
]
VALUES = [
    None,
    True,
    -1,
    0,
    1e308,
    10**30,
    "",
    "nan",
    "../x",
    "\x1b[1m",
    [],
    {},
    [[]],
    [None],
    {"key": [1.0]},
    [0.5, "x"],
]


def mutate_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, insert or repeat bytes at random, one to three times."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(damaged) + 1))
        length = int(rng.integers(1, 40))
        kind = rng.integers(5)
        if kind == 0 and at < len(damaged):
            damaged[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            damaged[at:at] = SPECIAL[rng.integers(len(SPECIAL))]
        elif kind == 3:
            damaged[at : at + length] = rng.bytes(length)
        else:
            damaged[at:at] = damaged[max(at - length, 0) : at]
    return bytes(damaged)


def mutate_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace, remove or add one value anywhere, or mutate the text."""
    if rng.random() < 0.2:
        return mutate_bytes(content, rng)
    value = json.loads(content)
    node: Any = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[rng.integers(len(keys))]
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        if rng.random() < 0.2:
            del node[key]
        else:
            node[key] = VALUES[rng.integers(len(VALUES))]
        return json.dumps(value).encode()


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Fail a test that hangs."""

    def fail(*_: object) -> None:
        pytest.fail(f"no answer within {SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def fuzz(
    path: Path, read: Callable[[Path], None], mutate: Callable[[bytes, np.random.Generator], bytes] = mutate_bytes
) -> None:
    """Read ``TRIES`` mutations of a file; ``read`` checks what is accepted."""
    content = path.read_bytes()
    read(path)  # as it is
    for seed in range(TRIES):
        path.write_bytes(mutate(content, np.random.default_rng(seed)))
        message = "accepted"
        try:
            with limited(), np.errstate(all="ignore"):
                read(path)
        except (UserError, BadPhoto) as error:
            message = str(error).strip()
        except Exception as error:
            raise AssertionError(f"mutation {seed} of {path.name}: {type(error).__name__}: {error}") from error
        assert message, f"mutation {seed}: an empty message"
        assert "\n" not in message, f"mutation {seed}: more than one line: {message}"
    path.write_bytes(content)


# --- predictions ----------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(40, 3))
LABELS = (LOGITS + RNG.gumbel(size=LOGITS.shape)).argmax(1)


def check_evaluation(path: Path, **options: Any) -> None:
    result = evaluate(path, interval=Interval(resamples=100), **options)
    for name, estimate in result.metrics.items():
        if name in ("error", "ece", "ks", "aurc"):
            assert 0 <= estimate.low <= estimate.high <= 1, name
            assert 0 <= estimate.value <= 1, name
        assert not np.isnan(estimate.value), name


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_of_predictions(suffix: str, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"label": LABELS} | {f"z{k}": LOGITS[:, k] for k in range(3)})
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    fuzz(path, check_evaluation)


def test_arrays_of_predictions(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", logits=LOGITS, labels=LABELS)
    fuzz(tmp_path / "p.npz", check_evaluation)
    np.save(tmp_path / "p.npy", LOGITS)
    np.save(tmp_path / "y.npy", LABELS)
    fuzz(tmp_path / "p.npy", lambda path: check_evaluation(path, kind="logits", labels_path=tmp_path / "y.npy"))
    fuzz(tmp_path / "y.npy", lambda path: check_evaluation(tmp_path / "p.npy", kind="logits", labels_path=path))


# --- calibrators, models, studies -----------------------------------------------------------------------------------


def check_probabilities(probabilities: Any, rows: int, classes: int) -> None:
    values = np.asarray(probabilities)
    assert values.shape == (rows, classes)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*each class is fitted on its own")
@pytest.mark.parametrize("name", ["temperature", "vector", "isotonic", "histogram", "beta"])
def test_calibrators(name: str, tmp_path: Path) -> None:
    logits, labels = np.tile(LOGITS, (8, 1)), np.tile(LABELS, 8)
    fitted = calibrate.CATALOGUE[name].make().fit(logits, labels)
    calibrate.save(fitted, tmp_path / "c.json")

    def read(path: Path) -> None:
        try:
            calibrator = calibrate.load(path)
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        if calibrator.n_classes_ != 3:
            return  # the number of classes is compared where it is applied
        check_probabilities(calibrator.predict_proba(LOGITS), 40, 3)

    fuzz(tmp_path / "c.json", read, mutate_json)


@pytest.mark.parametrize("name", ["config.json", "calibrator.json", "model.safetensors"])
def test_model_folders(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fitted = calibrate.TemperatureScaling().fit(LOGITS, LABELS)
    network = make_network("small-cnn", 3, (1, 8, 8))
    folder = tmp_path / "model"
    models.save_model(
        folder, network, backbone="small-cnn", classes=("a", "b", "c"), input=models.Input(1, 8, 8), calibrator=fitted
    )
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)

    def read(_: Path) -> None:
        model = models.load(folder, "cpu")
        if model.input.shape == (1, 8, 8) and len(model.classes) == 3:
            check_probabilities(model.probabilities(images), 2, 3)

    fuzz(folder / name, read, mutate_bytes if name == "model.safetensors" else mutate_json)


def test_study_folders(tmp_path: Path) -> None:
    run_study(data="digits", methods="label-smoothing", seeds=2, epochs=1, out=tmp_path, executor=Workers(1))

    def read(path: Path) -> None:
        loaded = load_study(path)
        assert all(isinstance(row.mean, (int, float)) for row in loaded.summary)

    fuzz(tmp_path / "study.json", read, mutate_json)


def test_weights(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    backbone = "test_resnet"
    if not timm.is_model(backbone):
        pytest.fail(f"timm {timm.__version__} has no {backbone}")
    save_file(timm.create_model(backbone, num_classes=5).state_dict(), tmp_path / "w.safetensors")
    fuzz(
        tmp_path / "w.safetensors",
        lambda path: make_network(backbone, 3, (3, 64, 64), weights=path) and None,
    )


# --- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tif"])
def test_photos(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"photo{suffix}")

    def read(path: Path) -> None:
        with pillow_quiet():
            photo = read_photo(path, 32)
        assert photo.pixels.dtype == torch.uint8
        assert photo.pixels.shape[0] == 3

    fuzz(tmp_path / f"photo{suffix}", read)


def test_arrays_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    np.savez(tmp_path / "i.npz", images=rng.integers(0, 255, (60, 8, 8), np.uint8), labels=labels)

    def read(path: Path) -> None:
        data = load_dataset(path)
        assert data.labels.min() >= 0
        assert data.labels.max() < len(data.classes)
        assert data.images[0].dtype == torch.uint8

    fuzz(tmp_path / "i.npz", read)


if sys.platform == "win32":
    pytestmark = pytest.mark.skip(reason="SIGALRM is not there")
