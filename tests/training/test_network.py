"""What is done to a network for several processes leaves it the function that it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from labelsmooth.training import make_network
from labelsmooth.training.network import synchronise_batch_norm


@pytest.mark.parametrize("backbone", ["small-cnn", "test_resnet", "test_efficientnet"])
def test_synchronised_batch_norm_is_the_same_function(backbone: str) -> None:
    torch.manual_seed(0)
    network = make_network(backbone, 4, (3, 64, 64)).eval()
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    synchronised = synchronise_batch_norm(copy.deepcopy(network)).eval()
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules()) == norms > 0
    torch.testing.assert_close(synchronised(images), network(images), rtol=0, atol=0)
    assert synchronised.state_dict().keys() == network.state_dict().keys()
    assert any(module is synchronised.head for module in synchronised.modules())
