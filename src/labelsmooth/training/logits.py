"""The logits of a part of the data, in order, for any number of processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from labelsmooth.data.batches import evaluation_batches
from labelsmooth.data.dataset import Dataset

__all__ = ["logits_of"]


def logits_of(network: nn.Module, data: Dataset, members: np.ndarray, size: int | None, batch_size: int) -> Tensor:
    """The logits of examples, [N, K] float32 on the CPU, the network in evaluation mode.

    Each of R processes computes every R-th example.  Some examples are repeated so that all processes have the same
    number, as collective operations within the network need; the repetitions are dropped afterwards.

    Args:
        network: uint8 images [B, C, H, W] in, logits out.
        members: the indices of the examples.
        size: side of the crop, or None for small images.
        batch_size: examples at a time.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    share = -(-len(members) // world)
    ours = np.resize(members, share * world)[rank::world]
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            batches = evaluation_batches(data, ours, size, batch_size)
            logits = torch.cat([network(images.to(device)).float() for images, _ in batches])
    finally:
        network.train(training)
    if distributed:
        parts = [torch.empty_like(logits) for _ in range(world)]
        torch.distributed.all_gather(parts, logits)
        logits = torch.stack(parts, 1).flatten(0, 1)[: len(members)]
    return logits.cpu()
