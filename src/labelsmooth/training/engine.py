"""How a run is computed, which does not change what is computed: devices, machines, compilation, precision, loggers."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.torch_version import TorchVersion

from labelsmooth.errors import UserError

__all__ = ["LOGGERS", "PRECISIONS", "STRATEGIES", "Engine", "is_main_process", "make_loggers", "resolve_precision"]

PRECISIONS = ("auto", "32", "bf16", "16")
LOGGERS = ("mlflow", "wandb")
STRATEGIES = ("ddp", "fsdp")
# Before this release FSDP2 sums the gradients of CPU processes where it should average them.
LEAST_FOR_FSDP = "2.9"

LightningPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Engine:
    """Where a run is computed.

    Args:
        devices: processes on each machine, one to a GPU (or to a share of the CPU).
        nodes: machines; more than one are started by torchrun or SLURM, which Lightning recognises.
        strategy: over several processes "ddp", each with the whole network, or "fsdp", each with a share of it.
        compile: compile the network with ``torch.compile``.
        loggers: besides CSV and TensorBoard, "mlflow" and "wandb", through Lightning.

    Raises:
        UserError: a value outside its range, or a PyTorch too old for it.
    """

    devices: int = 1
    nodes: int = 1
    strategy: str = "ddp"
    compile: bool = False
    loggers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} is too small; give at least 1.")
        if self.strategy not in STRATEGIES:
            raise UserError(f"There is no strategy {self.strategy!r}; there are {' and '.join(STRATEGIES)}.")
        if self.sharded and self.compile:
            raise UserError("A network that is sharded by fsdp is not compiled; leave out one of the two.")
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
        """Whether the network is spread over the processes."""
        return self.strategy == "fsdp" and self.world > 1

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.devices * self.nodes


def is_main_process() -> bool:
    """Whether this process writes and reports, among those that torchrun, SLURM or Lightning started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def resolve_precision(precision: str) -> LightningPrecision:
    """What "auto" means on this device: bfloat16 where the hardware computes in it, float32 elsewhere."""
    if precision == "auto":
        return "bf16-mixed" if _has_bfloat16() else "32-true"
    if precision == "16" and not torch.cuda.is_available():
        raise UserError("precision 16 needs a GPU; on a CPU give bf16, 32 or auto.")
    names: dict[str, LightningPrecision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
    return names[precision]


def _has_bfloat16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Names of torch 2.6 and later; a processor that they do not know computes in float32.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name)()) for name in asked if hasattr(torch.cpu, name))


def make_loggers(folder: Path, names: tuple[str, ...]) -> list[Any]:
    """CSV and TensorBoard in ``folder / "logs"``, and those that were asked for.

    Raises:
        UserError: a logger's package is missing.
    """
    from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

    loggers: list[Any] = [CSVLogger(folder, "", "logs"), TensorBoardLogger(folder, "", "logs")]
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise UserError(f"The logger {missing[0]} needs its package: pip install {missing[0]}.")
    if "mlflow" in names:
        loggers.append(MLFlowLogger(experiment_name="labelsmooth", run_name=folder.name))
    if "wandb" in names:
        loggers.append(WandbLogger(project="labelsmooth", name=folder.name, save_dir=str(folder)))
    return loggers
