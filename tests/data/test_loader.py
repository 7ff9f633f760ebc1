"""How batches are loaded: on the CPU in this process, beside a GPU by workers into pinned memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from labelsmooth.data import load_dataset
from labelsmooth.data.batches import evaluation_batch_size, evaluation_batches, training_batches


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


@pytest.mark.parametrize(
    ("side", "device", "training", "expected"),
    [
        (256, "cpu", 32, 16),  # 128 would hold gigabytes of activations
        (2048, "cpu", 32, 1),
        (32, "cpu", 500, 128),
        (None, "cpu", 32, 128),
        (None, "cpu", 500, 500),
        (256, "cuda", 32, 128),
        (256, "cuda", 500, 500),
    ],
)
def test_the_size_of_evaluation_batches(side: int | None, device: str, training: int, expected: int) -> None:
    assert evaluation_batch_size(side, torch.device(device), training) == expected
