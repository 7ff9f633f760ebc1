"""The networks: a small CNN for small images, any timm backbone for photos."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelsmooth.errors import UserError

__all__ = ["SMALL_CNN", "Network", "make_network", "synchronise_batch_norm", "weights_fingerprint"]

SMALL_CNN = "small-cnn"


class Network(nn.Module):
    """uint8 images in, logits out: normalisation, body and head in one.

    ``head`` is the last layer, ``pretrained`` whether what lies below it has been trained, ``fixed_size`` whether
    images of another size than in training do not fit, as for most vision transformers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, head: nn.Module, mean: Any, std: Any, pretrained: bool) -> None:
        super().__init__()
        self.model = model
        self.pretrained = pretrained
        self.fixed_size = bool((getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size", False))
        self._head = (head,)  # within a tuple it is not registered a second time
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        normal = (images.float() / 255 - self.mean) / self.std
        if images.shape[1] > 1:  # photos: convolutions are faster over channels that lie together
            normal = normal.contiguous(memory_format=torch.channels_last)
        return self.model(normal)  # type: ignore[no-any-return]

    @property
    def head(self) -> nn.Module:
        return self._head[0]


def make_network(
    backbone: str, num_classes: int, shape: tuple[int, ...], mean: Tensor, std: Tensor, dropout: float, weights: str
) -> Network:
    """A network for uint8 images of a shape [C, H, W]; its initial weights depend on torch's random state only.

    Args:
        backbone: "small-cnn" or the name of a timm model.
        mean, std: per-channel statistics of the training part in [0, 1], for networks without their own.
        dropout: probability before the last layer.
        weights: for timm models "hub", "none", or a safetensors file with timm's keys.

    Raises:
        UserError: no such model, weights that cannot be downloaded, read, or do not fit.
    """
    if backbone == SMALL_CNN:
        head = nn.Linear(128, num_classes)
        return Network(_small_cnn(shape, dropout, head), head, mean, std.clamp(min=1e-3), pretrained=False)
    import timm

    import labelsmooth._torchvision  # noqa: F401  (before timm)

    try:
        model = timm.create_model(backbone, pretrained=False, num_classes=num_classes, drop_rate=dropout)
    except RuntimeError as error:
        near = timm.list_models(f"*{backbone}*")[:5] or ["resnet34", "efficientnet_b0"]
        raise UserError(f"timm has no model {backbone!r}; did you mean {', '.join(near)}?") from error
    if weights == "hub":
        _load(model, _hub_weights(backbone), f"the hub's weights of {backbone}")
    elif weights != "none":
        _load(model, _file_weights(Path(weights)), weights)
    settings: Any = model.pretrained_cfg
    classifier: Any = model.get_classifier
    return Network(model, classifier(), settings["mean"], settings["std"], pretrained=weights != "none")


def synchronise_batch_norm(network: Network) -> Network:
    """Batch norm over the batches of all processes, with the same weights under the same names.

    By timm's conversion: PyTorch's, which Lightning's option calls, drops the activations that are a part of timm's
    batch-norm layers, as in every EfficientNet.
    """
    from timm import layers

    converted: Network = layers.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call, attr-defined]
    return converted


def weights_fingerprint(weights: str) -> str:
    """ "hub" and "none" as they are; for a file a hash of its contents."""
    if weights in ("hub", "none"):
        return weights
    try:
        return hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(
            f'weights {weights!r} cannot be read ({error.strerror}); give "hub", "none" or a safetensors file.'
        ) from error


def _small_cnn(shape: tuple[int, ...], dropout: float, head: nn.Module) -> nn.Sequential:
    """Three convolutions, halving the sides while they are above 4 pixels; then one hidden layer."""
    channels, layers = shape[0], []
    sides = list(shape[1:])
    for width in (32, 64, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
        if min(sides) > 4:
            layers.append(nn.MaxPool2d(2))
            sides = [side // 2 for side in sides]
    features = channels * sides[0] * sides[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 128), nn.ReLU(), nn.Dropout(dropout), head)


def _hub_weights(backbone: str) -> dict[str, Tensor]:
    import timm

    try:
        return timm.create_model(backbone, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises errors of many libraries
        raise UserError(
            f"The pretrained weights of {backbone} could not be downloaded ({type(error).__name__}). Connect to the "
            "internet once, give --weights FILE.safetensors, or --weights none to start from random weights."
        ) from error


def _file_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights {path} cannot be read as safetensors ({error}).") from error


def _load(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load everything but the last layer, whose classes are others; any other mismatch is listed and raised."""
    ours = model.state_dict()
    settings: Any = model.pretrained_cfg
    classifier = settings["classifier"]
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    body = {key: value for key, value in state.items() if not key.startswith(heads)}
    wrong = [f"{key} is missing" for key in ours if key not in body and not key.startswith(heads)]
    wrong += [f"{key} is unknown" for key in body if key not in ours]
    wrong += [
        f"{key} has shape {tuple(value.shape)}, expected {tuple(ours[key].shape)}"
        for key, value in body.items()
        if key in ours and value.shape != ours[key].shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(f"{source} does not fit the model: {'; '.join(wrong[:5])}{more}.")
    model.load_state_dict({**{key: value for key, value in ours.items() if key.startswith(heads)}, **body})
