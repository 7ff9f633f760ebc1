"""Killed at random moments, a training ends with the same weights, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KILLS = 20

# Lightning takes seconds to import, so one process imports it and forks a child for each attempt.
ATTEMPTS = """
import os, random, signal, sys, time
import torch
import labelsmooth.training.fit
from labelsmooth.models import TrainConfig, train
from labelsmooth.training import Settings

torch.set_num_threads(1)
data, out, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
from pathlib import Path
config = TrainConfig(data=data, out=Path(out), epochs=8, batch_size=32, resume=True,
                     settings=Settings(epsilon=0.1, dropout=0.3, mixup=0.2, patience=8), ema=0.9)

def attempt():
    child = os.fork()
    if child == 0:
        try:
            train(config)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return child

if kills == 0:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(attempt(), 0)[1]))
delays, killed, longest = random.Random(0), 0, 2.0
while killed < kills:
    child = attempt()
    time.sleep(delays.uniform(0, longest))
    if os.waitpid(child, os.WNOHANG) != (0, 0):
        # It finished before it was killed: delete what it made, so that there is something to kill.
        import shutil
        shutil.rmtree(out)
        longest *= 0.7
        continue
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    killed += 1
status = 1
if not (Path(out) / "config.json").exists():
    status = os.waitstatus_to_exitcode(os.waitpid(attempt(), 0)[1])
print(killed, longest)
sys.exit(status)
"""


def attempts(data: Path, out: Path, kills: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    args = [sys.executable, "-c", ATTEMPTS, str(data), str(out), str(kills)]
    done = subprocess.run(args, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_killed_twenty_times_it_ends_with_the_same_weights(tiny_npz: Path, tmp_path: Path) -> None:
    """Dropout, mixup, an average of the weights and early stopping all have a state that must survive."""
    attempts(tiny_npz, tmp_path / "calm", 0)
    attempts(tiny_npz, tmp_path / "killed", KILLS)
    calm, killed = (tmp_path / name for name in ("calm", "killed"))
    assert (killed / "model.safetensors").read_bytes() == (calm / "model.safetensors").read_bytes()
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (calm, killed))
    assert one["history"] == two["history"]
    assert one["metrics"] == two["metrics"]
    assert not list(killed.rglob("*.partial"))
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in calm.iterdir())
