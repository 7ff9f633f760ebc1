"""fastai's Learner with a loss that has two modes, and a policy that learns or moves with the epochs."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from labelsmooth import LabelSmoothingCrossEntropy, cross_entropy, smoothing

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of the libraries that fastai imports
    pytest.importorskip("fastai")
    from fastai.vision.all import DataLoader, DataLoaders, Learner, MixUp

    from labelsmooth.interop.fastai import SequenceCrossEntropy, SmoothingCallback

K = 3


def make_learner(loss: nn.Module, *callbacks: object) -> Learner:
    torch.manual_seed(0)
    images, labels = torch.randn(12, 1, 2, 2), torch.arange(12) % K
    data = list(zip(images, labels, strict=True))
    loaders = [torch.utils.data.DataLoader(part, batch_size=4) for part in (data[:8], data[8:])]
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, K))
    learner = Learner(DataLoaders(*loaders), model, loss_func=loss, cbs=list(callbacks))
    learner.remove_cb(learner.progress)
    return learner


def plain_validation_loss(learner: Learner) -> float:
    images, labels = next(iter(learner.dls.valid))
    with torch.no_grad():
        return float(cross_entropy(learner.model(images), labels))


def test_the_validation_loss_is_plain_where_it_was_asked_to_be() -> None:
    learner = make_learner(LabelSmoothingCrossEntropy(0.3, smooth_in_eval=False), SmoothingCallback())
    with learner.no_logging():
        learner.fit(2, 0.1)
    assert learner.recorder.values[-1][1] == pytest.approx(plain_validation_loss(learner), rel=1e-5)
    assert float(learner.validate()[0]) == pytest.approx(plain_validation_loss(learner), rel=1e-5)


def test_training_is_smoothed_after_a_validation() -> None:
    seen = []

    class Spy(LabelSmoothingCrossEntropy):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            seen.append((torch.is_grad_enabled(), self.training))
            return super().forward(input, target)

    learner = make_learner(Spy(0.3, smooth_in_eval=False), SmoothingCallback())
    with learner.no_logging():
        learner.fit(2, 0.1)
    assert seen == [(True, True), (True, True), (False, False)] * 2


def test_a_policy_that_learns_sees_the_training_batches_only() -> None:
    tables = {}
    for name, callbacks in {"ours": [SmoothingCallback()], "none": []}.items():
        policy = smoothing.Online(num_classes=K, epsilon=0.5)
        learner = make_learner(LabelSmoothingCrossEntropy(policy), *callbacks)
        seen: list[int] = []
        observe = policy.observe
        policy.observe = lambda x, y, *a, observe=observe, seen=seen: (seen.append(len(y)), observe(x, y, *a))[1]
        with learner.no_logging():
            learner.fit(1, 0.1)
        tables[name] = (sum(seen), policy.table)
    assert tables["ours"][0] == 8
    assert tables["none"][0] == 12  # what the callback is for
    assert not torch.equal(tables["ours"][1], torch.full((K, K), 1 / K))  # stepped


def test_a_schedule_moves_by_the_epoch_under_mixup_too() -> None:
    policy = smoothing.schedule.Scheduled(smoothing.Uniform(0.4), smoothing.schedule.two_stage(0.4, 2))
    learner = make_learner(LabelSmoothingCrossEntropy(policy), MixUp(), SmoothingCallback())
    with learner.no_logging():
        learner.fit(3, 0.1)
    assert policy.count == 3
    assert isinstance(learner.loss_func, LabelSmoothingCrossEntropy)


def test_online_beside_mixup_raises() -> None:
    for policy in (
        smoothing.Online(K),
        smoothing.Scheduled(smoothing.Online(K), smoothing.schedule.constant(0.1)),
    ):
        learner = make_learner(LabelSmoothingCrossEntropy(policy), MixUp(), SmoothingCallback())
        with pytest.raises(ValueError, match="MixUp gives each image two labels"), learner.no_logging():
            learner.fit(1, 0.1)


def test_a_language_model_has_its_classes_on_the_last_axis() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(7, (8, 5))
    data = [(row, row.roll(1)) for row in tokens]
    loaders = [DataLoader(part, bs=4) for part in (data, data[:4])]
    model = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 7))
    learner = Learner(DataLoaders(*loaders), model, loss_func=SequenceCrossEntropy(0.1))
    learner.remove_cb(learner.progress)
    with learner.no_logging():
        learner.fit(1, 0.1)
    probabilities, labels = learner.get_preds()
    assert probabilities.shape == (4, 5, 7)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(4, 5))
    logits = model(tokens[:4]).detach()
    expected = cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    assert float(learner.validate()[0]) == pytest.approx(expected.item(), rel=1e-5)
    loss = SequenceCrossEntropy(0.1)(logits, logits.softmax(-1))
    torch.testing.assert_close(
        loss, cross_entropy(logits.flatten(0, 1), logits.softmax(-1).flatten(0, 1), label_smoothing=0.1)
    )
