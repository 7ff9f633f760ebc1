"""How batches are loaded: on the CPU in this process, beside a GPU by workers into pinned memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from labelsmooth.data import load_dataset
from labelsmooth.data.batches import evaluation_batches, training_batches


def test_workers_and_pinned_memory_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataclasses.replace(load_dataset("digits"), augment="photo")
    members = np.arange(200)
    loader = training_batches(data, members, 16, 32, 0)
    assert (loader.num_workers, loader.pin_memory) == (0, False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    loader = training_batches(data, members, 16, 32, 0)
    assert (loader.num_workers, loader.pin_memory, loader.persistent_workers) == (1, True, True)
    loader = evaluation_batches(data, members, 16, 32)
    assert (loader.num_workers, loader.pin_memory, loader.persistent_workers) == (0, True, False)
