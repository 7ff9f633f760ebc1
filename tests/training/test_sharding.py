"""A network whose weights two processes share out among themselves computes what it did when it was whole."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from processes import gloo, shards
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from labelsmooth.errors import UserError
from labelsmooth.training import sharding
from labelsmooth.training.engine import Engine


class Looping(nn.Module):
    """A network that never calls the container of its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)) for _ in range(3)))
        self.head = nn.Linear(8, 5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.stem(inputs)
        for block in self.blocks:
            x = x + block[1](block[0](x))
        return self.head(x)


def _in_process(rank: int, size: int, rendezvous: str) -> None:
    with gloo(rank, size, rendezvous):
        torch.manual_seed(0)
        sharding.BLOCK = 50
        whole = Looping().eval()
        network, inputs = copy.deepcopy(whole), torch.randn(6, 8)
        sharding.shard(network, init_device_mesh("cpu", (size,)))
        sharded = [module for module in network.modules() if isinstance(module, FSDPModule)]
        assert len(sharded) == 5  # the stem, the linear layer of each block, and the root with the rest
        for parameter in network.parameters():
            assert isinstance(parameter, DTensor)
            assert sharding.local(parameter).numel() <= -(-parameter.shape[0] // size) * parameter[0].numel()
        torch.testing.assert_close(network(inputs), whole(inputs))

        state = sharding.whole_state(network)
        assert state.keys() == whole.state_dict().keys()
        for name, value in whole.state_dict().items():
            assert type(state[name]) is torch.Tensor
            torch.testing.assert_close(state[name], value, rtol=0, atol=0)
        other = Looping().eval()
        sharding.load_whole(network, other.state_dict())
        torch.testing.assert_close(network(inputs), other(inputs))
        sharding.load_whole(whole, other.state_dict())  # and into one that is not sharded
        torch.testing.assert_close(whole(inputs), other(inputs))


@shards
def test_a_sharded_network_is_the_whole_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_in_process, args=(2, str(tmp_path / "rendezvous")), nprocs=2)


def test_engine_refuses_what_does_not_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no strategy 'zero3'; there are ddp and fsdp"):
        Engine(2, strategy="zero3")
    with pytest.raises(UserError, match="sharded by fsdp is not compiled"):
        Engine(2, strategy="fsdp", compile=True)
    monkeypatch.setattr(torch, "__version__", "2.8.1+cpu")
    with pytest.raises(UserError, match=r"needs PyTorch 2\.9 or later, and this is 2\.8\.1\+cpu; give ddp"):
        Engine(2, strategy="fsdp")
    assert not Engine(1, strategy="fsdp", compile=True).sharded  # one process has the whole network
