"""Kills a study again and again, its command or one of its workers, and compares its record with one left alone.

    python bench/study_kills.py [--kills 100] [--longest 20]

The study is of the digits: plain training and label smoothing with three seeds, in two worker processes.  After a
random time of at most --longest seconds, either the command or a random worker is killed with SIGKILL.  The numbers of
both studies must be equal, and the killed one must leave no process, no partial run and no lock.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from harness import table, write

from labelsmooth.study import load_study

OPTIONS = ["study", "digits", "--methods", "label-smoothing", "--seeds", "3", "--workers", "2"]


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "labelsmooth", *OPTIONS, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workers(out: Path) -> list[int]:
    """The worker processes of this user's studies; they end with their command."""
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in lines]
    commands = {pid for pid, _, args in rows if "labelsmooth study" in args and str(out) in args}
    return [int(pid) for pid, ppid, args in rows if ppid in commands and "popen_loky" in args]


def kill_at_random(out: Path, kills: int, longest: float) -> Counter[str]:
    """Start the study and kill a process of it, as often as asked; counts what was killed."""
    draw = random.Random(0)
    counts: Counter[str] = Counter()
    children: set[int] = set()
    process = start(out)
    while counts["command"] + counts["worker"] < kills:
        time.sleep(draw.uniform(0, longest))
        running = workers(out)
        children |= set(running)
        if process.poll() is not None:
            counts["finished before the kill" if process.returncode == 0 else f"ended with {process.returncode}"] += 1
            finished = sorted(path for path in (out / "runs").iterdir() if not path.suffix)
            shutil.rmtree(draw.choice(finished))  # so that there is something left to train
            process = start(out)
        elif draw.random() < 0.5 and running:
            os.kill(draw.choice(running), 9)
            counts["worker"] += 1
        else:
            process.kill()
            process.wait()
            counts["command"] += 1
            process = start(out)
    if process.wait() != 0 and start(out).wait() != 0:
        raise SystemExit("The study does not finish.")
    time.sleep(1)
    if alive := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        raise SystemExit(f"{len(alive)} worker processes are left.")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds until a kill, at most")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        calm, killed = Path(name, "calm"), Path(name, "killed")
        if start(calm).wait() != 0:
            raise SystemExit("The study failed.")
        before = time.perf_counter()
        counts = kill_at_random(killed, chosen.kills, chosen.longest)
        seconds = time.perf_counter() - before
        one, two = load_study(calm), load_study(killed)
        left = sorted(path.name for path in (killed / "runs").iterdir() if path.suffix)
        row = {
            **{f"killed: {name}" if name in ("command", "worker") else name: n for name, n in sorted(counts.items())},
            "same numbers": one.summary == two.summary and one.verdict == two.verdict,
            "left behind": len(left),
            "minutes": round(seconds / 60, 1),
        }
    print(table([row], list(row)))
    write("study_kills", rows=[row])
    if not row["same numbers"] or left:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
