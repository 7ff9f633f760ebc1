"""A model run on a part of a data set: its logits and the labels, in the model's order of the classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.data import Columns, Dataset, Split, load_dataset, split_dataset
from labelsmooth.data.batches import evaluation_batch_size, evaluation_batches
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.models.model import Model
from labelsmooth.progress import Progress

Part = Literal["auto", "train", "validation", "test", "all"]
"""The part of the data to use; the functions that take it state what "auto" means."""


@dataclass(frozen=True)
class OnData:
    """A model's logits of labelled images.

    Args:
        name: of the data and the part.
        fingerprint: of the data.
        logits: [N, K] float32, before the calibrator.
        labels: [N].
        members: [N] indices of the examples within the data.
        trained_on: whether the model was trained on some of these images.
        remarks: what was left out of the data, and what else the user should know, in sentences.
        features: [N, D] the inputs of the network's last layer, if they were to be kept to calibrate.
    """

    name: str
    fingerprint: str
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    members: NDArray[np.int64]
    trained_on: bool
    remarks: tuple[str, ...] = ()
    features: Tensor | None = None


def run_on(
    model: Model,
    data: StrPath,
    part: Part = "auto",
    *,
    data_dir: StrPath | None = None,
    progress: Progress | None = None,
    skip_corrupt: bool = False,
    purpose: Literal["evaluate", "calibrate"] = "evaluate",
) -> OnData:
    """Run a model on labelled images; the arguments are those of :func:`labelsmooth.models.evaluate`.

    The part "auto" depends on the purpose.  To evaluate: the official test part; of the data that the model was trained
    on, the test part of that split; else all.  To calibrate: of the data that the model was trained on, the validation
    part; else all but an official test part.

    Raises:
        UserError: data that cannot be read, without that part, with classes that the model does not know, or with
            images of another shape.
    """
    if part not in get_args(Part):
        raise UserError(f"part {part!r} is unknown; there are {', '.join(get_args(Part))}.")
    progress = progress or Progress()
    size = model.input.size
    trained = model.config.get("data", {})
    dataset = load_dataset(
        data,
        size,
        columns=Columns(**trained.get("columns", {})),  # as the model was trained
        nested=bool(trained.get("nested", False)),
        data_dir=data_dir,
        skip_corrupt=skip_corrupt,
        to_train=False,
        progress=progress,
    )
    name, members, trained_on = _members(dataset, trained, part, purpose)
    if not len(members):
        raise UserError(f"The {name} of {dataset.name} is empty, as the model was trained. Give other data.")
    model_label = _label_map(dataset, model)
    shape = tuple(dataset.images[int(members[0])].shape)
    if size is None and shape != model.input.shape:
        raise UserError(f"The model takes images of shape {model.input.shape} (C, H, W); {data} has {shape}.")
    logits, features = [], []
    done = 0
    side = size and model.input.height
    batch_size = evaluation_batch_size(side, model.network.mean.device)
    for images, _ in evaluation_batches(dataset, members, side, batch_size):
        batch_logits, batch_features = model.outputs(images)
        logits.append(batch_logits)
        if purpose == "calibrate" and batch_features is not None:
            features.append(batch_features)
        done += len(images)
        progress.predictions(done, len(members))
    labels = model_label[dataset.labels[members]]
    return OnData(
        f"{dataset.name} ({name})",
        dataset.fingerprint,
        torch.cat(logits).numpy(),
        labels,
        members,
        trained_on,
        tuple(dataset.remarks),
        torch.cat(features) if features else None,
    )


def _members(dataset: Dataset, trained: dict[str, Any], part: str, purpose: str) -> tuple[str, NDArray[np.int64], bool]:
    """The name and the indices of the examples, and whether the model was trained on some of them."""
    own = trained.get("fingerprint") == dataset.fingerprint
    indices = np.arange(len(dataset.labels))
    split = _split(dataset, trained) if own else None
    official = dataset.test
    if part == "auto":
        if purpose == "calibrate":
            part = "validation" if split else "all" if official is None else "train"
        else:
            part = "all" if split is None and official is None else "test"
    if part == "all":
        return "all images", indices, own
    if split is not None:
        members = {"train": split.train, "validation": split.validation, "test": split.test}[part]
        return f"{part} part", members, part == "train"
    if official is not None and part == "test":
        return "test part", np.sort(official), False
    if official is not None and part == "train":
        return "all but the test part", np.setdiff1d(indices, official), False
    reason = "has no official test part" if official is None else "is split into train and test only"
    raise UserError(
        f"{dataset.name} {reason}, and is not the data that the model was trained on, so that there is no {part} part. "
        f"Give --part {'all' if official is None else 'test'}."
    )


def _split(dataset: Dataset, trained: dict[str, Any]) -> Split:
    if "fractions" in trained:
        dataset = dataclasses.replace(dataset, fractions=tuple(trained["fractions"]))
    limits = trained.get("limits")
    return split_dataset(dataset, int(trained.get("split_seed", 0)), None if limits is None else tuple(limits))


def _label_map(dataset: Dataset, model: Model) -> NDArray[np.int64]:
    """The model's label of each class of the data, by name: the data may have fewer classes, in another order.  It is
    -1 for a class without images that the model does not know."""
    number = {name: k for k, name in enumerate(model.classes)}
    seen = {dataset.classes[k] for k in np.unique(dataset.labels)}
    unknown = [name for name in dataset.classes if name in seen and name not in number]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        known = ", ".join(repr(name) for name in model.classes[:5])
        raise UserError(
            f"{dataset.name} has classes that the model does not know: {', '.join(map(repr, unknown[:5]))}{more}. "
            f"The model's {len(model.classes)} classes are {known}{', ...' if len(model.classes) > 5 else ''}."
        )
    return np.array([number.get(name, -1) for name in dataset.classes], dtype=np.int64)
