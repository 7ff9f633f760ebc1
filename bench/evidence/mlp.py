"""A training loop for what the trainer of studies does not do: students, warm-up, logits after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from images import Images
from torch import Tensor, nn

from labelsmooth.data import ArrayImages, Dataset

__all__ = ["epochs_of", "error", "labels_of", "network", "pixels"]

Loss = Callable[[Tensor, Tensor, int], Tensor]  # (logits, the examples' places in the training part, epoch)


def pixels(images: Images, members: np.ndarray) -> Tensor:
    """The images as rows of standardised pixels."""
    assert isinstance(images.data.images, ArrayImages)
    rows = images.data.images.tensor[torch.from_numpy(members)].flatten(1).float()
    return (rows - 73.0) / 90.0  # mean and standard deviation over Fashion-MNIST


def network(inputs: int, hidden: tuple[int, ...], classes: int, seed: int, dropout: float = 0.0) -> nn.Sequential:
    """A fully connected network."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def epochs_of(model: nn.Module, rows: Tensor, loss: Loss, epochs: int, rate: float = 1e-3) -> Iterator[int]:
    """Train with Adam in batches of 64; yields each epoch's number after it, with the model in evaluation mode."""
    optimizer = torch.optim.Adam(model.parameters(), rate, fused=True)
    for epoch in range(epochs):
        model.train()
        for batch in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            loss(model(rows[batch]), batch, epoch).backward()
            optimizer.step()
        model.eval()
        yield epoch


@torch.no_grad()
def error(model: nn.Module, rows: Tensor, labels: Tensor) -> float:
    """The error in percent."""
    return 100 * float((model(rows).argmax(-1) != labels).float().mean())


def labels_of(data: Dataset, members: np.ndarray) -> Tensor:
    return torch.from_numpy(data.labels[members])
