"""``labelsmooth train``: the folder it leaves, what it refuses, and the same weights on two processes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import shards
from safetensors.torch import load_file, save_file

from labelsmooth import metrics, models
from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.errors import UserError
from labelsmooth.kernels import rows_cpu
from labelsmooth.models import TrainConfig, TrainingRecord, load_training, train
from labelsmooth.report import write_training
from labelsmooth.report.training import render_training
from labelsmooth.training import Settings
from labelsmooth.training.engine import Engine, resolve_precision

CLASSES = ("cat", "<b>bold", "=1+1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three colours, so that they can be told apart."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        (root / name).mkdir()
        for index in range(40):
            pixels = rng.integers(0, 120, (48, 40 + index % 3, 3), np.uint8)
            pixels[..., channel] += rng.integers(0, 60, dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained network, as far as the trainer can tell."""
    import labelsmooth.cpu_torchvision  # noqa: F401

    import timm

    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", pretrained=False, num_classes=7).state_dict(), path)
    return path


def photo_config(folder: Path, weights: Path, out: Path, **options) -> TrainConfig:
    options = {"epochs": 3, "size": 32, "batch_size": 8, "precision": "32", **options}
    return TrainConfig(data=str(folder), backbone="test_resnet", weights=str(weights), out=out, **options)


@pytest.fixture(scope="module")
def trained(folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingRecord]:
    out = tmp_path_factory.mktemp("trained") / "model"
    return out, train(photo_config(folder, weights, out), command="labelsmooth train <colours>")


def test_the_folder_is_a_model_that_gives_the_numbers_of_its_record(trained, folder: Path) -> None:
    out, record = trained
    assert load_training(out) == record
    model = models.load(out)
    assert model.classes == tuple(sorted(CLASSES))
    data = load_dataset(folder, 32)
    split = split_dataset(data, 0)
    paths = [folder / data.files[i] for i in split.test]
    top = list(models.predict(model, paths, top=3))
    truth = [model.classes[k] for k in data.labels[split.test]]
    wrong = np.mean([prediction.label != label for prediction, label in zip(top, truth, strict=True)])
    assert record.metrics[record.applied]["error"].value == pytest.approx(wrong)
    confidence = np.mean([prediction.confidence for prediction in top])
    gap = confidence - (1 - wrong)
    assert record.metrics[record.applied]["confidence_gap"].value == pytest.approx(gap, abs=1e-6)
    assert np.trace(record.confusion) == round((1 - wrong) * len(paths))
    assert [mistake.file for mistake in record.mistakes] == [
        data.files[i]
        for i, p, label in sorted(zip(split.test, top, truth, strict=True), key=lambda row: -row[1].confidence)
        if p.label != label
    ][:12]
    assert (out / "logs" / "metrics.csv").read_text().count("\n") == 3  # a heading and two epochs after the head's


def test_the_first_epoch_is_the_heads_alone(folder: Path, weights: Path, tmp_path: Path) -> None:
    record = train(photo_config(folder, weights, tmp_path / "head", epochs=1))
    assert {len(curve) for curve in record.history.values()} == {1}
    before, after = load_file(weights), load_file(tmp_path / "head" / "model.safetensors")
    body = [key for key in before if not key.startswith("fc.")]
    assert all(torch.equal(before[key], after[f"model.{key}"]) for key in body)
    # The colours can be told from random features; a head that was not fitted would be at 67 % error.
    assert record.metrics["as trained"]["error"].value < 0.4


