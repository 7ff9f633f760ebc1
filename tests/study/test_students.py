"""Students of a plain and of a smoothed teacher: how they are trained, compared and shown."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.data import array_dataset, load_dataset, split_dataset
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.report.study import render_study
from labelsmooth.report.sweep import render_sweep
from labelsmooth.report.terminal import print_study
from labelsmooth.study import (
    RayCluster,
    StudyConfig,
    StudyRecord,
    Workers,
    load_study,
    merge_study,
    run_shard,
    run_study,
    run_sweep,
)
from labelsmooth.study.records import Comparison
from labelsmooth.study.runs import Job, Runs
from labelsmooth.study.students import with_verdict
from labelsmooth.training.fit import train
from labelsmooth.training.spec import Distillation, RunSpec, Settings

SMALL: dict[str, Any] = {"methods": "label-smoothing", "seeds": 3, "epochs": 2, "batch_size": 32}
STUDENTS = ("student:plain", "student:label-smoothing")
TABLE = array_dataset("table", torch.randn(120, 5, generator=torch.manual_seed(0)), torch.arange(120) % 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distil")


@pytest.fixture(scope="module")
def study(tiny_npz: Path, folder: Path) -> StudyRecord:
    return run_study(data=tiny_npz, out=folder, distil=True, **SMALL)


def logits(folder: Path, study: StudyRecord, method: str) -> list[np.ndarray]:
    """The test logits of a method's runs, by seed."""
    runs = [run for run in study.runs if run.method == method]
    return [np.load(folder / "runs" / run.id / "logits.npz")["test"] for run in runs]


class Titles(Progress):
    def __init__(self) -> None:
        self.titles: list[str] = []

    def run(self, title: str, seed: int, worker: int = 0, epochs: int = 1) -> None:
        self.titles.append(f"{title} {seed}")


def test_the_teachers_are_the_studys_own_runs(study: StudyRecord, tiny_npz: Path, folder: Path, tmp_path: Path) -> None:
    assert len(list((folder / "runs").iterdir())) == len(study.runs) == 12
    shutil.copytree(folder / "runs", tmp_path / "runs")
    titles = Titles()
    alone = run_study(data=tiny_npz, out=tmp_path, progress=titles, **SMALL)
    assert titles.titles == []
    assert [run.id for run in alone.runs] == [run.id for run in study.runs if not run.method.startswith("student")]
    assert alone.distillation is None
    assert [row.reference_method for row in alone.comparisons].count("student:plain") == 0


def test_the_record(study: StudyRecord, folder: Path) -> None:
    assert study.distillation is not None
    assert study.distillation.teachers == ["plain", "label-smoothing"]
    assert tuple(student.name for student in study.distillation.students) == STUDENTS
    assert study.distillation.alone.name == "plain", "the students have their teachers' network"
    assert (study.distillation.temperature, study.distillation.weight) == (4.0, 0.9)
    assert [method.name for method in study.methods] == ["plain", "label-smoothing"]
    assert {row.method for row in study.candidates} == {"plain", "label-smoothing"}, "no student is recommended"
    for metric in ("error", "nll", "ece"):
        for one, other in ((STUDENTS[1], STUDENTS[0]), (STUDENTS[1], "plain"), (STUDENTS[0], "plain")):
            assert study.comparison(one, metric, reference=other).family == "secondary"
    assert len([row for row in study.comparisons if row.family == "primary"]) == 3
    assert study.number("student:plain", "ece", "temperature").seeds == 3
    assert load_study(folder) == study


