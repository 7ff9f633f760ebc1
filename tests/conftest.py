"""Settings for every test: its random numbers, how hard hypothesis tries, and where the real data lies."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before any test imports timm, torchvision or torchmetrics)

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import settings
from tiny import TINY

if TYPE_CHECKING:
    from labelsmooth.study import StudyRecord

# Studies train in the test's process, unless a test asks for workers: a worker takes seconds to start.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"

settings.register_profile("default", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("default")

# Several folders have one, and only one module of a name can be looked through for examples.
collect_ignore_glob = ["*/conftest.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The same numbers for a test, and for the fixtures it is the first to need, whatever ran before it."""
    seed = int(os.environ.get("LABELSMOOTH_TEST_SEED", "0"))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (what the tested libraries draw from)
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data that LABELSMOOTH_DATA names; a test that needs it is skipped where it names none."""
    value = os.environ.get("LABELSMOOTH_DATA")
    if not value:
        pytest.skip("LABELSMOOTH_DATA names no folder of real data (Fashion-MNIST, Oxford-IIIT Pet, weights)")
    folder = Path(value)
    assert folder.is_dir(), f"LABELSMOOTH_DATA={value} is not a folder"
    return folder


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 digits of three classes, small enough to train on in a test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = np.flatnonzero(digits.target < 3)[:240]
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    images = (digits.images[chosen] * 15).astype(np.uint8)
    np.savez(path, images=images, labels=digits.target[chosen], classes=np.array(["zero", "<script>", "t&wo"]))
    return path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished tiny study's folder."""
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="session")
def tiny_study(tiny_npz: Path, tiny_folder: Path) -> StudyRecord:
    """A real study small enough for tests: 240 digits of three classes, and two short trainings of each method."""
    from labelsmooth.study import StudyConfig, run_study

    return run_study(StudyConfig(data=str(tiny_npz), out=tiny_folder, **TINY), command="labelsmooth study <tiny>")


@pytest.fixture
def predictions_npz(tmp_path: Path) -> Path:
    """Logits of 200 rows and 3 classes with labels that they calibrate."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(200, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    np.savez(tmp_path / "p.npz", logits=logits, labels=labels)
    return tmp_path / "p.npz"
