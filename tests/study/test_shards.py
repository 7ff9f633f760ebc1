"""A study spread over processes that share its folder: no run twice, none lost, and the same result as from one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_claims import age, foreign
from tiny import TINY
from typer.testing import CliRunner

from labelsmooth.cli import app
from labelsmooth.study import (
    Progress,
    ShardResult,
    StudyConfig,
    StudyRecord,
    UserError,
    merge_study,
    run_shard,
    run_study,
)
from labelsmooth.study.claims import LIMIT, Claims

# Takes part in the study as a shard or, for 0 0, as a plain study; each training begun is a line of its log.
PROCESS = """
import json, sys
from pathlib import Path
from labelsmooth.study import Progress, StudyConfig, run_shard, run_study

class Log(Progress):
    def run(self, title, seed):
        with open(log, "a") as file:
            file.write(f"{title} {seed}\\n")

log, index, count, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
config = StudyConfig(**{**options, "methods": tuple(options["methods"]), "out": Path(options["out"])})
run_shard(index, count, config, Log()) if count else run_study(config, Log())
"""


class Process:
    """Another process that works on the study."""

    def __init__(self, log: Path, data: Path, out: Path, index: int, count: int) -> None:
        self._log = log
        options = json.dumps({**TINY, "data": str(data), "out": str(out)})
        self.process = subprocess.Popen([sys.executable, "-c", PROCESS, log, str(index), str(count), options])

    @property
    def trained(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


def test_killed_or_not_together_they_train_each_run_once(
    tiny_study: StudyRecord, tiny_npz: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    parts = {"one": (1, 2), "killed": (2, 2), "plain": (0, 0)}
    everyone = {name: Process(tmp_path / f"{name}.log", tiny_npz, out, *part) for name, part in parts.items()}
    killed = everyone["killed"]
    try:
        wait_until(lambda: bool(killed.trained))
        killed.process.kill()
        killed.process.wait()
        for name in ("one", "plain"):
            assert everyone[name].process.wait(300) == 0
    finally:
        for each in everyone.values():
            each.process.kill()
            each.process.wait()

    *before, broken_off = killed.trained
    begun = before + everyone["one"].trained + everyone["plain"].trained
    titles = {method.name: method.title for method in tiny_study.methods}
    assert sorted(begun) == sorted(f"{titles[run.method]} {run.seed}" for run in tiny_study.runs)
    assert broken_off in begun  # taken over by one of the others
    assert sorted(path.name for path in (out / "runs").iterdir()) == sorted(run.id for run in tiny_study.runs)
    assert list((out / "claims").iterdir()) == []

    written = json.loads((out / "study.json").read_text())  # by the plain study, which waited for all
    merged = merge_study(StudyConfig(data=str(tiny_npz), out=out, **TINY))
    assert written["verdict"] == merged.verdict
    assert (merged.summary, merged.comparisons, merged.verdict) == (
        tiny_study.summary,
        tiny_study.comparisons,
        tiny_study.verdict,
    )


class Trainer:
    """A training that takes no time; ``during`` may do something in the middle of one."""

    def __init__(self, during: Callable[..., None] | None = None) -> None:
        self.begun: list[str] = []
        self.resumed: list[str] = []
        self.during = during
        self._lock = threading.Lock()

    def __call__(self, spec: Any, data: Any, split: Any, weights: str, folder: Path, progress: Any, **_: Any) -> Any:
        checkpoint = folder / "checkpoint"
        with self._lock:
            self.begun.append(spec.id)
            self.resumed += [checkpoint.read_text()] if checkpoint.exists() else []
        checkpoint.write_text(spec.id)
        if self.during:
            self.during(spec, folder, progress)
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


ONE_RUN = {"methods": ("plain",), "seeds": 1}


def folders(options: dict[str, Any]) -> tuple[Path, Path]:
    return options["out"] / "runs", options["out"] / "claims"


def test_a_shard_takes_its_part_first_and_then_helps_from_the_end(trainer: Trainer, options: dict[str, Any]) -> None:
    run_study(**{**options, "out": options["out"] / "whole"})
    whole = trainer.begun.copy()
    trainer.begun.clear()
    assert run_shard(2, 3, **options) == ShardResult(trained=6, finished=6, total=6)
    assert trainer.begun == [whole[1], whole[4], whole[5], whole[3], whole[2], whole[0]]
    assert run_shard(1, 3, **options) == ShardResult(trained=0, finished=6, total=6)
    assert len(trainer.begun) == 6
    assert not (options["out"] / "study.json").exists()


def test_shards_at_once_with_tuning_train_each_run_once(trainer: Trainer, options: dict[str, Any]) -> None:
    trainer.during = lambda *_: time.sleep(0.02)
    options["tune"] = True
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: run_shard(index, 4, **options), (1, 2, 3, 4)))
    # Three strengths of label smoothing and of early stopping, and then every method with each seed.
    assert len(trainer.begun) == len(set(trainer.begun)) == 6 + 6
    assert sum(result.trained for result in results) == 12
    merged = merge_study(**options)
    trainer.begun.clear()
    whole = run_study(**{**options, "out": options["out"] / "whole"})
    assert (merged.methods, merged.summary, merged.verdict) == (whole.methods, whole.summary, whole.verdict)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_broke_off_is_gone_on_from(
    trainer: Trainer, options: dict[str, Any], error: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise error

    runs, claims = folders(options)
    trainer.during = fail
    with pytest.raises(error):
        run_study(**{**options, **ONE_RUN})
    assert list(claims.iterdir()) == []
    assert [path.name for path in runs.iterdir()] == [f"{trainer.begun[0]}.partial"]
    # Of a run that is not in this study: kept for the study that it is in.
    (runs / "0123456789abcdef.partial").mkdir()
    trainer.during = None
    run_study(**{**options, **ONE_RUN})
    assert trainer.resumed == [trainer.begun[0]]
    assert {path.name for path in runs.iterdir()} == {trainer.begun[0], "0123456789abcdef.partial"}
    assert "checkpoint" not in {path.name for path in (runs / trainer.begun[0]).iterdir()}


def test_a_killed_machines_run_is_taken_over_and_gone_on_from(trainer: Trainer, options: dict[str, Any]) -> None:
    run_study(**{**options, **ONE_RUN})
    runs, claims = folders(options)
    (run,) = trainer.begun
    shutil.rmtree(runs / run)
    (runs / f"{run}.partial").mkdir()
    (runs / f"{run}.partial" / "checkpoint").write_text("epoch 1")
    foreign(claims, run, LIMIT + 1)
    assert run_shard(1, 1, **{**options, **ONE_RUN}) == ShardResult(1, 1, 1)
    assert trainer.resumed == ["epoch 1"]
    assert [path.name for path in runs.iterdir()] == [run]
    assert list(claims.iterdir()) == []


class Elsewhere:
    """What another machine does meanwhile: a step each time that this one sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)
        monkeypatch.setattr("labelsmooth.study.runs.time.sleep", lambda _: self._steps.pop(0)())


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def plan(self, total: int, finished: int) -> None:
        self.said.append(f"{finished} of {total}")

    def waiting(self, runs: int) -> None:
        self.said.append(f"waiting for {runs}")

    def run_done(self) -> None:
        self.said.append("done")


