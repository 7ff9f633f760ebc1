"""Claims in a shared folder: one holder at a time, the dead and the stale taken over, and only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labelsmooth.study import claims as module
from labelsmooth.study.claims import LIMIT, Claims


def age(path: Path, seconds: float) -> None:
    """As if the last heartbeat had been this long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def foreign(folder: Path, name: str, seconds: float, number: int = 1) -> Path:
    """The claim of a process of another machine, last touched so long ago."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{number}.claim"
    path.write_text(json.dumps({"place": "another machine", "pid": os.getpid(), "token": f"foreign {number}"}))
    age(path, seconds)
    return path


def test_a_claim_has_one_holder_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path).take("run") as first, Claims(tmp_path).take("run") as second:
        assert first is not None
        assert first.held()
        assert second is None
        with Claims(tmp_path).take("other") as other:
            assert other is not None
        holder = Claims(tmp_path).holder("run")
        assert holder is not None
        assert (holder.pid, holder.token) == (os.getpid(), first.token)
    assert list(tmp_path.iterdir()) == []
    with Claims(tmp_path).take("run") as third:
        assert third is not None


def test_an_error_within_releases_the_claim(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Claims(tmp_path).take("run"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seconds", "taken"), [(LIMIT - 10, False), (LIMIT + 10, True)])
def test_a_claim_without_a_heartbeat_is_taken_over(tmp_path: Path, seconds: float, taken: bool) -> None:
    foreign(tmp_path, "run", seconds)
    with Claims(tmp_path).take("run") as claim:
        assert (claim is not None) == taken
        if claim is not None:
            assert claim.held()
            assert claim.wary
    assert [path.name for path in tmp_path.iterdir()] == ([] if taken else ["run.1.claim"])


def test_the_clock_of_this_machine_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(tmp_path, "fresh", LIMIT - 10)
    foreign(tmp_path, "stale", LIMIT + 10)
    real = time.time()
    for wrong in (real - 1e6, real + 1e6):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: wrong)
        monkeypatch.setattr(time, "time_ns", lambda wrong=wrong: int(wrong * 1e9))
        assert Claims(tmp_path).holder("fresh") is not None
        assert Claims(tmp_path).holder("stale") is None


def test_the_file_systems_time_goes_on_between_two_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(tmp_path, "run", LIMIT - 10)
    claims = Claims(tmp_path)
    assert claims.holder("run") is not None
    ticks = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: ticks + LIMIT / module.BEATS - 1)
    assert claims.holder("run") is not None
    foreign(tmp_path, "run", LIMIT - 5)
    assert claims.holder("run") is None


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    with Claims(tmp_path).take("run") as claim:
        assert claim is not None
        path = tmp_path / "run.1.claim"
        edit(path, pid=dead.pid)
        assert Claims(tmp_path).holder("run") is None
        with Claims(tmp_path).take("run") as second:
            assert second is not None
            assert not second.wary
    # The same number on another machine, or in another container, says nothing.
    edit(foreign(tmp_path, "run", 0), pid=dead.pid)
    assert Claims(tmp_path).holder("run") is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"place": "here"}'])
def test_a_claim_that_cannot_be_read_is_respected_until_it_is_stale(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.1.claim"
    path.write_text(text)
    with Claims(tmp_path).take("run") as claim:
        assert claim is None
    age(path, LIMIT + 1)
    with Claims(tmp_path).take("run") as claim:
        assert claim is not None


def test_of_many_who_find_a_stale_claim_one_takes_it_over(tmp_path: Path) -> None:
    many, rounds = 6, 20
    barrier = threading.Barrier(many)

    def compete(name: str) -> bool:
        claims = Claims(tmp_path)
        barrier.wait(60)
        with claims.take(name) as claim:
            barrier.wait(60)  # nobody releases before all have tried
            return claim is not None

    with ThreadPoolExecutor(many) as pool:
        for number in range(rounds):
            foreign(tmp_path, f"run{number}", LIMIT + 10)
            got = list(pool.map(compete, [f"run{number}"] * many))
            assert sum(got) == 1
    assert list(tmp_path.iterdir()) == []


def test_of_many_who_find_no_claim_at_most_one_gets_it_and_soon_one_does(tmp_path: Path) -> None:
    many, rounds = 4, 10
    holders, most = 0, 0
    lock = threading.Lock()

    def work(_: int) -> int:
        nonlocal holders, most
        claims, done = Claims(tmp_path), 0
        while done < rounds:
            with claims.take("run") as claim:
                if claim is None:
                    time.sleep(0.001)
                    continue
                with lock:
                    holders += 1
                    most = max(most, holders)
                done += claim.held()
                with lock:
                    holders -= 1
        return done

    with ThreadPoolExecutor(many) as pool:
        assert list(pool.map(work, range(many))) == [rounds] * many
    assert most == 1


def test_a_holder_that_slept_too_long_has_lost_its_claim(tmp_path: Path) -> None:
    path = tmp_path / "run.1.claim"
    sleeper = Claims(tmp_path).take("run")
    slept = sleeper.__enter__()
    assert slept is not None
    age(path, LIMIT + 1)
    with Claims(tmp_path).take("run") as second:
        assert second is not None
        assert second.held()
        assert not slept.held()
    with Claims(tmp_path).take("run") as third:
        assert third is not None
        # It has the sleeper's number again: the token tells them apart.
        assert json.loads(path.read_text())["token"] == third.token
        assert not slept.held()
        sleeper.__exit__(None, None, None)
        assert third.held()


def test_a_lost_claim_is_released_without_the_others(tmp_path: Path) -> None:
    with Claims(tmp_path).take("run") as slept:
        assert slept is not None
        other = foreign(tmp_path, "run", 0, number=2)
    assert other.exists()
    assert Claims(tmp_path).holder("run") is not None


def test_a_claim_that_came_back_to_life_meanwhile_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and taking, the stale claim was released and another process has made its own."""
    claims = Claims(tmp_path)
    foreign(tmp_path, "run", LIMIT + 1)
    create = Claims._create

    def late(self: Claims, path: Path, token: str) -> bool:
        monkeypatch.setattr(Claims, "_create", create)
        edit(foreign(tmp_path, "run", 0), token="newcomer")
        return create(self, path, token)

    monkeypatch.setattr(Claims, "_create", late)
    with claims.take("run") as claim:
        assert claim is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.1.claim"]


def test_the_heart_beats_and_notices_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEATS", LIMIT / 0.02)
    with Claims(tmp_path).take("run") as claim:
        assert claim is not None
        path = tmp_path / "run.1.claim"
        age(path, 1000)
        wait_until(lambda: path.stat().st_mtime > time.time() - 500)
        assert not claim.lost
        foreign(tmp_path, "run", 0, number=2)
        wait_until(lambda: claim.lost)


def wait_until(condition) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")
