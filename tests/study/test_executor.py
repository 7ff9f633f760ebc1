"""Runs in worker processes: the same numbers as in one process, whatever is killed, and nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import TINY

from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.study import StudyRecord, executor

KILLS = 20

# Lightning takes seconds to import, so one process imports it and forks a child for each attempt.
ATTEMPTS = """
import os, random, signal, sys, time
import torch
import labelsmooth.training.fit
from labelsmooth.study import Workers, run_study

torch.set_num_threads(1)
data, out, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = dict(data=data, methods=("label-smoothing", "early-stopping"), seeds=2, epochs=2, batch_size=32, out=out)

def attempt():
    child = os.fork()
    if child == 0:
        try:
            run_study(executor=Workers(1), command="labelsmooth study <tiny>", **options)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return child

delays = random.Random(0)
longest = 2.0
for _ in range(kills):
    child = attempt()
    time.sleep(delays.uniform(0, longest))
    if os.waitpid(child, os.WNOHANG) == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    else:
        # It finished before it was killed: delete a run, so that there is something to kill.
        import shutil
        shutil.rmtree(sorted(entry.path for entry in os.scandir(out + "/runs"))[0])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(attempt(), 0)[1]))
"""


def test_killed_twenty_times_a_study_ends_the_same(tiny_study: StudyRecord, tiny_npz: Path, tmp_path: Path) -> None:
    args = [sys.executable, "-c", ATTEMPTS, str(tiny_npz), str(tmp_path), str(KILLS)]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "study.json").read_text())
    assert written["summary"] == [dataclasses.asdict(row) for row in tiny_study.summary]
    assert written["verdict"] == tiny_study.verdict
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(run.id for run in tiny_study.runs)


@pytest.fixture
def command(tiny_npz: Path, tmp_path: Path) -> list[str]:
    options = ["--methods", ",".join(TINY["methods"]), "--seeds", "2", "--epochs", "2", "--batch-size", "32"]
    study = ["study", str(tiny_npz), *options, "--out", str(tmp_path), "--workers", "2"]
    return [sys.executable, "-m", "labelsmooth", *study]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and so it would be here when the tests are one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def workers(parent: int) -> list[int]:
    """The processes that train for a study."""
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in lines]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == parent and "popen_loky" in args]


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_study_leaves_no_process_and_a_killed_worker_is_replaced(
    tiny_study: StudyRecord, command: list[str], tmp_path: Path
) -> None:
    process = start(command)
    wait_until(lambda: list(tmp_path.rglob("last.ckpt")))
    trained_by = workers(process.pid)
    assert len(trained_by) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(exists(pid) for pid in trained_by))

    process = start([*command, "--json"])
    wait_until(lambda: len(workers(process.pid)) == 2)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    study = json.loads(printed)
    assert study["summary"] == [dataclasses.asdict(row) for row in tiny_study.summary]
    assert study["verdict"] == tiny_study.verdict
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(run.id for run in tiny_study.runs)


def test_ctrl_c_ends_the_workers_and_says_how_to_continue(command: list[str], tmp_path: Path) -> None:
    # In a group of its own, all of which Ctrl-C reaches.
    process = subprocess.Popen(
        [*command, "--epochs", "2000"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        preexec_fn=lambda: (os.setpgrp(), signal.signal(signal.SIGINT, signal.SIG_DFL)),
    )
    wait_until(lambda: len(list(tmp_path.rglob("last.ckpt"))) == 2)
    trained_by = workers(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. 0 of 6 runs are finished" in " ".join(errors.split())
    assert "run the same command again to continue" in " ".join(errors.split())
    assert "Traceback" not in errors
    assert not any(exists(pid) for pid in trained_by)


class FakeWorker:
    """A worker whose process is killed at certain runs."""

    def __init__(self, number: int, fatal: dict[str, int]) -> None:
        self.number, self.fatal = number, fatal
        self.restarts = 0
        self.stopped = False

    def submit(self, job: Any) -> Future[None]:
        future: Future[None] = Future()
        self.fatal[job] = self.fatal.get(job, 0) - 1
        if self.fatal[job] >= 0:
            future.set_exception(BrokenExecutor())
        else:
            future.set_result(None)
        return future

    def epochs(self) -> list[tuple[int, int]]:
        return [(1, 2)]

    def restart(self) -> None:
        self.restarts += 1

    def stop(self) -> None:
        self.stopped = True


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[object] = []

    def run(self, title: str, seed: int, worker: int = 0, epochs: int = 1) -> None:
        self.said.append((title, seed, worker))

    def epoch(self, done: int, total: int, worker: int = 0) -> None:
        self.said.append((done, total, worker))


class Job(str):
    """A job that is its title."""

    @property
    def title(self) -> str:
        return str(self)

    spec = SimpleNamespace(seed=7, backbone="small-cnn", epochs=2)


def test_a_run_whose_worker_is_killed_is_tried_again() -> None:
    fatal = {"b": 2}
    pair = [FakeWorker(0, fatal), FakeWorker(1, fatal)]
    finished = executor._in_workers([Job(name) for name in "abcd"], Progress(), pair)
    assert sorted(finished) == ["a", "b", "c", "d"]
    assert sum(worker.restarts for worker in pair) == 2
    assert all(worker.stopped for worker in pair)


def test_a_run_whose_worker_is_always_killed_is_an_error() -> None:
    fatal = {"b": 99}
    pair = [FakeWorker(0, fatal), FakeWorker(1, fatal)]
    with pytest.raises(
        UserError, match=r"trained b was killed 3 times.*fewer --workers than 2: finished runs are kept"
    ):
        list(executor._in_workers([Job(name) for name in "abcd"], Progress(), pair))
    assert all(worker.stopped for worker in pair)


def test_progress_says_which_worker_trains_what() -> None:
    heard = Heard()
    list(executor._in_workers([Job("a"), Job("b")], heard, [FakeWorker(0, {}), FakeWorker(1, {})]))
    assert heard.said == [("a", 7, 0), ("b", 7, 1), (1, 2, 0), (1, 2, 1)]


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, ["0", "1", "0"]), ("5,GPU-7", ["5", "GPU-7", "5"])], ids=["all", "chosen"]
)
def test_each_worker_sees_one_gpu(monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: list[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    made = [executor._Worker(number, None, threads=1, gpus=2) for number in range(3)]  # type: ignore[arg-type]
    assert [worker._environment["CUDA_VISIBLE_DEVICES"] for worker in made] == expected


@pytest.mark.parametrize(
    ("count", "gpus", "cores", "backbone", "jobs", "expected"),
    [
        (None, 0, 8, "small-cnn", 30, (8, 1)),
        (None, 0, 8, "small-cnn", 3, (3, 1)),
        (None, 0, 8, "resnet34", 30, (2, 4)),
        (None, 0, 2, "resnet34", 30, (1, 2)),
        (None, 4, 8, "small-cnn", 30, (4, 1)),
        (3, 0, 2, "small-cnn", 30, (3, 1)),
        (1, 4, 8, "resnet34", 30, (1, 4)),
    ],
)
def test_how_many_workers_and_threads(
    monkeypatch: pytest.MonkeyPatch, count: Any, gpus: int, cores: int, backbone: str, jobs: int, expected: Any
) -> None:
    monkeypatch.setattr("loky.cpu_count", lambda: cores)
    assert executor.plan(count, gpus, backbone, jobs) == expected