@pytest.mark.parametrize(("option", "value"), [("temperature", 0.0), ("temperature", 2e6), ("weight", 1.5)])
def test_a_study_and_its_runs_refuse_the_same_values(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^distil_{option}={value} must lie in") as of_study:
        StudyConfig(distil=True, **{f"distil_{option}": value})  # type: ignore[arg-type]
    spec = RunSpec("", 0, None, "small-cnn", "none", 0, 2, 32, 0.003, Settings(), 0)
    with pytest.raises(UserError) as of_run:
        Distillation(spec, **{option: value})
    assert str(of_study.value) == f"distil_{of_run.value}"


def test_students_differ_from_each_other_and_from_plain_training(study: StudyRecord, folder: Path) -> None:
    for seed in range(3):
        plain, first, second = (logits(folder, study, name)[seed] for name in ("plain", *STUDENTS))
        assert np.abs(first - plain).max() > 0.01
        assert np.abs(first - second).max() > 0.01


def test_with_a_weight_of_0_a_student_is_plain_training(tiny_npz: Path, tmp_path: Path) -> None:
    study = run_study(data=tiny_npz, out=tmp_path, distil=True, distil_weight=0.0, **{**SMALL, "seeds": 1})
    for name in STUDENTS:
        np.testing.assert_array_equal(logits(tmp_path, study, name), logits(tmp_path, study, "plain"))


def test_without_labels_at_temperature_1_a_student_learns_the_probabilities_of_its_teacher(
    tiny_npz: Path, tmp_path: Path
) -> None:
    """Against a training on soft labels, which knows nothing of distillation."""
    options = {"distil": True, "distil_weight": 1.0, "distil_temperature": 1.0}
    study = run_study(data=tiny_npz, out=tmp_path, **options, **{**SMALL, "seeds": 1})
    data = load_dataset(tiny_npz)
    split = split_dataset(data, 0)
    assert study.distillation is not None
    for teacher, student in zip(study.distillation.teachers, STUDENTS, strict=True):
        (run,) = (run for run in study.runs if run.method == teacher)
        learned = torch.from_numpy(np.load(tmp_path / "runs" / run.id / "logits.npz")["train"]).softmax(-1).numpy()
        soft = np.full((len(data.labels), 3), np.nan, np.float32)
        soft[split.train] = learned
        spec = RunSpec("", 0, None, "small-cnn", "none", 0, 2, 32, 0.003, Settings(), 0)
        softly = train(spec, dataclasses.replace(data, soft=soft), split, "none", tmp_path / teacher, Progress())
        (expected,) = logits(tmp_path, study, student)
        np.testing.assert_allclose(softly.logits["test"], expected, rtol=1e-3, atol=1e-3)


class InOrder:
    """An executor that notes what it is given, and trains it from the last to the first."""

    def __init__(self, skip: str = "") -> None:
        self.skip = skip
        self.stages: list[list[str]] = []

    def train(self, jobs: Sequence[Job], runs: Runs, progress: Progress) -> Generator[Job, None, None]:
        self.stages.append([str(job) for job in jobs])
        for job in reversed(jobs):
            if str(job) != self.skip:
                runs.train(job, progress)
            yield job


def test_no_student_is_trained_before_its_teacher(tiny_npz: Path, tmp_path: Path) -> None:
    executor = InOrder()
    run_study(data=tiny_npz, out=tmp_path, distil=True, executor=executor, **{**SMALL, "seeds": 1, "epochs": 1})
    assert executor.stages == [
        ["Plain cross-entropy, seed 0", "Label smoothing, seed 0"],
        ["Student of plain cross-entropy, seed 0", "Student of label smoothing, seed 0"],
    ]


def test_a_missing_teacher_is_an_error_that_names_it(tiny_npz: Path, tmp_path: Path) -> None:
    options = {"data": tiny_npz, "out": tmp_path, "distil": True, **SMALL, "seeds": 1, "epochs": 1}
    sentence = r"Student of label smoothing, seed 0 learns from a run that is missing or damaged, .*epsilon.*0\.1"
    with pytest.raises(UserError, match=sentence):
        run_study(executor=InOrder(skip="Label smoothing, seed 0"), **options)


def test_workers_train_the_same(study: StudyRecord, tiny_npz: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    for run in study.runs:
        if run.method in STUDENTS and run.seed == 1:
            shutil.rmtree(tmp_path / "runs" / run.id)
    again = run_study(data=tiny_npz, out=tmp_path, distil=True, executor=Workers(2), **SMALL)
    assert (again.summary, again.comparisons) == (study.summary, study.comparisons)


def test_a_cluster_trains_the_same(study: StudyRecord, tiny_npz: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    (student,) = (run for run in study.runs if (run.method, run.seed) == (STUDENTS[1], 1))
    shutil.rmtree(tmp_path / "runs" / student.id)
    again = run_study(data=tiny_npz, out=tmp_path, distil=True, executor=RayCluster("local", cpus=1), **SMALL)
    assert (again.summary, again.comparisons) == (study.summary, study.comparisons)


def test_an_interrupted_student_continues(study: StudyRecord, tiny_npz: Path, folder: Path, tmp_path: Path) -> None:
    class Stop(Titles):
        def epoch(self, done: int, total: int, worker: int = 0) -> None:
            if self.titles[-1] == "Student of label smoothing 0" and done == 1:
                raise KeyboardInterrupt

    options = {"data": tiny_npz, "out": tmp_path, "distil": True, **SMALL}
    with pytest.raises(KeyboardInterrupt):
        run_study(progress=Stop(), **options)
    assert len(list((tmp_path / "runs").glob("*.partial"))) == 1
    again = run_study(**options)
    assert (again.summary, again.verdict) == (study.summary, study.verdict)
    assert len(list((tmp_path / "runs").iterdir())) == 12


def test_a_shard_trains_the_students_of_its_teachers(tiny_npz: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": tiny_npz, "distil": True, **SMALL, "epochs": 1, "splits": 3}
    whole = run_study(out=tmp_path / "whole", **options)
    shards = tmp_path / "shards"
    assert dataclasses.astuple(run_shard(2, 4, out=shards, **options))[:3] == (4, 4, 12), "2 teachers, 2 students"
    missing = r"8 of 12 runs are missing .*: Plain cross-entropy, seed 0; .*Student of plain cross-entropy, seed 0"
    with pytest.raises(UserError, match=missing):
        merge_study(out=shards, **options)
    for index in (4, 3, 1):
        run_shard(index, 4, out=shards, **options)
    merged = merge_study(out=shards, **options)
    assert (merged.summary, merged.comparisons, merged.verdict) == (whole.summary, whole.comparisons, whole.verdict)


def deep(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, num_classes))


def shallow(num_classes: int) -> nn.Module:
    return nn.Linear(5, num_classes)


def test_students_of_another_network(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": TABLE, "make_network": deep, "out": tmp_path, **SMALL, "epochs": 1}
    study = run_study(distil=True, student=shallow, **options)
    assert study.distillation is not None
    assert study.config.backbone.startswith("deep-")
    assert study.distillation.backbone.startswith("shallow-")
    assert study.distillation.alone.name == "student"
    assert len(study.runs) == len(list((tmp_path / "runs").iterdir())) == 15
    assert study.comparison("student:plain", "error", reference="student").family == "secondary"
    assert "student&#39;s network alone" in render_study(study) or "student's network alone" in render_study(study)
    direct = run_study(**{**options, "make_network": shallow, "out": tmp_path / "direct"})
    np.testing.assert_array_equal(logits(tmp_path, study, "student"), logits(tmp_path / "direct", direct, "plain"))


def test_a_file_of_weights_is_for_the_teachers(tiny_npz: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    weights = tmp_path / "weights.safetensors"
    options: dict[str, Any] = {"data": tiny_npz, "backbone": "test_resnet", "size": 32, "seeds": 1, "epochs": 2}
    options |= {"methods": "label-smoothing", "weights": weights, "distil": True, "distil_weight": 0.0}
    # With the teachers' network a student's head is fitted first, by its own loss: here that of plain training.
    same = run_study(out=tmp_path / "same", **options)
    np.testing.assert_array_equal(
        logits(tmp_path / "same", same, "student:plain"), logits(tmp_path / "same", same, "plain")
    )
    other = run_study(out=tmp_path / "other", **options, student="test_efficientnet")
    assert other.distillation is not None
    assert (other.distillation.backbone, other.distillation.weights) == ("test_efficientnet", "none")
    assert other.distillation.learning_rate == 0.001


@pytest.mark.parametrize(
    ("teachers", "students", "verdict"),
    [
        (("differs", -1), ("differs", 1), "agrees"),
        (("differs", -1), ("differs", -1), "does not agree"),
        (("differs", 1), ("differs", 1), "does not agree"),
        (("differs", -1), ("equivalent", 1), "does not agree"),
        (("inconclusive", -1), ("differs", 1), "undecided"),
        (("differs", -1), ("inconclusive", 1), "undecided"),
        (("inconclusive", 1), ("equivalent", 1), "does not agree"),
        (("differs", -1), ("equivalent", 0), "undecided"),  # the same on every example
    ],
)
def test_the_verdict(study: StudyRecord, teachers: Any, students: Any, verdict: str) -> None:
    def changed(row: Comparison) -> Comparison:
        new = {("label-smoothing", "plain"): teachers, (STUDENTS[1], STUDENTS[0]): students}
        pair = (row.method, row.reference_method)
        if row.metric != "error" or pair not in new:
            return row
        word, sign = new[pair]
        return dataclasses.replace(row, verdict=word, difference=0.01 * sign, low90=0.001 * sign, high90=0.002 * sign)

    decided = with_verdict(dataclasses.replace(study, comparisons=[changed(row) for row in study.comparisons]))
    assert decided.distillation is not None
    assert decided.distillation.verdict == verdict
    none = dataclasses.replace(decided.recommendation, method="")
    guessing = with_verdict(dataclasses.replace(decided, recommendation=none))
    assert guessing.distillation is not None
    assert guessing.distillation.verdict == "undecided", "no model is better than guessing"


def test_the_report_and_the_terminal(study: StudyRecord) -> None:
    assert study.distillation is not None
    sentence = "A smoothed teacher is better and its student worse (Müller et al. 2019): "
    (answer,) = [line for line in study.verdict if line.startswith(sentence)]
    assert f"{sentence}{study.distillation.verdict}. " in answer
    page = render_study(study)
    section = page[page.index("<h2>Teachers and students") : page.index("<h2>Reliability")]
    assert section.count("<svg") == 3
    assert "Error against teacher: teacher, its student" in section
    assert "a temperature of 4 (Hinton" in " ".join(section.split())
    assert "Student of label smoothing" in section
    console = Console(record=True, width=160)
    print_study(study, console)
    assert "Teacher: label smoothing" in console.export_text()


def test_at_several_levels(tiny_npz: Path, tmp_path: Path) -> None:
    sweep = run_sweep(
        {"label_noise": [0, 0.5]}, data=tiny_npz, out=tmp_path, distil=True, **{**SMALL, "seeds": 1, "epochs": 1}
    )
    assert "(Müller et al. 2019): undecided at every level." in " ".join(sweep.findings)
    assert any(line.startswith("Student of label smoothing against student of plain") for line in sweep.findings)
    page = render_sweep(sweep, tmp_path / "report.html")
    assert page.count("<svg") == 5
    assert "Error of the students" in page


def test_the_command(study: StudyRecord, tiny_npz: Path, folder: Path) -> None:
    options = ["--methods", "label-smoothing", "--seeds", "3", "--epochs", "2", "--batch-size", "32", "--distil"]
    result = CliRunner().invoke(app, ["study", str(tiny_npz), "--out", str(folder), *options])
    assert result.exit_code == 0, result.output
    assert "Teachers and students" in result.stdout
    assert "distil: true" in (folder / "study.yaml").read_text()
    assert load_study(folder).summary == study.summary


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--student", "resnet18"], "--student is for students; give --distil too."),
        (["--distil-weight", "0.5"], "--distil-weight is for students; give --distil too."),
        (["--distil", "--distil-temperature", "0"], "--distil-temperature 0.0 must lie in (0, 1e+06)"),
        (["--distil", "--distil-weight", "2"], "--distil-weight 2.0 must lie in [0, 1]"),
        (["--distil", "--methods", "dropout"], "names no label smoothing; add label-smoothing."),
        (["--distil", "--methods", "plain"], "names no label smoothing; add label-smoothing."),
        (["--distil", "--student", "resnet18"], "The backbones take images of the sizes [0, 224] by default"),
    ],
)
def test_refused(tiny_npz: Path, tmp_path: Path, more: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["study", str(tiny_npz), "--out", str(tmp_path), *more])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())


def test_a_student_needs_distil() -> None:
    with pytest.raises(UserError, match=r"student='resnet18' is the network of students; give distil=True with it"):
        StudyConfig(student="resnet18")
