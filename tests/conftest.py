"""Settings for every test: how hard hypothesis tries, and where the real data lies."""

from __future__ import annotations

import os
from pathlib import Path

import labelsmooth._torchvision  # noqa: F401  (before any test imports timm, torchvision or torchmetrics)

# isort: split
import pytest
from hypothesis import settings

settings.register_profile("default", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("default")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data that LABELSMOOTH_DATA names; a test that needs it is skipped where it names none."""
    value = os.environ.get("LABELSMOOTH_DATA")
    if not value:
        pytest.skip("LABELSMOOTH_DATA names no folder of real data (Fashion-MNIST, Oxford-IIIT Pet, weights)")
    folder = Path(value)
    assert folder.is_dir(), f"LABELSMOOTH_DATA={value} is not a folder"
    return folder
