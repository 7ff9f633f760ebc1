"""Every policy with the classes spread over two processes, unevenly, beside one process."""

from __future__ import annotations

import torch
import torch.multiprocessing as mp
from cases import POLICIES, REDUCTIONS, numbers
from processes import gloo

import labelsmooth as ls

K, SPLIT = 10, (0, 6, 10)


def _compare(rank: int, path: str) -> None:
    with gloo(rank, 2, path):
        mine = slice(SPLIT[rank], SPLIT[rank + 1])
        logits, labels = 6 * numbers(7, K, seed=11) - 3, (K * numbers(7, seed=12)).long()
        labels[3] = -100
        for case in POLICIES:
            policy = case.make(labels, K)
            for reduction in REDUCTIONS:
                options = dict(reduction=reduction, label_smoothing=policy)
                whole, part = logits.clone().requires_grad_(), logits[:, mine].clone().requires_grad_()
                expected = ls.cross_entropy(whole, labels, **options)
                loss = ls.vocab_parallel_cross_entropy(part, labels, **options)
                message = f"{case.name}, {reduction}"
                torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9, msg=lambda m, at=message: f"{at}: {m}")
                expected.sum().backward()
                loss.sum().backward()
                torch.testing.assert_close(
                    part.grad, whole.grad[:, mine], rtol=1e-9, atol=1e-9, msg=lambda m, at=message: f"{at}: {m}"
                )


def test_same_as_one_process(tmp_path) -> None:
    mp.spawn(_compare, args=(str(tmp_path / "store"),), nprocs=2)
