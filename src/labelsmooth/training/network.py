"""The networks: a small CNN for small images, any timm backbone for photos."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from labelsmooth.data.batches import evaluation_batches
from labelsmooth.data.dataset import Dataset
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.progress import Progress

SMALL_CNN = "small-cnn"
PerChannel: TypeAlias = float | Sequence[float] | Tensor
"""A number for all channels, or one for each."""


class Network(nn.Module):
    """uint8 images [N, C, H, W] in, logits [N, K] out: normalisation, body and head in one module.

    ``head`` is the last layer, ``pretrained`` says whether the layers below it have been trained, ``fixed_size``
    whether the network takes images of one size only, as most vision transformers do.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, head: nn.Module, mean: PerChannel, std: PerChannel, pretrained: bool) -> None:
        super().__init__()
        self.model = model
        self.pretrained = pretrained
        self.fixed_size = bool((getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size", False))
        self._head = (head,)  # in a tuple, so that it is not registered a second time
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        normal = (images.float() / 255 - self.mean) / self.std
        if images.shape[1] > 1:  # convolutions of photos are faster in channels-last order
            normal = normal.contiguous(memory_format=torch.channels_last)
        return self.model(normal)  # type: ignore[no-any-return]

    @property
    def head(self) -> nn.Module:
        return self._head[0]


class CustomNetwork(Network):
    """A network of the user's own: inputs [N, ...] as the data set has them in, logits [N, K] out."""

    def __init__(self, model: nn.Module, dropout: float) -> None:
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        super().__init__(model, linear[-1] if linear else model, 0.0, 1.0, pretrained=False)
        if dropout:
            if not linear:
                raise UserError(
                    "Dropout goes before the last linear layer, and the network has none; leave dropout out."
                )
            self.head.register_forward_pre_hook(lambda head, x: (functional.dropout(x[0], dropout, head.training),))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)  # type: ignore[no-any-return]


def custom_name(make: Callable[[int], nn.Module], num_classes: int) -> str:
    """The name of a user's network in records and in the names of runs: its own name, and a hash.

    The hash is of its layers, its initial weights and, where they can be read, the sources of its function and classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(num_classes)
    digest = hashlib.sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    own: set[type] = {type(module) for module in model.modules() if not type(module).__module__.startswith("torch.")}
    sources: list[Any] = [make, *sorted(own, key=lambda kind: kind.__qualname__)]
    for source in sources:
        with contextlib.suppress(OSError, TypeError):
            digest.update(inspect.getsource(source).encode())
    return f"{getattr(make, '__name__', 'network').strip('<>')}-{digest.hexdigest()[:8]}"


def make_network(
    backbone: str,
    num_classes: int,
    shape: tuple[int, ...],
    mean: Tensor | None = None,
    std: Tensor | None = None,
    *,
    dropout: float = 0.0,
    weights: StrPath = "none",
) -> Network:
    """A network for uint8 images of a shape [C, H, W]; its initial weights depend on torch's random state alone.

    Args:
        backbone: "small-cnn" or the name of a timm model.
        num_classes: K, the number of logits.
        shape: (C, H, W) of an image.
        mean, std: [C] statistics of the training images scaled to [0, 1], for the small CNN (timm's models have their
            own); by default 0 and 1.
        dropout: probability before the last layer.
        weights: for timm models "hub" (pretrained, downloaded by timm), "none", or a safetensors file with timm's keys.

    Raises:
        UserError: an unknown model, or weights that cannot be downloaded or read or that do not fit.

    Example:
        >>> network = make_network("small-cnn", 3, (1, 8, 8))
        >>> network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([2, 3])
    """
    if backbone == SMALL_CNN:
        mean = torch.zeros(shape[0]) if mean is None else mean
        std = torch.ones(shape[0]) if std is None else std.clamp(min=1e-3)
        head = nn.Linear(128, num_classes)
        return Network(_small_cnn(shape, dropout, head), head, mean, std, pretrained=False)
    import labelsmooth.cpu_torchvision  # noqa: F401  (before timm)

    import timm

    try:
        model = timm.create_model(backbone, pretrained=False, num_classes=num_classes, drop_rate=dropout)
    except RuntimeError as error:
        raise UserError(f"timm has no model {backbone!r}{close_names(backbone)}") from error
    if weights == "hub":
        _load(model, _hub_weights(backbone), f"the hub's weights of {backbone}")
    elif weights != "none":
        _load(model, _file_weights(Path(weights)), f"weights {os.fspath(weights)}")
    settings: Any = model.pretrained_cfg
    classifier: Any = model.get_classifier
    return Network(model, classifier(), settings["mean"], settings["std"], pretrained=weights != "none")


def logits_of(
    network: nn.Module,
    data: Dataset,
    members: np.ndarray,
    size: int | None,
    batch_size: int,
    progress: Progress | None = None,
) -> Tensor:
    """The logits of examples, [N, K] float32 on the CPU, the network in evaluation mode.

    Each of R processes computes every R-th example.  Some examples are repeated so that all processes have the same
    number, as collective operations within the network need; the repetitions are dropped afterwards.

    Args:
        network: uint8 images [B, C, H, W] in, logits out.
        members: the indices of the examples.
        size: side of the crop, or None for small images.
        batch_size: examples at a time.
        progress: ``batch`` is called.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    share = -(-len(members) // world)
    ours = np.resize(members, share * world)[rank::world]
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            batches = evaluation_batches(data, ours, size, batch_size)
            computed = []
            for images, _ in batches:
                computed.append(network(images.to(device, non_blocking=True)).float())
                if progress is not None:
                    progress.batch(len(computed), len(batches))
            logits = torch.cat(computed)
    finally:
        network.train(training)
    if distributed:
        parts = [torch.empty_like(logits) for _ in range(world)]
        torch.distributed.all_gather(parts, logits)
        logits = torch.stack(parts, 1).flatten(0, 1)[: len(members)]
    return logits.cpu()


def synchronise_batch_norm(network: Network) -> Network:
    """Replace batch norm by batch norm over the batches of all processes; weights keep their names.

    This is timm's conversion.  PyTorch's, which Lightning's option calls, drops the activations inside timm's
    batch-norm layers, as in every EfficientNet.
    """
    from timm import layers

    converted: Network = layers.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call, attr-defined]
    return converted


def weights_fingerprint(weights: str) -> str:
    """A hash of a file of weights; "hub" and "none" are returned as they are."""
    if weights in ("hub", "none"):
        return weights
    try:
        return hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(
            f'weights {weights!r} cannot be read ({error.strerror}); give "hub", "none" or a safetensors file.'
        ) from error


def close_names(backbone: str) -> str:
    """The end of a message about a network that timm does not have: the names that are close to the given one."""
    import timm

    near = difflib.get_close_matches(backbone, [SMALL_CNN, *timm.list_models()], n=5)
    return f"; did you mean {', '.join(near)}?" if near else "; timm.list_models() returns their names."


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
    except Exception as error:  # the hub's client raises the errors of several libraries
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
    """Load everything but the last layer, which has other classes; any other mismatch is an error."""
    own = model.state_dict()
    settings: Any = model.pretrained_cfg
    classifier = settings["classifier"]
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    head = {key: value for key, value in own.items() if key.startswith(heads)}
    body = {key: value for key, value in state.items() if not key.startswith(heads)}
    if differences := mismatches({key: value for key, value in own.items() if key not in head}, body):
        raise UserError(f"{source} does not fit the model: {differences}.")
    model.load_state_dict({**head, **body})


def mismatches(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How weights differ from a network's own in names and shapes; "" where they do not."""
    wrong = [f"{key} is missing" for key in own if key not in state]
    wrong += [f"{key} is unknown" for key in state if key not in own]
    wrong += [
        f"{key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    return "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
