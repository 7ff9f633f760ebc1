"""Options of several commands, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelsmooth.data.built_in import BUILT_IN
from labelsmooth.models import Part

from .app import refuse_unused

__all__ = [
    "Backbone",
    "BatchSize",
    "Data",
    "DataDir",
    "DataPart",
    "Epochs",
    "Json",
    "LearningRate",
    "ModelFolder",
    "Overwrite",
    "Size",
    "SkipCorrupt",
    "Weights",
    "check_data_options",
]

NAMED = [name for name, entry in BUILT_IN.items() if entry.downloaded]


def check_data_options(ctx: typer.Context, data: str) -> None:
    """Raise a UserError if --data-dir was given for data that is not torchvision's."""
    if data not in NAMED:
        refuse_unused(ctx, ["data_dir"], f"is for {', '.join(NAMED)}, not for {data}.")


Data = Annotated[str, typer.Argument(help=f"{', '.join(BUILT_IN)}, a folder of class folders, or an .npz file.")]
ModelFolder = Annotated[Path, typer.Argument(help="A folder that 'labelsmooth train' wrote.")]
Backbone = Annotated[
    str | None, typer.Option(help="small-cnn or a timm model. [default: small-cnn; resnet34 for photos]")
]
Weights = Annotated[str, typer.Option(help="Of timm models: hub (pretrained), none, or a safetensors file.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training part. [default: 4 for photos]")]
Size = Annotated[int | None, typer.Option(help="Side of the square input, pixels. [default: 224 for photos]")]
BatchSize = Annotated[int | None, typer.Option(help="Examples in a batch. [default: 64; 32 for photos]")]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="Highest learning rate. [default: 0.003; 0.0001 for pretrained photos]")
]
DataDir = Annotated[Path | None, typer.Option(help="Folder of torchvision's data sets. [default: $LABELSMOOTH_DATA]")]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be used, and list them.")
]
DataPart = Annotated[Part, typer.Option(help="Part of DATA; auto: the part that the model was not trained on.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]
