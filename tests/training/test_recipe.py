"""What a training does beside its loss: balance, soft labels, the range test, and mislabelled examples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from labelsmooth import models
from labelsmooth.calibrate import CATALOGUE
from labelsmooth.data import ArrayImages, Dataset, load_dataset, split_dataset
from labelsmooth.data.batches import training_batches
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.training import RunSpec, Settings, module
from labelsmooth.training.fit import train as train_run
from labelsmooth.training.head import confident_errors, fit_head, suspected_labels
from labelsmooth.training.module import make_criterion


def uneven(counts: tuple[int, ...]) -> Dataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = ArrayImages(np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8))
    return Dataset("uneven", tuple(map(str, range(len(counts)))), images, labels, "f")


def spec(**settings: object) -> RunSpec:
    return RunSpec("f", 0, None, "small-cnn", "none", 0, 2, 8, 0.003, Settings(**settings), 0)


class TestBalance:
    def test_sampling_draws_each_class_equally_often_and_anew_in_each_epoch(self) -> None:
        data = uneven((180, 18, 2))
        batches = training_batches(data, np.arange(200), None, 8, 0, balanced=True)
        epochs = [torch.cat([labels for _, labels in batches]) for _ in range(30)]
        shares = torch.cat(epochs).bincount() / torch.cat(epochs).numel()
        torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.03, rtol=0.0)
        assert not torch.equal(epochs[0], epochs[1])

    def test_weights_give_each_class_the_same_sum(self) -> None:
        labels = torch.tensor([0] * 18 + [1] * 2)
        criterion = make_criterion(spec(balance="weights", epsilon=0.1), 2, labels)
        logits = torch.zeros(20, 2, requires_grad=True)
        criterion(logits, labels).backward()
        torch.testing.assert_close(logits.grad.abs().sum(1)[labels == 0].sum(), logits.grad.abs().sum(1)[18:].sum())

    def test_both_make_rare_classes_more_probable_than_they_are(self) -> None:
        rng = np.random.default_rng(0)
        labels = torch.from_numpy((rng.random(4000) < 0.1).astype(np.int64))
        features = torch.from_numpy(rng.normal(labels[:, None].numpy(), 1.0, (4000, 2))).float()
        head = nn.Linear(2, 2)
        for balance, share in (("none", 0.1), ("weights", None)):
            fit_head(head, features, labels, make_criterion(spec(balance=balance), 2, labels))
            mean = float(head(features).softmax(-1)[:, 1].mean().detach())
            assert (abs(mean - share) < 0.02) if share else (mean > 0.25)

    def test_a_calibrator_with_a_parameter_for_each_class_moves_the_probabilities_back(self) -> None:
        rng = np.random.default_rng(0)
        labels = torch.from_numpy((rng.random(8000) < 0.1).astype(np.int64))
        features = torch.from_numpy(rng.normal(labels[:, None].numpy(), 1.0, (8000, 2))).float()
        head = nn.Linear(2, 2)
        fit_head(head, features[:4000], labels[:4000], make_criterion(spec(balance="weights"), 2, labels))
        with torch.no_grad():
            logits = head(features[4000:]).double().numpy()
        mean = {
            name: CATALOGUE[name].make().fit(logits, labels[4000:].numpy()).predict_proba(logits)[:, 1].mean()
            for name in ("svs", "temperature")
        }
        assert abs(mean["svs"] - 0.1) < 0.01
        assert mean["temperature"] > 0.2

    def test_what_is_refused(self) -> None:
        with pytest.raises(UserError, match="balance='weights' is not for the penalty margin"):
            Settings(balance="weights", penalty="margin")
        with pytest.raises(UserError, match="balance='x' is unknown; choose among none, weights, sampling"):
            Settings(balance="x")

    def test_the_record_says_what_was_done(self, tiny_npz: Path, tmp_path: Path) -> None:
        record = models.train(data=tiny_npz, epochs=1, out=tmp_path / "m", settings=Settings(balance="sampling"))
        assert record.recipe["settings"] == {"balance": "sampling"}
        assert record.data.notes[0].startswith("The classes were balanced in training")

    def test_the_names_of_older_runs_are_unchanged(self) -> None:
        assert "balance" not in spec().settings.changes()


class TestSoftLabels:
    def write(self, path: Path, tiny_npz: Path, **arrays: np.ndarray) -> Path:
        with np.load(tiny_npz) as file:
            labels = np.full((len(file["labels"]), 3), 0.1) + 0.7 * np.eye(3)[file["labels"]]
            np.savez(path, **{"images": file["images"], "labels": labels, "classes": file["classes"], **arrays})
        return path

    def test_they_are_trained_on(self, tiny_npz: Path, tmp_path: Path) -> None:
        path = self.write(tmp_path / "soft.npz", tiny_npz)
        data = load_dataset(path)
        assert data.targets.shape == (240, 3)
        np.testing.assert_array_equal(data.labels, load_dataset(tiny_npz).labels)
        assert data.fingerprint != load_dataset(tiny_npz).fingerprint
        _, targets = next(iter(training_batches(data, split_dataset(data).train, None, 8, 0)))
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        settings = Settings(mixup=0.2)
        record = models.train(data=path, epochs=8, out=tmp_path / "m", settings=settings)
        metrics = record.metrics["as trained"]
        assert metrics["error"].value < 0.1
        assert (
            metrics["confidence_gap"].value < -0.1
        )  # as confident as the labels are, which is less than they are right

    @pytest.mark.parametrize(
        ("arrays", "sentence"),
        [
            ({"labels": np.full((240, 3), 0.5)}, "row 0 is .*: give numbers of at least 0 that sum to 1"),
            ({"labels": np.full((240, 2), 0.5)}, "labels has 2 columns, and classes 3 names"),
        ],
    )
    def test_what_is_refused(self, arrays, sentence: str, tiny_npz: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=sentence):
            load_dataset(self.write(tmp_path / "soft.npz", tiny_npz, **arrays))

    def test_a_loss_that_needs_labels_says_so(self, tiny_npz: Path, tmp_path: Path) -> None:
        path = self.write(tmp_path / "soft.npz", tiny_npz)
        with pytest.raises(UserError, match=r"labels of the data are probabilities, which this loss does not take"):
            models.train(data=path, epochs=1, out=tmp_path / "m", settings=Settings(penalty="label-relaxation"))


class TestMislabelled:
    def test_as_cleanlab_finds_them(self) -> None:
        from cleanlab.filter import find_label_issues

        rng = np.random.default_rng(0)
        labels = rng.integers(0, 4, 400)
        logits = 2.0 * np.eye(4)[labels] + rng.normal(size=(400, 4))
        given = np.where(rng.random(400) < 0.1, rng.integers(0, 4, 400), labels)
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = find_label_issues(
            given, probabilities, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
        )
        suspects = confident_errors(torch.from_numpy(probabilities), torch.from_numpy(given))
        assert len(expected) > 20
        assert [suspect.row for suspect in suspects] == expected.tolist()

    def test_swapped_labels_are_found_from_features(self) -> None:
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(3), 40)
        features = rng.normal(size=(120, 8)) + 5 * np.eye(3, 8)[labels]
        labels[[5, 50, 100]] = [1, 2, 0]
        suspects = suspected_labels(torch.from_numpy(features).float(), torch.from_numpy(labels), 3)
        assert [(suspect.row, suspect.guess) for suspect in suspects] == [(50, 1), (100, 2)]  # 5 is below the threshold


@pytest.mark.parametrize(("precision", "patience", "passes"), [("32", 0, 2), ("bf16", 0, 3), ("32", 5, 3)])
def test_the_last_validation_pass_is_not_repeated_in_float32(
    precision: str, patience: int, passes: int, tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_dataset(str(tiny_npz))
    split = split_dataset(data, 0)
    evaluated: list[np.ndarray] = []
    real = module.logits_of
    monkeypatch.setattr(module, "logits_of", lambda *a, **k: (evaluated.append(a[2]), real(*a, **k))[1])
    recipe = dataclasses.replace(spec(patience=patience), precision=precision)
    result = train_run(recipe, data, split, "none", tmp_path, Progress())
    assert sum(np.isin(members, split.validation).all() for members in evaluated) == passes
    anew = real(result.network, data, split.validation, result.crop, 128)
    torch.testing.assert_close(torch.from_numpy(result.logits["validation"]), anew)
    assert result.features["validation"].shape == (len(split.validation), 128)
