"""A test's work in one of several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist

from labelsmooth.training.engine import LEAST_FOR_FSDP

shards = pytest.mark.skipif(
    torch.__version__ < LEAST_FOR_FSDP, reason="this PyTorch sums the gradients of sharded CPU processes"
)


@contextmanager
def gloo(rank: int, size: int, rendezvous: str) -> Iterator[None]:
    """This process as one of a group that meets at a file; it ends with the block, unless that raises."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    yield
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # now and then a thread of gloo outlives the group and aborts an interpreter that ends in the usual way
