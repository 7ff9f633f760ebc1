"""Megatron-LM: its vocabulary-parallel cross-entropy, with smoothing over all classes."""

from __future__ import annotations

import sys

import torch.distributed as dist
from torch import Tensor

from labelsmooth.loss import vocab_parallel_cross_entropy as of_rows
from labelsmooth.smoothing import Uniform

__all__ = ["vocab_parallel_cross_entropy"]


def vocab_parallel_cross_entropy(
    vocab_parallel_logits: Tensor,
    target: Tensor,
    label_smoothing: float = 0.0,
    *,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """What ``megatron.core.tensor_parallel.vocab_parallel_cross_entropy`` computes on one rank, on any number of them.

    Megatron gives the label 1 - epsilon and each other class epsilon / (K - 1), ``over="others"`` here.  On several
    ranks its K and its mean are those of the classes of the own rank, so with smoothing each rank has another loss;
    this one is that of all classes, the same on each rank.  Without smoothing both are the same.

    Args:
        vocab_parallel_logits: this rank's [s, b, K_local], or any shape that ends in K_local.
        target: [s, b], labels over all classes; -100 has no loss.
        label_smoothing: epsilon in [0, 1].
        group: the ranks; None for Megatron's tensor-parallel group, or without Megatron the default group.

    Returns:
        [s, b], float32.

    Raises:
        IndexError, RuntimeError, ValueError: as :func:`labelsmooth.vocab_parallel_cross_entropy`.

    Example:
        >>> import torch
        >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> vocab_parallel_cross_entropy(torch.zeros(2, 1, 4), torch.tensor([[0], [3]]), 0.1)
        tensor([[1.3863],
                [1.3863]])
        >>> torch.distributed.destroy_process_group()

    Source: Shoeybi et al., "Megatron-LM", 2019, whose library has the signature.
    """
    if group is None:
        group = _tensor_parallel_group()
    policy = Uniform(label_smoothing, over="others")
    logits = vocab_parallel_logits.flatten(0, -2)
    losses = of_rows(logits, target.flatten(), reduction="none", label_smoothing=policy, group=group)
    return losses.reshape(target.shape)


def _tensor_parallel_group() -> dist.ProcessGroup | None:
    """Megatron's, where it is imported and has made its groups."""
    state = sys.modules.get("megatron.core.parallel_state")
    if state is None or not state.model_parallel_is_initialized():
        return None
    group: dist.ProcessGroup = state.get_tensor_model_parallel_group()
    return group