def test_a_plain_study_waits_for_a_run_that_another_trains(
    trainer: Trainer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run_study(**{**options, **ONE_RUN, "seeds": 2})
    runs, claims = folders(options)
    first = trainer.begun[0]
    away = shutil.move(runs / first, options["out"] / "away")
    claim = foreign(claims, first, 0)
    heard = Heard()
    Elsewhere(monkeypatch, lambda: age(claim, 0), lambda: (shutil.move(away, runs / first), claim.unlink()))
    together = run_study(progress=heard, **{**options, **ONE_RUN, "seeds": 2})
    assert heard.said == ["1 of 2", "waiting for 1", "waiting for 1", "done"]
    assert together.summary == alone.summary
    assert len(trainer.begun) == 2


def test_a_shard_leaves_a_run_to_a_process_that_shows_that_it_lives(
    trainer: Trainer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(**{**options, **ONE_RUN})
    runs, claims = folders(options)
    (run,) = trainer.begun
    shutil.rmtree(runs / run)
    claim = foreign(claims, run, 30)
    Elsewhere(monkeypatch, lambda: None, lambda: age(claim, 20))
    assert run_shard(1, 1, **{**options, **ONE_RUN}) == ShardResult(trained=0, finished=0, total=1)
    # Killed after its last heartbeat, it holds the shard until the claim is stale.
    Elsewhere(monkeypatch, lambda: None, lambda: age(claim, LIMIT + 1))
    assert run_shard(1, 1, **{**options, **ONE_RUN}) == ShardResult(trained=1, finished=1, total=1)


def test_who_lost_its_claim_finishes_nothing(trainer: Trainer, options: dict[str, Any]) -> None:
    """Suspended for too long in the middle of a run: another goes on from the checkpoint, and its result stays."""
    runs, claims = folders(options)
    one = {**options, **ONE_RUN}
    results = []

    def sleep_too_long(spec: Any, folder: Path, progress: Any) -> None:
        trainer.during = None
        age(claims / f"{spec.id}.1.claim", LIMIT + 1)
        results.append(run_shard(1, 1, **one))
        (runs / spec.id / "winner").touch()
        folder.mkdir()  # as a logger might
        (folder / "checkpoint").touch()

    trainer.during = sleep_too_long
    results.append(run_shard(1, 1, **one))
    assert results == [ShardResult(1, 1, 1), ShardResult(0, 1, 1)]
    assert trainer.resumed == [trainer.begun[0]]
    assert [path.name for path in runs.iterdir()] == [trainer.begun[0]]
    assert (runs / trainer.begun[0] / "winner").exists()
    assert list(claims.iterdir()) == []


def test_who_lost_its_claim_stops_at_the_end_of_the_epoch(
    trainer: Trainer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelsmooth.study.claims.BEATS", LIMIT / 0.02)
    runs, claims = folders(options)
    epochs = []

    def slow(spec: Any, folder: Path, progress: Any) -> None:
        other = foreign(claims, spec.id, 0, number=2)
        Elsewhere(monkeypatch, lambda: None, lambda: age(other, -1))
        for epoch in range(3000):
            epochs.append(epoch)
            progress(epoch, 3000)
            threading.Event().wait(0.01)

    trainer.during = slow
    assert run_shard(1, 1, **{**options, **ONE_RUN}) == ShardResult(trained=0, finished=0, total=1)
    assert len(epochs) < 3000
    assert not (runs / trainer.begun[0]).exists()


def test_who_lost_its_claim_leaves_the_finish_to_the_other(
    trainer: Trainer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, claims = folders(options)

    def taken_over(spec: Any, folder: Path, progress: Any) -> None:
        other = foreign(claims, spec.id, 0, number=2)
        Elsewhere(monkeypatch, lambda: None, lambda: age(other, -1))

    trainer.during = taken_over
    assert run_shard(1, 1, **{**options, **ONE_RUN}) == ShardResult(trained=0, finished=0, total=1)
    assert not (runs / trainer.begun[0]).exists()


def test_a_run_that_was_finished_just_before_the_claim_is_not_repeated(
    trainer: Trainer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(**{**options, **ONE_RUN})
    runs, _ = folders(options)
    (run,) = trainer.begun
    away = shutil.move(runs / run, options["out"] / "away")
    create = Claims._create

    def late(self: Claims, path: Path, token: str) -> bool:
        shutil.move(away, runs / run)
        return create(self, path, token)

    monkeypatch.setattr(Claims, "_create", late)
    assert run_shard(1, 1, **{**options, **ONE_RUN}) == ShardResult(trained=0, finished=1, total=1)
    assert trainer.begun == [run]
    assert [path.name for path in runs.iterdir()] == [run]


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
        monkeypatch.setattr("sys.argv", ["labelsmooth", *arguments[:2], "--shard", "2/8", "--out", "a b"])
        code, printed, _ = self.invoke(*arguments, "--shard", "2/8")
        assert code == 0
        assert printed == (
            "Shard 2/8 trained 6 runs. Of the study's 6, 6 are finished and 0 are being trained by other processes.\n"
            f"Make the report: labelsmooth study {options['data']} --out 'a b' --merge\n"
        )
        code, printed, _ = self.invoke(*arguments, "--shard", "1/8", "--json")
        assert json.loads(printed) == {"trained": 0, "finished": 6, "total": 6}
        assert not (options["out"] / "report.html").exists()

        monkeypatch.setattr("sys.argv", ["labelsmooth", *arguments[:2], "--merge"])
        code, printed, _ = self.invoke(*arguments, "--merge", "--json")
        assert code == 0
        assert json.loads(printed)["command"] == f"labelsmooth study {options['data']}"
        assert (options["out"] / "report.html").exists()
        assert len(trainer.begun) == 6

    def test_a_merge_of_what_is_missing(self, trainer: Trainer, arguments: list[str], options: dict[str, Any]) -> None:
        code, _, said = self.invoke(*arguments, "--merge")
        assert code == 2
        assert "6 of 6 runs are missing" in said
        assert trainer.begun == []
        run_shard(1, 1, **options)
        runs, claims = folders(options)
        shutil.rmtree(runs / trainer.begun[0])
        (runs / trainer.begun[1] / "logits.npz").write_bytes(b"")
        shutil.rmtree(runs / trainer.begun[2])
        foreign(claims, trainer.begun[0], 10)
        foreign(claims, trainer.begun[2], LIMIT + 10)
        with pytest.raises(UserError, match=r"3 of 6 runs are missing .* 1 being trained now, 2 not begun or left off"):
            merge_study(**options)
        with pytest.raises(UserError, match=r"6 of 6 tuning runs are missing .* The same command without --merge"):
            merge_study(**options, tune=True)
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
        ],
    )
    def test_refused(self, arguments: list[str], more: list[str], sentence: str) -> None:
        code, _, said = self.invoke(*arguments, *more)
        assert code == 2
        assert sentence in said


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")
