"""A real study small enough for tests: 240 digits of three classes, and two short trainings of each method."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import TINY

from labelsmooth.study import StudyConfig, StudyRecord, run_study


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished tiny study's folder."""
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="session")
def tiny_study(tiny_npz: Path, tiny_folder: Path) -> StudyRecord:
    return run_study(StudyConfig(data=str(tiny_npz), out=tiny_folder, **TINY), command="labelsmooth study <tiny>")
