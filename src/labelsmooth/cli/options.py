"""Options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Backbone", "BatchSize", "Data", "DataDir", "LearningRate", "Size", "SkipCorrupt", "Weights"]

Data = Annotated[
    str, typer.Argument(help="digits, fashion-mnist, cifar10, pets, a folder of class folders, or an .npz file.")
]
Backbone = Annotated[
    str | None, typer.Option(help="small-cnn or a timm model. [default: small-cnn; resnet34 for photos]")
]
Weights = Annotated[str, typer.Option(help="Of timm models: hub (pretrained), none, or a safetensors file.")]
Size = Annotated[int | None, typer.Option(help="Side of the square input, pixels. [default: 224 for photos]")]
BatchSize = Annotated[int | None, typer.Option(help="Examples in a batch. [default: 64; 32 for photos]")]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="Highest learning rate. [default: 0.003; 0.0001 for pretrained photos]")
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where torchvision's data sets lie or go. [default: $LABELSMOOTH_DATA]")
]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Go on without the images that cannot be used, and list them.")
]
