"""The folder of a trained model: each file written whole, and read without executing any of its content."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelsmooth.calibrate import Calibrator
from labelsmooth.calibrate import load as load_calibrator
from labelsmooth.calibrate import save as save_calibrator
from labelsmooth.errors import UserError
from labelsmooth.extras import require
from labelsmooth.files import StrPath, disk_errors, write_bytes, write_json
from labelsmooth.models.config import CALIBRATOR, CONFIG, FORMAT, WEIGHTS, previous, read_config
from labelsmooth.models.held_out import HELD_OUT, HeldOut, load_held_out, save_held_out
from labelsmooth.models.model import Model
from labelsmooth.models.preprocess import Input
from labelsmooth.training.engine import versions
from labelsmooth.training.network import SMALL_CNN, Network, close_names, make_network, mismatches


def save_model(
    folder: StrPath,
    network: nn.Module | Mapping[str, Tensor],
    *,
    backbone: str,
    classes: Sequence[str],
    input: Input,
    calibrator: Calibrator | None = None,
    calibrate: bool | None = None,
    held_out: HeldOut | None = None,
    recipe: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    command: str = "",
) -> None:
    """Write a trained model's folder; other files in it are left alone.

    ``config.json`` is written last and holds a hash of the weights, so that :func:`load` detects a folder whose writing
    was interrupted.

    Args:
        folder: created if it does not exist.
        network: a :class:`labelsmooth.training.Network`, or its state dict.
        backbone: "small-cnn" or the name of a timm model.
        classes: the names of the K classes.
        input: the images that the network takes.
        calibrator: a fitted calibrator, saved in ``calibrator.json``.
        calibrate: whether the model applies the calibrator; by default if there is one.
        held_out: what the calibrated model gives for images that it was not trained on, saved in
            ``held_out.safetensors``; without it the model predicts no sets and marks no image as unlike.
        recipe: how the model was trained.
        data: the data it was trained on; from ``fingerprint``, ``split_seed`` and ``fractions``, :func:`evaluate` and
            :func:`calibrate` derive the parts that it was not trained on.
        command: the command that trained it.

    Raises:
        UserError: the folder cannot be written, or the backbone is unknown.

    Example:
        >>> import tempfile
        >>> from labelsmooth import models
        >>> from labelsmooth.training import make_network
        >>> folder = Path(tempfile.mkdtemp()) / "model"
        >>> network = make_network("small-cnn", 2, (1, 8, 8))
        >>> save_model(folder, network, backbone="small-cnn", classes=["cat", "dog"], input=models.Input(1, 8, 8))
        >>> models.load(folder)
        Model(small-cnn, 2 classes, images of 1 x 8 x 8, no calibrator)
    """
    from safetensors.torch import save

    folder = Path(folder)
    check_backbone(backbone)
    if calibrate and calibrator is None:
        raise UserError("calibrate=True needs a calibrator; give one, or calibrate=False.")
    state = network.state_dict() if isinstance(network, nn.Module) else network
    # The keys of a compiled module have a prefix; safetensors needs contiguous tensors of their own.
    plain = {
        key.replace("_orig_mod.", ""): value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }
    weights = save(plain)
    config = {
        "format": FORMAT,
        "backbone": backbone,
        "classes": list(classes),
        "input": dataclasses.asdict(input),
        "calibrate": calibrator is not None if calibrate is None else calibrate,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "recipe": dict(recipe or {}),
        "data": dict(data or {}),
        "versions": versions(),
        "command": command,
    }
    write_bytes(folder / WEIGHTS, weights)
    with disk_errors(folder / CALIBRATOR):
        (folder / previous(CALIBRATOR)).unlink(missing_ok=True)
        if calibrator is None:
            (folder / CALIBRATOR).unlink(missing_ok=True)
        else:
            save_calibrator(calibrator, folder / CALIBRATOR, overwrite=True)
    with disk_errors(folder / HELD_OUT):
        (folder / previous(HELD_OUT)).unlink(missing_ok=True)
        if held_out is None:
            (folder / HELD_OUT).unlink(missing_ok=True)
    if held_out is not None:
        save_held_out(held_out, folder / HELD_OUT)
    write_json(folder / CONFIG, config)


def set_calibrator(folder: Path, calibrator: Calibrator, held_out: HeldOut, about: Mapping[str, Any]) -> None:
    """Replace the calibrator of a model's folder and its held-out predictions; ``about`` describes the data of the fit.

    The replaced files are kept for :func:`undo_calibration`.
    """
    config = read_config(folder)
    for name in (CALIBRATOR, HELD_OUT):
        with disk_errors(folder / name):
            (folder / previous(name)).unlink(missing_ok=True)
            if (folder / name).exists():
                write_bytes(folder / previous(name), (folder / name).read_bytes())
    with disk_errors(folder / CALIBRATOR):
        save_calibrator(calibrator, folder / CALIBRATOR, overwrite=True)
    save_held_out(held_out, folder / HELD_OUT)
    before = {"calibrate": config["calibrate"], "calibrated": config.get("calibrated")}
    write_json(folder / CONFIG, {**config, "calibrate": True, "calibrated": dict(about), "before": before})


def undo_calibration(folder: StrPath) -> str:
    """Restore the calibrator that the last :func:`calibrate` replaced, or none where there was none.

    Args:
        folder: of the model.

    Returns:
        A sentence that says what the model applies now.

    Raises:
        UserError: the folder is not a model's, or was not calibrated since its training or the last undo.
    """
    folder = Path(folder)
    config = read_config(folder)
    before = config.pop("before", None)
    if not isinstance(before, dict) or not isinstance(before.get("calibrate"), bool):
        raise UserError(f"{folder} has no calibration to undo: it was not calibrated since its training or last undo.")
    for name in (CALIBRATOR, HELD_OUT):
        with disk_errors(folder / name):
            if (folder / previous(name)).exists():
                (folder / previous(name)).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    config.pop("calibrated", None)
    about = {"calibrated": before["calibrated"]} if before.get("calibrated") else {}
    write_json(
        folder / CONFIG, {**config, "calibrate": before["calibrate"] and (folder / CALIBRATOR).exists(), **about}
    )
    return f"The last calibration is undone; {'the previous calibrator' if before['calibrate'] else 'none'} is applied."


def check_backbone(name: str) -> None:
    """Raise a UserError unless the name is small-cnn or a model of timm (not of a hub, nor of a folder)."""
    if name == SMALL_CNN:
        return
    import labelsmooth.cpu_torchvision  # noqa: F401  (before timm)

    import timm

    if not timm.is_model(name):
        raise UserError(
            f"backbone {name!r} is neither {SMALL_CNN} nor a model of timm {timm.__version__}{close_names(name)}"
        )


def load(
    folder: StrPath, device: str | torch.device = "auto", *, bfloat16: bool = False, calibrated: bool = True
) -> Model:
    """Load a model that ``labelsmooth train`` or :func:`save_model` wrote.  Nothing is unpickled or downloaded.

    Args:
        folder: holds ``config.json``, ``model.safetensors`` and, for a calibrated model, ``calibrator.json``.
        device: "auto" is the GPU if there is one, else the CPU.
        bfloat16: compute the network in bfloat16.
        calibrated: False leaves out the calibrator, whatever ``config.json`` says.

    Raises:
        UserError: the folder is not a model's, lacks a file, or is damaged; the message says which.
    """
    require("study", "A model")
    folder = Path(folder)
    config = read_config(folder)
    classes, spec = tuple(config["classes"]), Input(**config["input"])
    state = _weights(folder, config["weights_sha256"])
    network = _network(folder, config["backbone"], len(classes), spec, state)
    calibrator = _calibrator(folder, len(classes)) if calibrated and config["calibrate"] else None
    held_out = load_held_out(folder / HELD_OUT, len(classes)) if calibrated else None  # of calibrated probabilities
    if spec.size is not None:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no values")
        network = network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r} cannot be used ({error}); give auto, cpu or cuda.") from error
    return Model(classes, network, spec, calibrator, config, bfloat16, held_out)


def _weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); restore it or train the model again.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path} is not the file that {CONFIG} was written for: it is damaged, or of another model. "
            "Restore both files or train the model again."
        )
    try:
        state = parse(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); train the model again.") from error
    # In float32: 8-bit floats have no isfinite.
    broken = [key for key, value in state.items() if not bool(value.float().isfinite().all())]
    if broken:
        raise UserError(f"{path}: {broken[0]} holds numbers that are not finite; train the model again.")
    return state


def _network(folder: Path, backbone: str, num_classes: int, spec: Input, state: dict[str, Tensor]) -> Network:
    """The network with its weights; torch's random state is left unchanged."""
    check_backbone(backbone)
    with torch.random.fork_rng(devices=[]):
        if backbone == SMALL_CNN:  # its size depends on config.json, so its shapes are checked before it is allocated
            with torch.device("meta"):
                _check_state(folder, backbone, make_network(backbone, num_classes, spec.shape), state)
        network = make_network(backbone, num_classes, spec.shape)
    _check_state(folder, backbone, network, state)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _check_state(folder: Path, backbone: str, network: Network, state: dict[str, Tensor]) -> None:
    """Raise a UserError unless the weights have the names and shapes of the network's."""
    if differences := mismatches(network.state_dict(), state):
        raise UserError(
            f"{folder / WEIGHTS} does not fit {backbone} with the classes and images of {CONFIG}: {differences}. "
            "Restore the folder or train the model again."
        )


def _calibrator(folder: Path, num_classes: int) -> Calibrator:
    path = folder / CALIBRATOR
    remedy = f"Restore it, or fit it again with 'labelsmooth calibrate {folder} DATA'."
    try:
        calibrator = load_calibrator(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing, though {CONFIG} says that it is applied. {remedy}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{error} {remedy}") from error
    if calibrator.n_classes_ != num_classes:
        raise UserError(f"{path} is for {calibrator.n_classes_} classes, the model has {num_classes}. {remedy}")
    return calibrator
