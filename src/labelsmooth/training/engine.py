"""Where and how a run is computed: devices, machines, compilation, precision, loggers, versions."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.torch_version import TorchVersion

from labelsmooth.errors import UserError
from labelsmooth.extras import version
from labelsmooth.training.spec import check_whole

PRECISIONS = ("auto", "32", "bf16", "16")
LOGGERS = ("mlflow", "wandb")
STRATEGIES = ("ddp", "fsdp")
PACKAGES = ("labelsmooth", "torch", "numpy", "lightning", "timm", "torchvision", "scikit-learn")
# Before this release FSDP2 sums the gradients of CPU processes where it should average them.
LEAST_FOR_FSDP = "2.9"

LightningPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Engine:
    """Where a run is computed.

    Args:
        devices: processes on each machine, one for each GPU (or share of the CPU).
        nodes: machines; more than one are started by torchrun or SLURM, which Lightning recognises.
        strategy: with several processes "ddp", each with the whole network, or "fsdp", each with a shard of it.
        compile: compile the network with ``torch.compile``.
        loggers: "mlflow" and "wandb", besides CSV and TensorBoard.

    Raises:
        UserError: a value outside its range, or a PyTorch too old for it.
    """

    devices: int = 1
    nodes: int = 1
    strategy: str = "ddp"
    compile: bool = False
    loggers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole("devices", self.devices, 1)
        check_whole("nodes", self.nodes, 1)
        if self.strategy not in STRATEGIES:
            raise UserError(f"There is no strategy {self.strategy!r}; there are {' and '.join(STRATEGIES)}.")
        if self.sharded and self.compile:
            raise UserError("A network that is sharded by fsdp is not compiled; give one of the two.")
        if self.sharded and TorchVersion(torch.__version__) < LEAST_FOR_FSDP:
            raise UserError(
                f"strategy='fsdp' needs PyTorch {LEAST_FOR_FSDP} or later, and this is "
                f"{torch.__version__}; give ddp, or upgrade."
            )
        for name in self.loggers:
            if name not in LOGGERS:
                raise UserError(f"There is no logger {name!r}; besides CSV and TensorBoard there are mlflow and wandb.")

    @property
    def sharded(self) -> bool:
        """Whether the network is sharded over the processes."""
        return self.strategy == "fsdp" and self.world > 1

    @property
    def world(self) -> int:
        """The number of processes."""
        return self.devices * self.nodes


def is_main_process() -> bool:
    """Whether this is the one process that writes and reports, of those that torchrun, SLURM or Lightning started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def resolve_precision(precision: str) -> LightningPrecision:
    """Lightning's name of a precision; "auto" is bfloat16 where the hardware computes in it, else float32."""
    if precision == "auto":
        return "bf16-mixed" if _has_bfloat16() else "32-true"
    if precision == "16" and not torch.cuda.is_available():
        raise UserError("precision 16 needs a GPU; on a CPU give bf16, 32 or auto.")
    names: dict[str, LightningPrecision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
    return names[precision]


def _has_bfloat16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private names since torch 2.6; without them float32.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name)()) for name in checks if hasattr(torch.cpu, name))


def make_loggers(folder: Path, names: tuple[str, ...]) -> list[Any]:
    """CSV and TensorBoard loggers in ``folder / "logs"``, and those named, whose packages must be installed."""
    from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

    loggers: list[Any] = [CSVLogger(folder, "", "logs"), TensorBoardLogger(folder, "", "logs")]
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise UserError(f"The logger {missing[0]} needs its package: pip install {missing[0]}.")
    if "mlflow" in names:
        loggers.append(MLFlowLogger(experiment_name="labelsmooth", run_name=folder.name))
    if "wandb" in names:
        loggers.append(WandbLogger(project="labelsmooth", name=folder.name, save_dir=str(folder)))
    return loggers


def versions() -> dict[str, str]:
    """Versions of every package that affects the numbers, the device, and the number of threads."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}, **hardware()}


def hardware() -> dict[str, str]:
    """The device and the number of threads of this process."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    return {"device": device, "threads": str(torch.get_num_threads())}
