"""Fully sharded data parallelism (FSDP2): each process holds a share of every weight, its gradient and its optimiser
state, and gathers the weights of a block when they are needed.

Source: Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (2023).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

__all__ = ["load_whole", "local", "shard", "whole_state"]

BLOCK = 1_000_000  # parameters from which on a block is gathered by itself
# These only hold others; some networks never call them, and what is not called is not gathered.
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a network in place over a one-dimensional mesh, its large blocks each by itself."""
    for child in network.children():
        _shard_blocks(child, mesh)
    fully_shard(network, mesh=mesh)


def _shard_blocks(module: nn.Module, mesh: DeviceMesh) -> int:
    """Shard what is large within; returns how many parameters are left to whoever holds the module."""
    left = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    left += sum(_shard_blocks(child, mesh) for child in module.children())
    if left < BLOCK or isinstance(module, CONTAINERS):
        return left
    fully_shard(module, mesh=mesh)
    return 0


def local(tensor: Tensor) -> Tensor:
    """This process's share of a sharded tensor, and any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of a sharded network with every tensor whole; all processes must ask at once."""
    return {
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()
        for name, tensor in network.state_dict().items()
    }


def load_whole(module: nn.Module, state: dict[str, Any]) -> None:
    """Load a state of whole tensors into a module that may be sharded."""
    set_model_state_dict(module, state, options=StateDictOptions(full_state_dict=True))