def test_a_training_in_bfloat16_calls_the_kernels_of_float32_alone(
    folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kernel in ("few_bfloat_rows", "rows_gathered"):  # each would take seconds to compile
        monkeypatch.setattr(rows_cpu, kernel, None)
    record = train(photo_config(folder, weights, tmp_path / "m", epochs=2, precision="bf16"))
    assert len(record.history["train_loss"]) == 2


def test_batch_norm_keeps_the_pretrained_statistics_and_the_body_learns(trained, weights: Path) -> None:
    before, after = load_file(weights), load_file(trained[0] / "model.safetensors")
    assert torch.equal(before["bn1.running_mean"], after["model.bn1.running_mean"])
    assert not torch.equal(before["conv1.0.weight"], after["model.conv1.0.weight"])


def test_the_page_escapes_what_comes_from_outside(trained, tmp_path: Path) -> None:
    record = trained[1]
    page = render_training(record)
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page
    assert "labelsmooth train &lt;colours&gt;" in page
    assert f'<div class="big">{100 * record.metrics[record.applied]["error"].value:.1f}%</div>' in page
    assert page.count("data:image/jpeg") == len(record.mistakes)
    write_training(record, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page


def test_without_a_validation_part_there_is_no_calibrator(tiny_npz: Path, tmp_path: Path) -> None:
    record = train(data=str(tiny_npz), out=tmp_path / "m", epochs=1, validation=0.0)
    assert record.data.validation == 0
    assert record.data.train == 192  # the rest of 240
    assert not record.calibrator.applied
    assert record.history["validation_nll"] == [None]
    assert list(record.metrics) == ["as trained"]
    assert not (tmp_path / "m" / "calibrator.json").exists()


def test_the_calibrator_is_fitted_on_rows_that_did_not_choose_the_epoch(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["labelsmooth.models.train"]
    rows = []
    real = module.best
    monkeypatch.setattr(module, "best", lambda logits, labels: (rows.append(len(labels)), real(logits, labels))[1])
    for patience in (0, 2):
        settings = Settings(patience=patience)
        record = train(data=str(tiny_npz), out=tmp_path / str(patience), epochs=1, settings=settings)
    validation = record.data.validation
    assert rows[0] == validation
    assert validation // 2 - 2 <= rows[1] <= validation // 2


@pytest.mark.parametrize(
    "settings", [Settings(mixup=0.2), Settings(penalty="focal"), Settings(epsilon=0.1, smoothing="others")]
)
def test_every_kind_of_loss_trains(settings: Settings, tiny_npz: Path, tmp_path: Path) -> None:
    plain = train(data=str(tiny_npz), out=tmp_path / "plain", epochs=1, settings=Settings())
    record = train(data=str(tiny_npz), out=tmp_path / "m", epochs=1, settings=settings)
    assert record.history["train_loss"] != plain.history["train_loss"]
    assert np.isfinite(record.metrics["as trained"]["nll"].value)


def test_the_average_of_the_weights_is_what_predicts(tiny_npz: Path, tmp_path: Path) -> None:
    for name, ema in (("plain", 0.0), ("averaged", 0.9)):
        train(data=str(tiny_npz), out=tmp_path / name, epochs=2, ema=ema)
    plain, averaged = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "averaged"))
    assert plain.keys() == averaged.keys()
    assert not torch.equal(plain["model.0.weight"], averaged["model.0.weight"])


def test_the_learning_rate_is_found_once(tiny_npz: Path, tmp_path: Path) -> None:
    record = train(data=str(tiny_npz), out=tmp_path / "m", epochs=1, find_lr=True)
    assert 1e-5 < record.recipe["learning_rate"] < 1.0
    assert [path.name for path in (tmp_path / "m").rglob("*.ckpt")] == []


def test_a_rate_is_found_after_the_head_is_fitted(folder: Path, weights: Path, tmp_path: Path) -> None:
    """The loss has little left to fall then."""
    config = photo_config(folder, weights, tmp_path / "m", epochs=2)
    record = train(dataclasses.replace(config, find_lr=True, learning_rate=None))
    assert 1e-5 < record.recipe["learning_rate"] < 0.1


def test_the_rate_that_is_found_trains(tmp_path: Path) -> None:
    record = train(data="digits", out=tmp_path / "m", epochs=3, find_lr=True)
    assert record.metrics["as trained"]["error"].value < 0.2
    assert record.rate_test is not None
    assert record.rate_test.chosen == record.recipe["learning_rate"]
    assert "Range test of the learning rate" in render_training(record)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"epochs": 0}, "epochs=0 is too small; give at least 1"),
            ({"ema": 1.5}, r"ema=1.5 must lie in \[0, 1\]"),
            ({"validation": 0.95}, r"validation=0.95 must lie in \[0, 0.9\]"),
            ({"precision": "8"}, "precision '8' is unknown; give one of auto, 32, bf16, 16"),
            ({"epochs": 2.5}, "epochs=2.5 must be a whole number of at least 1"),
            ({"learning_rate": float("nan")}, r"learning_rate=nan must lie in \(0, inf\)"),
            ({"settings": Settings(patience=3), "validation": 0.0}, "patience needs a validation part"),
            ({"find_lr": True, "learning_rate": 0.1}, "find_lr needs one process, and no learning_rate"),
        ],
    )
    def test_a_config(self, options, sentence) -> None:
        with pytest.raises(UserError, match=sentence):
            TrainConfig(data="digits", **options)

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"epsilon": 1.5}, r"epsilon=1.5 must lie in \[0, 1\]"),
            ({"epsilon": 0.1, "smoothing": "negative"}, r"epsilon=0.1 must lie in \[-1, 0\]"),
            ({"dropout": -0.1}, r"dropout=-0.1 must lie in \[0, 1\]"),
            ({"mixup": -1}, "mixup=-1 must lie in"),
            ({"weight_decay": float("nan")}, "weight_decay=nan must lie in"),
            ({"strength": 2.0}, "strength=2.0 belongs to a penalty"),
            ({"smoothing": "odd"}, "no policy 'odd'; choose among uniform"),
        ],
    )
    def test_settings(self, settings, sentence) -> None:
        with pytest.raises(UserError, match=sentence):
            Settings(**settings)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"devices": 0}, "devices=0 is too small"),
            ({"loggers": ("paper",)}, "There is no logger 'paper'"),
        ],
    )
    def test_an_engine(self, options, sentence) -> None:
        with pytest.raises(UserError, match=sentence):
            Engine(**options)

    def test_half_precision_on_a_cpu(self) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is a GPU, which has it")
        with pytest.raises(UserError, match="precision 16 needs a GPU"):
            resolve_precision("16")

    def test_a_finished_model_and_a_stopped_training(self, trained, folder, weights, tmp_path: Path) -> None:
        out, _ = trained
        with pytest.raises(UserError, match="holds a model; choose another --out, or give --overwrite"):
            train(photo_config(folder, weights, out))
        (tmp_path / ".training").mkdir()
        (tmp_path / ".training" / "spec.json").write_text('{"id": "another"}')
        with pytest.raises(UserError, match=r"holds a training that was stopped\. Give --resume"):
            train(photo_config(folder, weights, tmp_path))
        with pytest.raises(UserError, match="had other options, other data or another version"):
            train(photo_config(folder, weights, tmp_path, resume=True))
        record = train(photo_config(folder, weights, tmp_path, overwrite=True, epochs=1))
        assert load_training(tmp_path) == record

    def test_a_batch_that_two_processes_cannot_share(self, tiny_npz: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="batch_size=33 cannot be divided among 2 processes"):
            train(data=str(tiny_npz), out=tmp_path, epochs=1, batch_size=33, engine=Engine(devices=2))

    def test_too_little_memory(self, tiny_npz: Path, tmp_path: Path, monkeypatch) -> None:
        def full(*_):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:126] . DefaultCPUAllocator: can't allocate memory")

        monkeypatch.setattr("labelsmooth.training.network.Network.forward", full)
        with pytest.raises(UserError, match=r"not enough memory for batches of 64 images\. Give a smaller"):
            train(data=str(tiny_npz), out=tmp_path, epochs=1)

    def test_a_full_disk_leaves_the_checkpoint_of_the_epoch_before(self, tiny_npz, tmp_path, monkeypatch) -> None:
        calls = []

        def filling(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) > 3:  # the spec and two epochs fit
                raise OSError(28, "No space left on device")

        config = TrainConfig(data=str(tiny_npz), out=tmp_path / "m", epochs=4)
        with monkeypatch.context() as patched:
            patched.setattr("labelsmooth.files.os.fsync", filling)
            with pytest.raises(UserError, match="No space left on device"):
                train(config)
        assert (tmp_path / "m" / ".training" / "last.ckpt").exists()
        resumed = train(dataclasses.replace(config, resume=True))
        calm = train(dataclasses.replace(config, out=tmp_path / "calm"))
        assert resumed.history == calm.history
        assert (tmp_path / "m" / "model.safetensors").read_bytes() == (
            tmp_path / "calm" / "model.safetensors"
        ).read_bytes()

    def test_a_damaged_checkpoint_starts_over(self, tiny_npz: Path, tmp_path: Path, monkeypatch) -> None:
        config = TrainConfig(data=str(tiny_npz), out=tmp_path / "m", epochs=2)
        with monkeypatch.context() as patched:
            patched.setattr(sys.modules["labelsmooth.models.train"], "_save", _stop)
            with pytest.raises(RuntimeError, match="stop here"):
                train(config)
        (tmp_path / "m" / ".training" / "last.ckpt").write_bytes(b"PK damaged")
        record = train(dataclasses.replace(config, resume=True))
        assert len(record.history["train_loss"]) == 2


