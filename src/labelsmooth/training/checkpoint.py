"""The checkpoint from which a stopped training resumes: replaced at the end of each epoch, read without unpickling."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before Lightning)

import shutil
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from labelsmooth.files import disk_errors, whole_file

NAME, BEST = "last", "best"


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file and renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with disk_errors(Path(path)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(Path(path)) as file:
                _save(checkpoint, file)


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """torch.save; a RuntimeError that it raises for a failed or interrupted write becomes what caused it."""
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError | KeyboardInterrupt | SystemExit):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from None


class BestEpoch(ModelCheckpoint):
    """Keeps the epoch of the lowest validation NLL.  Lightning saves absolute paths; they are corrected where the
    folder has moved."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / BEST, monitor="validation_nll", save_weights_only=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_moved(state_dict, str(state_dict["dirpath"]), str(self.dirpath)))


def _moved(value: Any, old: str, new: str) -> Any:
    """``value`` with ``old`` replaced by ``new`` at the beginning of every path in it."""
    if isinstance(value, str):
        return new + value[len(old) :] if value.startswith(old) else value
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(item, old, new) for key, item in value.items()}
    return value


def every_epoch(folder: Path) -> ModelCheckpoint:
    """The callback that saves the state of the training at the end of each epoch."""
    return ModelCheckpoint(
        folder, NAME, save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in a folder, or None; a damaged one is deleted."""
    return None if _checkpoint(folder) is None else folder / f"{NAME}.ckpt"


def finished_epochs(folder: Path) -> int:
    """How many epochs the checkpoint in a folder holds; 0 without one."""
    checkpoint = _checkpoint(folder)
    return 0 if checkpoint is None else len(checkpoint["history"]["train_loss"])


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    """The content of the checkpoint in a folder."""
    for partial in folder.rglob(".*.partial"):
        partial.unlink(missing_ok=True)
    try:
        content: dict[str, Any] = torch.load(folder / f"{NAME}.ckpt", map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # a damaged archive raises many kinds; the training starts over
        drop_checkpoint(folder)
        return None
    return content


def drop_checkpoint(folder: Path) -> None:
    """Delete the checkpoints of a training whose results are saved."""
    (folder / f"{NAME}.ckpt").unlink(missing_ok=True)
    shutil.rmtree(folder / BEST, ignore_errors=True)
