"""A study from config to record: what it holds, that it repeats itself exactly, and that nothing finished is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

from labelsmooth import metrics
from labelsmooth.calibrate import best
from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.data.split import stopping_half
from labelsmooth.progress import Progress
from labelsmooth.study import StudyConfig, StudyRecord, load_study, run_study
from labelsmooth.study.config import StudyOptions
from labelsmooth.study.ece import calibration_error
from labelsmooth.study.evaluate import calibration_rows
from labelsmooth.study.methods import CALIBRATORS, METHODS
from labelsmooth.study.records import METRICS
from labelsmooth.training.spec import Settings

FIT_METRICS = {"nll_gap", "largest_logit", "logit_gap"}


def test_the_record_is_complete(tiny_study: StudyRecord, tiny_folder: Path) -> None:
    rows = {(row.method, row.calibrator, row.metric) for row in tiny_study.summary}
    for method in TINY["methods"]:
        for calibrator in tiny_study.config.calibrators:
            expected = set(METRICS) if calibrator == "none" else set(METRICS) - FIT_METRICS
            assert {metric for m, c, metric in rows if (m, c) == (method, calibrator)} == expected
    assert all(row.seeds == 2 and row.low <= row.mean <= row.high for row in tiny_study.summary)
    assert len(tiny_study.runs) == 6
    assert all(len(run.history["train_nll"]) == run.epochs == 2 for run in tiny_study.runs)
    assert tiny_study.verdict[0] == tiny_study.recommendation.text
    assert tiny_study.recommendation.method == "plain", "with two seeds nothing is known against it"
    left_out = [name for name in CALIBRATORS if name not in tiny_study.config.calibrators]
    assert left_out == ["platt", "isotonic"], "half of the validation part has too few examples of each class"
    note = tiny_study.details[-1]
    assert note.startswith("Calibrators left out: platt and isotonic; each class is fitted on its own"), note
    assert "Scaling" not in "".join(tiny_study.details), "the command line has no classes of Python"
    assert tiny_study.versions["torch"]
    assert tiny_study.versions["threads"] == "1"
    assert tiny_study.command == "labelsmooth study <tiny>"
    assert tiny_study.data.classes == ["zero", "<script>", "t&wo"]
    assert load_study(tiny_folder) == tiny_study


def test_a_record_has_a_short_repr(tiny_study: StudyRecord) -> None:
    assert repr(tiny_study) == "StudyRecord(tiny: plain, label-smoothing, early-stopping; 2 seeds, 6 runs)"


def test_options_are_the_fields_of_the_config() -> None:
    assert list(StudyOptions.__annotations__) == [field.name for field in dataclasses.fields(StudyConfig)]


@pytest.mark.parametrize("methods", ["label-smoothing, mixup", ("plain", "label-smoothing", "mixup")])
def test_methods_are_a_sequence_or_a_string(methods: str | tuple[str, ...]) -> None:
    assert StudyConfig(methods=methods).method_names == ("plain", "label-smoothing", "mixup")


def test_paths_may_be_strings(tiny_study: StudyRecord, tiny_npz: Path, tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder / "runs", tmp_path / "runs")
    study = run_study(data=tiny_npz, out=str(tmp_path), data_dir=str(tmp_path), **TINY)
    assert study.summary == tiny_study.summary
    assert load_study(str(tmp_path)) == study


def test_the_means_are_the_metrics_of_the_kept_logits(
    tiny_study: StudyRecord, tiny_folder: Path, tiny_npz: Path
) -> None:
    data = load_dataset(tiny_npz)
    labels = data.labels[split_dataset(data, 0).test]
    for run in tiny_study.runs:
        with np.load(tiny_folder / "runs" / run.id / "logits.npz") as file:
            logits = file["test"].astype(np.float64)
        mine = run.metrics["none"]
        assert mine["error"] == pytest.approx(metrics.error(logits=logits, labels=labels))
        assert mine["nll"] == pytest.approx(metrics.nll(logits=logits, labels=labels))
        assert mine["brier"] == pytest.approx(metrics.brier(logits=logits, labels=labels))
        assert mine["ece_equal_width"] == pytest.approx(
            metrics.ece(logits=logits, labels=labels, binning="equal-width")
        )
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        expected = calibration_error(shifted / shifted.sum(1, keepdims=True), labels)
        assert mine["ece"] == pytest.approx(expected.debiased)
        assert mine["aurc"] == pytest.approx(metrics.aurc(logits=logits, labels=labels))
        assert mine["confidence_gap"] == pytest.approx(metrics.confidence_gap(logits=logits, labels=labels))
        assert mine["largest_logit"] == pytest.approx(logits.max(1).mean())
    plain = [run.metrics["none"]["error"] for run in tiny_study.runs if run.method == "plain"]
    assert tiny_study.number("plain", "error").mean == pytest.approx(np.mean(plain))


def test_methods_of_a_seed_start_from_the_same_weights_and_batches(tiny_study: StudyRecord) -> None:
    first = {(run.method, run.seed): run.history["train_nll"][0] for run in tiny_study.runs}
    # Early stopping is plain training until it stops, so with the same start and batches its first epoch is the same.
    assert first["early-stopping", 0] == first["plain", 0] != first["plain", 1]


class CountRuns(Progress):
    def __init__(self) -> None:
        self.runs: list[str] = []

    def run(self, title: str, seed: int, worker: int = 0, epochs: int = 1) -> None:
        self.runs.append(f"{title} {seed}")


def test_a_finished_run_is_never_repeated(
    tiny_study: StudyRecord, tiny_npz: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder / "runs", tmp_path / "runs")
    counted = CountRuns()
    again = run_study(StudyConfig(data=str(tiny_npz), out=tmp_path, **TINY), counted)
    assert counted.runs == []
    assert (again.summary, again.comparisons, again.verdict) == (
        tiny_study.summary,
        tiny_study.comparisons,
        tiny_study.verdict,
    )
    more = run_study(StudyConfig(data=str(tiny_npz), out=tmp_path, **{**TINY, "seeds": 3}), counted)
    assert counted.runs == ["Plain cross-entropy 2", "Label smoothing 2", "Early stopping 2"]
    assert more.number("plain", "error").seeds == 3


def test_a_damaged_run_is_trained_again_to_the_same_numbers(
    tiny_study: StudyRecord, tiny_npz: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder / "runs", tmp_path / "runs")
    damaged = tmp_path / "runs" / tiny_study.runs[0].id / "logits.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    (tmp_path / "runs" / tiny_study.runs[1].id / "run.json").write_text("{")
    counted = CountRuns()
    again = run_study(StudyConfig(data=str(tiny_npz), out=tmp_path, **TINY), counted)
    assert len(counted.runs) == 2
    assert again.summary == tiny_study.summary


def test_tuning_spends_the_same_on_each_method(tiny_npz: Path, tmp_path: Path) -> None:
    counted = CountRuns()
    config = StudyConfig(data=str(tiny_npz), out=tmp_path, **{**TINY, "epochs": 1, "seeds": 1, "tune": True})
    study = run_study(config, counted)
    tuning = [name.split(" (tuning)")[0] for name in counted.runs if "(tuning)" in name]
    assert {name: tuning.count(name) for name in tuning} == {"Label smoothing": 3, "Early stopping": 3}
    chosen = next(m.settings["epsilon"] for m in study.methods if m.name == "label-smoothing")
    data = load_dataset(tiny_npz)
    labels = data.labels[split_dataset(data, 0).validation]
    scores = {}
    for path in (tmp_path / "runs").iterdir():
        run = json.loads((path / "run.json").read_text())
        if run["spec"]["seed"] == 1_000_003 and run["spec"]["settings"]["epsilon"]:
            with np.load(path / "logits.npz") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                score = best(file["validation"].astype(np.float64), labels, ("temperature",)).nll["temperature"]
            scores[run["spec"]["settings"]["epsilon"]] = score
    assert len(scores) == 3
    assert chosen == min(scores, key=scores.__getitem__)


def test_early_stopping_and_calibrators_share_no_validation_example() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 101)
    stopping = stopping_half(labels)
    kept = calibration_rows(labels, Settings(patience=3))
    assert (stopping ^ kept).all()
    assert abs(np.bincount(labels[stopping]) - np.bincount(labels[kept])).max() <= 1
    assert calibration_rows(labels, Settings()).all()


def test_the_epoch_is_chosen_by_half_of_the_validation_part(tiny_study: StudyRecord, tiny_npz: Path) -> None:
    first = {(run.method, run.seed): run.history["validation_nll"][0] for run in tiny_study.runs}
    assert first["early-stopping", 0] != first["plain", 0], "the same weights, measured on other rows"


def test_seeds_spread_over_splits(tiny_npz: Path, tmp_path: Path) -> None:
    options = dict(data=str(tiny_npz), methods="label-smoothing", epochs=1, seeds=3, splits=3, out=tmp_path)
    study = run_study(**options)
    specs = [json.loads((path / "run.json").read_text())["spec"] for path in (tmp_path / "runs").iterdir()]
    assert {(spec["seed"], spec["split_seed"]) for spec in specs} == {(0, 0), (1, 1), (2, 2)}
    assert "spread over 3 of them" in study.verdict[-1]
    components = study.comparison("label-smoothing", "nll").components
    assert components.split > 0
    assert components.seed == 0
    assert load_study(tmp_path) == study


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"seeds": 0}, "seeds=0 is too small; give at least 1"),
            ({"epochs": 0}, "epochs=0 is too small"),
            ({"batch_size": 1}, "batch_size=1 is too small; give at least 2"),
            ({"learning_rate": -1.0}, r"learning_rate=-1.0 must lie in \(0, inf\)"),
            ({"splits": 2, "seeds": 4}, "splits=2 does not fit 4 seeds; give 1, or at least 3 splits"),
            ({"splits": 3, "seeds": 4}, "splits=3 does not fit 4 seeds"),
            ({"margins": {"error": 0.0}}, "The margin error=0 is not one above 0 for error, ece, nll"),
            ({"margins": {"brier": 0.1}}, "The margin brier=0.1 is not"),
            ({"methods": ("plane",)}, "There is no method 'plane'; choose among plain, weight-decay"),
        ],
    )
    def test_a_config(self, options, sentence) -> None:
        with pytest.raises(match=sentence):
            StudyConfig(**options)

    def test_a_diverging_training(self, tiny_npz: Path, tmp_path: Path) -> None:
        with pytest.raises(match="learning rate 1e\\+30 is too high"):
            run_study(StudyConfig(data=str(tiny_npz), out=tmp_path, learning_rate=1e30, seeds=1, epochs=2))

    def test_an_unknown_backbone_and_unfit_weights(self, tiny_npz: Path, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        options = {"data": str(tiny_npz), "out": tmp_path, "seeds": 1, "epochs": 1, "size": 32}
        with pytest.raises(match="timm has no model 'resnet3'; did you mean"):
            run_study(backbone="resnet3", weights="none", **options)
        with pytest.raises(match=r"cannot be read .*give \"hub\", \"none\" or a safetensors file"):
            run_study(backbone="resnet10t", weights=str(tmp_path / "none.safetensors"), **options)
        (tmp_path / "text.safetensors").write_text("hello, this is not a tensor file")
        with pytest.raises(match="cannot be read as safetensors"):
            run_study(backbone="resnet10t", weights=str(tmp_path / "text.safetensors"), **options)
        save_file({"stem.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(match=r"does not fit the model: .* is missing; .*and \d+ more"):
            run_study(backbone="resnet10t", weights=str(tmp_path / "other.safetensors"), **options)

    def test_a_full_disk(self, tiny_npz: Path, tmp_path: Path, monkeypatch) -> None:
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("labelsmooth.files.os.fsync", full)
        config = StudyConfig(data=str(tiny_npz), out=tmp_path, methods=("plain",), seeds=1, epochs=1)
        with pytest.raises(match=r"No space left on device\. Free some space .* finished parts are kept"):
            run_study(config)
        # The run that was begun can be resumed, is not taken for a finished one, and no file is there by half.
        (left,) = (tmp_path / "runs").glob("*.partial")
        assert left.is_dir()
        assert {path.suffix for path in (tmp_path / "runs").iterdir()} == {".partial", ".lock"}
        assert [path for path in tmp_path.rglob("*.partial") if path != left] == []
        monkeypatch.undo()
        run_study(config)
        assert len(list((tmp_path / "runs").iterdir())) == 1


def test_photos_with_a_timm_backbone_from_a_file(tmp_path: Path) -> None:
    """The photo pipeline end to end: decoding, augmentation, weights from a file, the frozen first epoch."""
    import labelsmooth.cpu_torchvision  # noqa: F401

    import timm
    from photo_folder import photo_folder
    from safetensors.torch import save_file

    folder = photo_folder(tmp_path / "photos", {"cat": 12, "<b>": 12})
    save_file(
        timm.create_model("test_resnet", pretrained=False, num_classes=7).state_dict(), tmp_path / "w.safetensors"
    )
    study = run_study(
        data=str(folder),
        backbone="test_resnet",
        weights=str(tmp_path / "w.safetensors"),
        methods=("plain", "dropout"),
        seeds=1,
        epochs=2,
        size=32,
        batch_size=8,
        out=tmp_path / "out",
    )
    assert study.data.test == 4
    assert study.config.size == 32
    assert any("With 1 seed no difference is significant" in sentence for sentence in study.verdict)


def test_a_study_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(match="does not exist"):
        load_study(tmp_path)
    (tmp_path / "study.json").write_text('{"format": 99}')
    with pytest.raises(match="not a study of format 2"):
        load_study(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(match="is not valid JSON"):
        load_study(tmp_path)


# Two epochs do not reach the logit gaps at which margin and ACLS begin to act.
IDLE_AT_FIRST = {"margin", "acls"}
POLICIES = tuple(name for name in METHODS if METHODS[name].title.startswith("Smoothing: "))
PENALTIES = tuple(name for name in METHODS if METHODS[name].title.startswith("Penalty: "))


@pytest.mark.parametrize("names", [POLICIES, PENALTIES], ids=["policies", "penalties"])
def test_every_policy_and_penalty_trains(names: tuple[str, ...], tiny_npz: Path, tmp_path: Path) -> None:
    study = run_study(data=str(tiny_npz), methods=names, seeds=1, epochs=3, batch_size=32, out=tmp_path)
    assert [method.name for method in study.methods] == ["plain", *names]
    losses = {run.method: tuple(run.history["train_loss"]) for run in study.runs if run.method not in IDLE_AT_FIRST}
    # Each has a loss of its own, so none fell back to plain training.
    assert len(set(losses.values())) == len(losses)
    assert all(np.isfinite(list(run.metrics["none"].values())).all() for run in study.runs)


def test_online_smoothing_learns_between_epochs(tiny_npz: Path, tmp_path: Path) -> None:
    study = run_study(data=str(tiny_npz), methods=("online", "label-smoothing"), seeds=1, epochs=3, out=tmp_path)
    smoothed = {run.method: run for run in study.runs}
    assert smoothed["online"].history["train_loss"][1] != smoothed["label-smoothing"].history["train_loss"][1]