def _stop(*_):
    raise RuntimeError("stop here")


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labelsmooth", "train", *args],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **environment},
    )


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=shards)])
def test_two_processes_end_with_the_weights_of_one(strategy: str, folder: Path, weights: Path, tmp_path: Path) -> None:
    options = ["--backbone", "test_resnet", "--weights", str(weights), "--size", "32", "--batch-size", "8"]
    options += ["--epochs", "3", "--precision", "32"]
    done = run(str(folder), *options, "--devices", "2", "--strategy", strategy, "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Use it: labelsmooth predict") == 1  # one process reports
    train(photo_config(folder, weights, tmp_path / "one"))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[key].float() - two[key].float()).abs().max()) for key in one) < 1e-4
    first, second = (load_training(tmp_path / name) for name in ("one", "two"))
    assert second.history["validation_error"] == first.history["validation_error"]
    np.testing.assert_allclose(second.history["train_nll"], first.history["train_nll"], rtol=1e-4)
    assert second.metrics["as trained"]["nll"].value == pytest.approx(
        first.metrics["as trained"]["nll"].value, rel=1e-3
    )


@shards
def test_sharded_training_goes_on_from_its_checkpoint(folder: Path, tmp_path: Path) -> None:
    """Stopped after the second of three epochs and started again, with the best epoch chosen at the end."""
    options = [str(folder), "--backbone", "test_resnet", "--weights", "none", "--size", "32", "--batch-size", "8"]
    options += ["--epochs", "3", "--patience", "3", "--precision", "32", "--devices", "2", "--strategy", "fsdp"]
    stop = textwrap.dedent("""
        import os, sys
        from labelsmooth.training.module import Classifier
        Classifier.on_train_epoch_start = lambda self: os._exit(9) if self.current_epoch == 2 else None
        from labelsmooth.cli import app
        sys.argv[0] = __file__
        app()
    """)
    (tmp_path / "stopping.py").write_text(stop)
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    assert run(*options, "--out", str(calm)).returncode == 0
    command = [sys.executable, str(tmp_path / "stopping.py"), "train", *options, "--out", str(stopped)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, capture_output=True, env=environment).returncode != 0
    assert (stopped / ".training" / "last.ckpt").exists()
    assert run(*options, "--out", str(stopped), "--resume").returncode == 0
    assert (stopped / "model.safetensors").read_bytes() == (calm / "model.safetensors").read_bytes()


