"""Fully sharded data parallelism (FSDP2): each process holds a shard of every weight, its gradient and its optimiser
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

BLOCK = 1_000_000  # parameters; a block of at least this many is gathered by itself
# Some networks never call their containers, and a module that is not called is not gathered.
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a network in place over a one-dimensional mesh, each large block by itself."""
    for child in network.children():
        _shard_blocks(child, mesh)
    fully_shard(network, mesh=mesh)


def _shard_blocks(module: nn.Module, mesh: DeviceMesh) -> int:
    """Shard the large blocks within a module; returns the number of parameters left for its parent."""
    left = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    left += sum(_shard_blocks(child, mesh) for child in module.children())
    if left < BLOCK or isinstance(module, CONTAINERS):
        return left
    fully_shard(module, mesh=mesh)
    return 0


def local(tensor: Tensor) -> Tensor:
    """This process's shard of a sharded tensor; any other tensor unchanged."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of a sharded network with every tensor gathered; all processes must call this together."""
    return {
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()
        for name, tensor in network.state_dict().items()
    }


def load_whole(module: nn.Module, state: dict[str, Any]) -> None:
    """Load a state of unsharded tensors into a module that may be sharded."""
    set_model_state_dict(module, state, options=StateDictOptions(full_state_dict=True))
