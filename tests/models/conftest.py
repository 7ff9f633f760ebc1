"""Two models for tests: a small CNN trained on the digits for a moment, and a random network for photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelsmooth import models
from labelsmooth.calibrate import TemperatureScaling
from labelsmooth.data import load_dataset, split_dataset
from labelsmooth.training import Network, make_network

PETS = ("Abyssinian", "=Bengal", "Birman", "<i>Sphynx")


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the training part of the digits, with a temperature that was fitted on their validation part."""
    data = load_dataset("digits")
    split = split_dataset(data, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make_network("small-cnn", 10, tuple(data.images[0].shape), torch.tensor([0.3]), torch.tensor([0.4]))
        optimiser = torch.optim.Adam(network.parameters(), 3e-3)
        images, labels = _tensors(data, split.train)
        for _ in range(2):
            for batch in torch.randperm(len(labels)).split(64):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(images[batch]), labels[batch], label_smoothing=0.1).backward()
                optimiser.step()
    network.eval()
    images, labels = _tensors(data, split.validation)
    with torch.no_grad():
        calibrator = TemperatureScaling().fit(network(images), labels)
    folder = tmp_path_factory.mktemp("models") / "digits"
    models.save_model(
        folder,
        network,
        backbone="small-cnn",
        classes=data.classes,
        input=models.Input(1, 8, 8),
        calibrator=calibrator,
        data={"name": "digits", "fingerprint": data.fingerprint, "split_seed": 0},
        command="labelsmooth train digits",
    )
    return folder


def _tensors(data, members):
    return torch.stack([data.images[int(k)] for k in members]), torch.from_numpy(data.labels[members])


@pytest.fixture(scope="session")
def photo_network() -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = make_network("test_resnet", 4, (3, 64, 64))
        network.eval()
        with torch.no_grad():  # a random network says much the same of every image: stretch what differs
            smooth = torch.nn.functional.interpolate(255 * torch.rand(64, 3, 4, 4), (64, 64), mode="bicubic")
            logits = network(smooth.clamp(0, 255).to(torch.uint8))
            head, scale = network.model.get_classifier(), 2 / logits.std(0)
            head.weight.mul_(scale[:, None])
            head.bias.copy_((head.bias - logits.mean(0)) * scale)
    return network


@pytest.fixture(scope="session")
def photo_model(tmp_path_factory: pytest.TempPathFactory, photo_network: Network) -> Path:
    """Random weights, four classes, photos of 64 pixels, no calibrator."""
    folder = tmp_path_factory.mktemp("models") / "photos"
    models.save_model(
        folder, photo_network, backbone="test_resnet", classes=PETS, input=models.Input.photo(64), recipe={"epochs": 0}
    )
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos in two folders, smooth like real ones; the fourth on its side, as cameras save them."""
    rng = np.random.default_rng(0)
    for k in range(6):
        folder = tmp_path / "photos" / ("cats" if k < 3 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if k == 3 else 1
        small.resize((120, 90), Image.Resampling.BICUBIC).save(folder / f"{k}.png", exif=exif)
    return tmp_path / "photos"
