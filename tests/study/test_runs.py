"""Runs in a folder that several processes share: none is repeated or lost; shards, and their merge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import TINY
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.errors import UserError
from labelsmooth.study import ShardResult, merge_study, run_shard, run_study


class Trainer:
    """A training that takes no time; ``during`` may do something in the middle of one."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.resumed: list[str] = []
        self.during: Callable[[Any, Path], object] | None = None

    def __call__(self, spec: Any, data: Any, split: Any, weights: str, folder: Path, on_epoch: Any, **_: Any) -> Any:
        self.begun.append(spec.id)
        checkpoint = folder / "checkpoint"
        self.resumed += [checkpoint.read_text()] if checkpoint.exists() else []
        checkpoint.write_text(spec.id)
        if self.during:
            self.during(spec, folder)
        checkpoint.unlink()
        draw = np.random.default_rng(int(spec.id, 16))
        logits = {
            part: draw.normal(size=(len(getattr(split, part)), len(data.classes))).astype(np.float32)
            for part in ("train", "validation", "test")
        }
        curves = {name: [0.5] for name in ("train_loss", "train_nll", "validation_nll", "validation_error")}
        return SimpleNamespace(logits=logits, history=curves, seconds=1.0, epochs=1)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    trainer = Trainer()
    monkeypatch.setattr("labelsmooth.training.fit.train", trainer)
    return trainer


@pytest.fixture
def options(tiny_npz: Path, tmp_path: Path) -> dict[str, Any]:
    return {"data": str(tiny_npz), "out": tmp_path / "study", **TINY}


@pytest.fixture
def one_run(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "methods": "plain", "seeds": 1}


def names(options: dict[str, Any]) -> list[str]:
    """The names in the folder of the runs."""
    return sorted(path.name for path in (options["out"] / "runs").iterdir())


