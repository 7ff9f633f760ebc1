"""The versions, device and threads that a result was computed with."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

__all__ = ["hardware", "versions"]

PACKAGES = ("labelsmooth", "torch", "numpy", "lightning", "timm", "torchvision", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of every package that affects the numbers, the device, and the number of threads."""
    installed = {dist.name.lower(): dist.version for dist in metadata.distributions() if dist.name}
    packages = {package: installed.get(package, "not installed") for package in PACKAGES}
    return {"python": platform.python_version(), **packages, **hardware()}


def hardware() -> dict[str, str]:
    """The device and the number of threads of this process."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    return {"device": device, "threads": str(torch.get_num_threads())}