def test_the_command(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    done = run(str(tiny_npz), "--epochs", "2", "--out", str(out), "--epsilon", "0.2", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    assert done.stdout.startswith(json.loads((out / "metrics.json").read_text())["sentence"])
    assert json.loads((out / "config.json").read_text())["recipe"]["settings"] == {"epsilon": 0.2}
    again = run(str(tiny_npz), "--out", str(out))
    assert again.returncode == 2
    assert "holds a model; choose another --out" in " ".join(again.stderr.split())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--smoothing", "odd"], "There is no policy 'odd'; choose among uniform"),
        (["--penalty", "odd"], "There is no penalty 'odd'; choose among"),
        (["--strength", "2"], "--strength 2.0 belongs to a penalty"),
    ],
)
def test_the_command_refuses(options: list[str], sentence: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from labelsmooth.cli import app

    done = CliRunner().invoke(app, ["train", "digits", "--out", str(tmp_path), *options])
    assert done.exit_code == 2
    assert sentence in " ".join(done.stderr.split())


def test_a_model_that_is_no_better_than_guessing_says_so_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (120, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(120) % 4)
    record = train(data=str(tmp_path / "noise.npz"), out=tmp_path / "m", epochs=1)
    error = record.metrics[record.applied]["error"].value
    assert record.sentence.startswith(
        f"Not significantly better than guessing: the error is {100 * error:.1f}%, that of always naming the most "
        "frequent class 75.0%. "
    )


def test_the_metrics_are_those_of_the_metrics_room(tiny_npz: Path, tmp_path: Path) -> None:
    record = train(data=str(tiny_npz), out=tmp_path / "m", epochs=2)
    model = models.load(tmp_path / "m")
    data = load_dataset(tiny_npz)
    test = split_dataset(data, 0).test
    images = torch.stack([data.images[int(i)] for i in test])
    probabilities = model.probabilities(images).numpy()
    recorded = {name: measured.value for name, measured in record.metrics[record.applied].items()}
    assert recorded["nll"] == pytest.approx(metrics.nll(probabilities, data.labels[test]), rel=1e-6)
    assert recorded["ece"] == pytest.approx(metrics.ece(probabilities, data.labels[test]), abs=1e-6)