class TestOneRun:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_an_interrupted_run_is_resumed(
        self, trainer: Trainer, one_run: dict[str, Any], error: type[BaseException]
    ) -> None:
        def fail(*_: object) -> None:
            raise error

        trainer.during = fail
        with pytest.raises(error):
            run_study(**one_run)
        (run,) = trainer.begun
        partial, lock = sorted(names(one_run), key=lambda name: name.endswith(".lock"))
        assert partial.removesuffix(".partial") == lock.removesuffix(".lock")
        # An interrupted run of another study with the same folder is kept for that study.
        other = one_run["out"] / "runs" / "0123456789abcdef.00.partial"
        other.mkdir()
        trainer.during = None
        run_study(**one_run)
        assert trainer.resumed == [run]
        assert names(one_run) == sorted([run, other.name])
        assert "checkpoint" not in {path.name for path in (one_run["out"] / "runs" / run).iterdir()}

    def test_of_several_interrupted_attempts_one_is_resumed_and_none_is_left(
        self, trainer: Trainer, one_run: dict[str, Any]
    ) -> None:
        run_study(**one_run)
        (run,) = trainer.begun
        runs = one_run["out"] / "runs"
        shutil.rmtree(runs / run)
        for token in ("00", "01", "02"):
            (runs / f"{run}.{token}.partial").mkdir()
            (runs / f"{run}.{token}.partial" / "checkpoint").write_text(token)
            (runs / f"{run}.{token}.lock").touch()
        run_study(**one_run)
        assert trainer.resumed == ["00"]
        assert names(one_run) == [run]

    def test_two_that_train_the_same_run_have_a_folder_each_and_the_first_result_stays(
        self, trainer: Trainer, one_run: dict[str, Any]
    ) -> None:
        studies = []

        def begin_another(spec: Any, folder: Path) -> None:
            trainer.during = None
            studies.append(run_study(**one_run))
            (one_run["out"] / "runs" / spec.id / "first").touch()
            assert folder.exists()  # a cleaner leaves a living process's folder alone

        trainer.during = begin_another
        studies.append(run_study(**one_run))
        run, again = trainer.begun
        assert run == again
        assert trainer.resumed == []
        assert studies[0] == studies[1]
        assert names(one_run) == [run]
        assert (one_run["out"] / "runs" / run / "first").exists()

    def test_a_run_that_another_has_finished_meanwhile_is_not_repeated(
        self, trainer: Trainer, options: dict[str, Any]
    ) -> None:
        whole = {**options, "out": options["out"].with_name("whole")}
        run_study(**whole)
        finished = trainer.begun.copy()
        trainer.begun.clear()

        def copy_all(*_: object) -> None:
            trainer.during = None
            for run in finished:
                shutil.copytree(whole["out"] / "runs" / run, options["out"] / "runs" / run)

        trainer.during = copy_all
        run_study(**options)
        assert trainer.begun == finished[:1]
        assert names(options) == sorted(finished)

    def test_an_error_of_the_disk_says_nothing_of_the_run(
        self, trainer: Trainer, one_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_study(**one_run)

        def fail(path: Path) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("labelsmooth.study.runs.read_json", fail)
        with pytest.raises(UserError, match=r"could not be read: Input/output error\. Run the command again"):
            run_study(**one_run)
        assert len(trainer.begun) == 1


class TestShards:
    def test_each_trains_its_slice(self, trainer: Trainer, options: dict[str, Any]) -> None:
        whole = run_study(**{**options, "out": options["out"].with_name("whole")})
        runs = trainer.begun.copy()
        trainer.begun.clear()
        assert run_shard(2, 3, **options) == ShardResult(trained=2, finished=2, total=6)
        assert trainer.begun == [runs[1], runs[4]]
        assert run_shard(2, 3, **options) == ShardResult(trained=0, finished=2, total=6)
        assert run_shard(1, 3, **options) == ShardResult(trained=2, finished=4, total=6)
        assert run_shard(3, 3, **options) == ShardResult(trained=2, finished=6, total=6)
        assert not (options["out"] / "study.json").exists()
        merged = merge_study(**options)
        assert (merged.summary, merged.comparisons, merged.verdict) == (whole.summary, whole.comparisons, whole.verdict)
        assert len(trainer.begun) == 6

    def test_with_tuning_they_run_twice(self, trainer: Trainer, options: dict[str, Any]) -> None:
        options["tune"] = True
        # Three strengths of label smoothing and of early stopping, and then every method with each seed.
        assert run_shard(1, 2, **options) == ShardResult(trained=3, finished=3, total=6, tuning=True)
        assert run_shard(1, 2, **options) == ShardResult(trained=0, finished=3, total=6, tuning=True)
        with pytest.raises(UserError, match=r"3 of 6 tuning runs are missing .* Early stopping"):
            merge_study(**options)
        assert run_shard(2, 2, **options) == ShardResult(trained=3, finished=6, total=6, tuning=True)
        assert run_shard(2, 2, **options) == ShardResult(trained=3, finished=3, total=6)
        assert run_shard(1, 2, **options) == ShardResult(trained=3, finished=6, total=6)
        merged = merge_study(**options)
        assert len(trainer.begun) == len(set(trainer.begun)) == 6 + 6
        whole = run_study(**{**options, "out": options["out"].with_name("whole")})
        assert (merged.methods, merged.summary, merged.verdict) == (whole.methods, whole.summary, whole.verdict)


class TestCommandLine:
    @pytest.fixture
    def arguments(self, options: dict[str, Any]) -> list[str]:
        methods = ["--methods", ",".join(TINY["methods"]), "--seeds", "2", "--epochs", "2", "--batch-size", "32"]
        return ["study", options["data"], *methods, "--out", str(options["out"])]

    def invoke(self, *arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.stdout, result.stderr

    def test_shards_and_then_the_report(
        self, trainer: Trainer, arguments: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training = ["--workers", "1", "--cpus=2"]  # which --merge refuses
        monkeypatch.setattr("sys.argv", ["labelsmooth", *arguments[:2], *training, "--shard", "2/2", "--out", "a b"])
        code, printed, _ = self.invoke(*arguments, "--shard", "2/2")
        assert code == 0
        assert printed == "Shard 2/2 trained 3. Of the study's 6 runs, 3 are left to the other shards.\n"
        code, printed, _ = self.invoke(*arguments, "--shard", "1/2")
        assert printed == (
            "Shard 1/2 trained 3. Of the study's 6 runs, all are finished. "
            f"Make the report: labelsmooth study {options['data']} --out 'a b' --merge\n"
        )
        code, printed, _ = self.invoke(*arguments, "--shard", "1/2", "--json")
        assert json.loads(printed) == {"trained": 0, "finished": 6, "total": 6, "tuning": False}
        assert not (options["out"] / "report.html").exists()

        monkeypatch.setattr("sys.argv", ["labelsmooth", *arguments[:2], "--merge"])
        code, printed, _ = self.invoke(*arguments, "--merge", "--json")
        assert code == 0
        assert json.loads(printed)["command"] == f"labelsmooth study {options['data']}"
        assert (options["out"] / "report.html").exists()
        assert len(trainer.begun) == 6

    def test_shards_of_tuning_runs(self, trainer: Trainer, arguments: list[str]) -> None:
        code, printed, _ = self.invoke(*arguments, "--shard", "1/1", "--tune")
        assert code == 0
        assert printed == (
            "Shard 1/1 trained 6. Of the study's 6 tuning runs, all are finished. "
            "Start the shards again for the study itself.\n"
        )

    def test_a_merge_names_what_is_missing(
        self, trainer: Trainer, arguments: list[str], options: dict[str, Any]
    ) -> None:
        code, _, said = self.invoke(*arguments, "--merge")
        assert code == 2
        assert "6 of 6 runs are missing" in said
        assert trainer.begun == []
        run_shard(1, 1, **options)
        runs = options["out"] / "runs"
        shutil.rmtree(runs / trainer.begun[0])
        (runs / trainer.begun[4] / "logits.npz").write_bytes(b"")
        sentence = (
            rf"2 of 6 runs are missing in {runs}: Plain cross-entropy, seed 0; Label smoothing, seed 1\. "
            r"The same command without --merge trains them\."
        )
        with pytest.raises(UserError, match=sentence):
            merge_study(**options)
        assert not (options["out"] / "study.json").exists()

    @pytest.mark.parametrize(
        ("more", "sentence"),
        [
            (["--shard", "0/8"], "There is no shard 0/8; give I/N with I from 1 to N, for example 2/8."),
            (["--shard", "9/8"], "There is no shard 9/8"),
            (["--shard", "2"], "--shard 2 is not of the form I/N"),
            (["--shard", "a/b"], "--shard a/b is not of the form I/N"),
            (["--shard", "-1/8"], "--shard -1/8 is not of the form I/N"),
            (["--shard", "2/8", "--merge"], "--shard trains and --merge does not"),
            (["--workers", "0"], "--workers 0 is too small; give at least 1."),
            (["--workers", "2", "--ray", "auto"], "--workers is of this machine and --ray of a cluster; give one"),
            (["--gpus", "0.5"], "--cpus and --gpus are of a run on a Ray cluster; give them with --ray."),
            (["--ray", "auto", "--gpus", "1.5"], "--gpus 1.5 must be a whole number, or a fraction between 0 and 1."),
        ],
    )
    def test_refused(self, arguments: list[str], more: list[str], sentence: str) -> None:
        code, _, said = self.invoke(*arguments, *more)
        assert code == 2
        assert sentence in said
