"""What is installed and what would run: versions, device, threads, the kernel, and missing extras."""

from __future__ import annotations

import os
import platform

import torch

from labelsmooth.extras import EXTRAS, missing, version
from labelsmooth.kernels.choose import choose

CORE = ("labelsmooth", "torch", "numpy", "numba")


def report() -> str:
    """The lines that ``labelsmooth doctor`` prints.  It imports nothing but torch."""
    lines = [f"Python       {platform.python_version()} on {platform.system()} {platform.machine()}"]
    lines += [f"{name:12} {version(name)}" for name in CORE]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU with {os.cpu_count()} cores"
    lines += ["", f"device       {name}", f"threads      {torch.get_num_threads()} (set OMP_NUM_THREADS to change)"]
    for dtype in (torch.float32, torch.bfloat16):
        choice = choose(device, dtype)
        lines.append(f"kernel       {str(dtype).removeprefix('torch.')}: {choice.kernel} ({choice.reason})")
    for extra, packages in EXTRAS.items():
        absent = missing(extra)
        lines += ["", f"extra {extra}: " + ("incomplete" if absent else "complete")]
        lines += [f"  {name:12} {'missing' if name in absent else version(name)}" for name in packages]
        if absent:
            lines.append(f"  install with: pip install 'labelsmooth[{extra}]'")
    return "\n".join(lines)
