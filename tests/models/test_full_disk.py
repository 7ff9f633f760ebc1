"""A write that the system refuses, after any number of bytes, raises UserError; with room again training resumes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the limit on the size of a file is POSIX's")

# One process imports Lightning and forks a child for each limit on the size of a file, in bytes; 0 is none.
ATTEMPTS = """
import errno, os, resource, sys
from pathlib import Path
import torch
import labelsmooth.training.fit
from labelsmooth.models import TrainConfig, train
from labelsmooth.errors import UserError

torch.set_num_threads(1)
config = TrainConfig(data=sys.argv[1], out=Path(sys.argv[2]), epochs=3, resume=True)
for limit in map(int, sys.argv[3:]):
    child = os.fork()
    if child == 0:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        status = 1
        try:
            train(config)
            status = 0
        except UserError as error:
            status = 2
            print(limit, error, flush=True)
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != (2 if limit else 0):
        sys.exit(f"with a limit of {limit} it ended with {status}")
"""


def attempts(data: Path, out: Path, *limits: int) -> list[str]:
    """What each limit makes the training say, and the training's end, where the last limit is 0."""
    args = [sys.executable, "-c", ATTEMPTS, str(data), str(out), *map(str, limits)]
    done = subprocess.run(args, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()


def test_refused_writes_cost_nothing(tiny_npz: Path, tmp_path: Path) -> None:
    calm, full = tmp_path / "calm", tmp_path / "full"
    assert attempts(tiny_npz, calm, 0) == []
    weights = (calm / "model.safetensors").stat().st_size
    # The first byte, a notice, the weights in the checkpoint, its end, and a checkpoint but no report.
    said = attempts(tiny_npz, full, 1, 1000, weights // 2, 2 * weights, 0)
    assert len(said) == 4
    for line in said:
        assert "Could not write" in line
        assert "File too large. Free some space or choose another place" in line
    assert any("last.ckpt" in line for line in said)
    assert (full / "model.safetensors").read_bytes() == (calm / "model.safetensors").read_bytes()
    assert not list(full.rglob("*.partial"))
