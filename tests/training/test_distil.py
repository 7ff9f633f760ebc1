"""The loss of a student, and that each example meets its own teacher's logits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.data.batches import training_batches
from labelsmooth.errors import UserError
from labelsmooth.training.distil import DistillationLoss
from labelsmooth.training.spec import Distillation, RunSpec, Settings


@pytest.mark.parametrize(("temperature", "weight"), [(4.0, 0.9), (0.5, 1.0), (2.0, 0.0), (1.0, 0.3)])
def test_the_loss_is_that_of_hinton(temperature: float, weight: float) -> None:
    """Against PyTorch's divergence, from which the loss differs by a constant: the teacher's entropy."""
    logits = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    teacher, labels = 3 * torch.randn(7, 5, dtype=torch.float64), torch.arange(7) % 5
    loss = DistillationLoss(temperature, weight)(logits, (labels, teacher))
    soft = (teacher / temperature).softmax(-1)
    divergence = F.kl_div((logits / temperature).log_softmax(-1), soft, reduction="batchmean")
    entropy = -(soft * soft.log()).sum(-1).mean()
    expected = (1 - weight) * F.cross_entropy(logits, labels) + weight * temperature**2 * (divergence + entropy)
    torch.testing.assert_close(loss, expected)
    gradients: list[Tensor] = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_each_example_comes_with_its_own_logits(tiny_npz: Path) -> None:
    data = load_dataset(tiny_npz)
    teacher = np.stack([np.arange(len(data.labels)), data.labels, np.zeros(len(data.labels))], 1).astype(np.float32)
    members = split_dataset(data, 0).train
    seen = []
    for images, (labels, rows) in training_batches(
        dataclasses.replace(data, teacher=teacher), members, None, 32, seed=1
    ):
        for image, label, row in zip(images, labels, rows, strict=True):
            torch.testing.assert_close(image, data.images[int(row[0])])
            assert int(label) == int(row[1]) == data.labels[int(row[0])]
            seen.append(int(row[0]))
    assert set(seen) <= set(members)
    assert len(seen) == len(set(seen)) == len(members) - len(members) % 32


@pytest.fixture
def spec() -> RunSpec:
    return RunSpec("", 0, None, "small-cnn", "none", 0, 2, 32, 0.003, Settings(), 0)


def test_the_name_of_a_run_follows_from_its_teacher(spec: RunSpec) -> None:
    def student(teacher: RunSpec, temperature: float = 4.0, weight: float = 0.9) -> RunSpec:
        return dataclasses.replace(spec, distillation=Distillation(teacher, temperature, weight))

    other = dataclasses.replace(spec, settings=Settings(epsilon=0.1))
    ids = {one.id for one in (spec, student(spec), student(other), student(spec, 2.0), student(spec, 4.0, 0.5))}
    assert len(ids) == 5


def test_refused(spec: RunSpec) -> None:
    with pytest.raises(UserError, match=r"temperature=0 must lie in \(0, 1e\+06\)"):
        Distillation(spec, temperature=0)
    with pytest.raises(UserError, match=r"weight=1\.5 must lie in \[0, 1\]"):
        Distillation(spec, weight=1.5)
    with pytest.raises(UserError, match=r"A student is trained with the baseline's settings, not with .*epsilon"):
        dataclasses.replace(spec, settings=Settings(epsilon=0.1), distillation=Distillation(spec))
