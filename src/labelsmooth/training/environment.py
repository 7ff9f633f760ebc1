"""What a result was made with: versions, device and threads."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

__all__ = ["versions"]

PACKAGES = ("labelsmooth", "torch", "numpy", "lightning", "timm", "torchvision", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of everything that decides the numbers, and the device they were made on."""
    installed = {dist.name.lower(): dist.version for dist in metadata.distributions() if dist.name}
    found = {"python": platform.python_version()}
    found |= {package: installed.get(package, "not installed") for package in PACKAGES}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    return {**found, "device": device, "threads": str(torch.get_num_threads())}
