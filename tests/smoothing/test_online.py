"""Online smoothing: the table by hand, the state, the module that shows it batches, and sums over processes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.multiprocessing as mp
from processes import gloo

import labelsmooth as ls
from labelsmooth.smoothing import Online, Scheduled, mix, schedule

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 0.0]])
LABELS = torch.tensor([0, 0, 1, 2])  # the last is wrong


def expected_table() -> torch.Tensor:
    p = LOGITS.softmax(-1)
    return torch.stack([(p[0] + p[1]) / 2, p[2], torch.full((3,), 1 / 3)])


def test_table_is_the_mean_of_the_correct_predictions() -> None:
    policy = Online(3)
    policy.observe(LOGITS[:2], LABELS[:2])
    policy.observe(LOGITS[2:], LABELS[2:])
    assert policy.table.tolist() == torch.full((3, 3), 1 / 3).tolist()  # unchanged within the epoch
    policy.step()
    torch.testing.assert_close(policy.table, expected_table())
    policy.step()  # an epoch without a prediction
    torch.testing.assert_close(policy.table, torch.full((3, 3), 1 / 3))


def test_ignored_rows_and_dense_shapes() -> None:
    logits = torch.full((1, 3, 6), torch.nan)
    logits[0, :, :4] = LOGITS.T
    labels = torch.tensor([[*LABELS.tolist(), -100, -100]])
    policy = Online(3)
    policy.observe(logits, labels)
    policy.observe(LOGITS[0], torch.tensor(2))  # a single example, wrong
    policy.step()
    torch.testing.assert_close(policy.table, expected_table())


class TestModule:
    def test_observes_every_training_batch(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(Online(3, 0.5))
        logits = LOGITS.clone().requires_grad_()
        criterion(logits, LABELS).backward()
        criterion.eval()
        criterion(3 * LOGITS, LABELS)  # not in training: not observed
        criterion.epsilon.step()
        torch.testing.assert_close(criterion.epsilon.table, expected_table())

    def test_ignore_index_is_passed_on(self) -> None:
        criterion = ls.LabelSmoothingCrossEntropy(Online(3, 0.5), ignore_index=0)
        criterion(LOGITS, LABELS)
        criterion.epsilon.step()
        torch.testing.assert_close(criterion.epsilon.table[0], torch.full((3,), 1 / 3))

    def test_within_a_schedule(self) -> None:
        policy = Scheduled(Online(3), schedule.linear(0.5, 0.1, steps=2))
        criterion = ls.LabelSmoothingCrossEntropy(policy)
        criterion(LOGITS, LABELS)
        policy.step()
        assert policy.epsilon == pytest.approx(0.3)
        torch.testing.assert_close(policy.policy.table, expected_table())


class TestState:
    def test_resumes_in_the_middle_of_an_epoch(self) -> None:
        whole = ls.LabelSmoothingCrossEntropy(Online(3))
        whole(LOGITS[:2], LABELS[:2])
        file = io.BytesIO()
        torch.save(whole.state_dict(), file)
        file.seek(0)
        resumed = ls.LabelSmoothingCrossEntropy(Online(3))
        resumed.load_state_dict(torch.load(file, weights_only=True))
        for criterion in (whole, resumed):
            criterion(LOGITS[2:], LABELS[2:])
            criterion.epsilon.step()
        assert torch.equal(whole.epsilon.table, resumed.epsilon.table)
        torch.testing.assert_close(resumed.epsilon.table, expected_table())

    def test_a_copy_has_its_own_sums(self) -> None:
        policy = Online(3)
        other = copy.deepcopy(policy)
        policy.observe(LOGITS, LABELS)
        other.step()
        torch.testing.assert_close(other.table, torch.full((3, 3), 1 / 3))

    def test_sums_are_not_a_buffer(self) -> None:
        """DistributedDataParallel would copy rank 0's over them."""
        assert [name for name, _ in Online(3).named_buffers()] == ["table"]

    def test_half_and_back(self) -> None:
        policy = Online(3).half()
        policy.observe(LOGITS, LABELS)
        policy.step()
        assert policy.table.dtype == torch.float16
        assert policy(LABELS, 3).base.dtype == torch.float32  # sums are kept in float32 at least


class TestErrors:
    @pytest.mark.parametrize("target", [torch.rand(4, 3), mix(LABELS, LABELS, 0.5)])
    def test_targets_without_labels(self, target) -> None:
        with pytest.raises(TypeError, match="this target is a mixture or class probabilities"):
            ls.LabelSmoothingCrossEntropy(Online(3))(LOGITS, target)

    def test_other_classes(self) -> None:
        with pytest.raises(ValueError, match="made for num_classes=3, but the input has 4 classes"):
            Online(3)(torch.tensor([0]), 4)
        with pytest.raises(ValueError, match="made for num_classes=3, but the input has 4 classes"):
            Online(3).observe(torch.zeros(1, 4), torch.tensor([0]))

    @pytest.mark.parametrize("classes", [0, 2.0, True])
    def test_no_number_of_classes(self, classes) -> None:
        with pytest.raises(ValueError, match="num_classes="):
            Online(classes)


def _two_processes(rank: int, path: str) -> None:
    with gloo(rank, 2, path):
        # In a DistributedDataParallel model, whose forward copies rank 0's buffers to the others.
        model = torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.eye_(model.weight)
        model.criterion = ls.LabelSmoothingCrossEntropy(Online(3))
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        for i in (2 * rank, 2 * rank + 1):
            model.criterion(parallel(LOGITS[i : i + 1]), LABELS[i : i + 1])
        model.criterion.epsilon.step()
        torch.testing.assert_close(model.criterion.epsilon.table, expected_table())


def test_sums_over_processes(tmp_path) -> None:
    mp.spawn(_two_processes, args=(str(tmp_path / "store"),), nprocs=2)
