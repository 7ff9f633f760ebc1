"""Where a killed training goes on: one checkpoint, replaced whole at the end of each epoch, read without unpickling."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO, Any

import labelsmooth._torchvision  # noqa: F401  (before Lightning)

# isort: split
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from labelsmooth.files import disk_errors, whole_file

__all__ = ["BestEpoch", "WholeCheckpointIO", "drop_checkpoint", "every_epoch", "find_checkpoint"]

NAME, BEST = "last", "best"


class WholeCheckpointIO(TorchCheckpointIO):
    """A checkpoint is the old one or the new one, never a part."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with disk_errors(Path(path)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(Path(path)) as file:
                _save(checkpoint, file)


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """torch.save, which ends a write that the disk refuses with an error of its own about the archive's length."""
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from None


class BestEpoch(ModelCheckpoint):
    """Keeps the epoch of the least validation NLL, also when the folder has moved since: Lightning keeps absolute
    paths."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / BEST, monitor="validation_nll", save_weights_only=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_moved(state_dict, str(state_dict["dirpath"]), str(self.dirpath)))


def _moved(value: Any, old: str, new: str) -> Any:
    """The same with every path that begins with ``old`` beginning with ``new``."""
    if isinstance(value, str):
        return new + value[len(old) :] if value.startswith(old) else value
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(each, old, new) for key, each in value.items()}
    return value


def every_epoch(folder: Path) -> ModelCheckpoint:
    """Saves the whole state of the training at the end of each epoch."""
    return ModelCheckpoint(
        folder, NAME, save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that a killed process left in the folder; a damaged one is deleted."""
    for partial in folder.rglob(".*.partial"):
        partial.unlink(missing_ok=True)
    path = folder / f"{NAME}.ckpt"
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # whatever a damaged archive raises: the training starts over
        drop_checkpoint(folder)
        return None
    return path


def drop_checkpoint(folder: Path) -> None:
    """Delete the checkpoints of a training whose results are kept."""
    (folder / f"{NAME}.ckpt").unlink(missing_ok=True)
    shutil.rmtree(folder / BEST, ignore_errors=True)
