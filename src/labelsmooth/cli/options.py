"""Options of several commands, each defined once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from labelsmooth.data.built_in import BUILT_IN
from labelsmooth.files import check_output
from labelsmooth.models import Part
from labelsmooth.predictions.tables import FORMATS, table_suffix

from .app import refuse_unused

# Options by their panel in the help.
data_option = partial(typer.Option, rich_help_panel="Data")
model_option = partial(typer.Option, rich_help_panel="Model")
smoothing_option = partial(typer.Option, rich_help_panel="Smoothing")
training_option = partial(typer.Option, rich_help_panel="Training")
hardware_option = partial(typer.Option, rich_help_panel="Hardware")
output_option = partial(typer.Option, rich_help_panel="Output")
NAMED = [name for name, entry in BUILT_IN.items() if entry.downloaded]


def check_data_options(ctx: typer.Context, data: str) -> None:
    """Raise a UserError if an option was given that is for another kind of data."""
    is_table = table_suffix(Path(data)) in FORMATS and not Path(data).is_dir()
    if data not in NAMED and not is_table:
        refuse_unused(ctx, ["data_dir"], f"is for {', '.join(NAMED)} and tables, not for {data}.")
    if not is_table:
        refuse_unused(ctx, ["path_column", "label_column", "split_column"], f"is for tables, not for {data}.")
    if not Path(data).is_dir():
        refuse_unused(ctx, ["nested"], f"is for folders, not for {data}.")


def check_report(ctx: typer.Context, report: Path | None, overwrite: bool) -> None:
    """Check, before the work begins, that the page of ``--report`` can be written, if one was asked for."""
    if report is None:
        refuse_unused(ctx, ["overwrite"], "is for --report.")
    else:
        check_output(report, overwrite)


Data = Annotated[
    str,
    typer.Argument(
        help=f"{', '.join(BUILT_IN)}, a folder of class folders, a table (CSV, Parquet) of paths and labels, or .npz."
    ),
]
PathColumn = Annotated[
    str | None, data_option(help="Column of a table with the paths. (default: path, file, image ...)")
]
LabelColumn = Annotated[str | None, data_option(help="Column of a table with the labels. (default: label, class ...)")]
SplitColumn = Annotated[
    str | None, data_option(help="Column of a table with train, validation or test. (default: split, if there)")
]
Nested = Annotated[
    bool, data_option("--nested", help="In a folder, every folder with photos is a class: cat/siamese, cat/persian.")
]
ModelFolder = Annotated[Path, typer.Argument(help="A folder that 'labelsmooth train' wrote.")]
Backbone = Annotated[
    str | None, model_option(help="small-cnn or a timm model. (default: small-cnn; resnet34 for photos)")
]
Weights = Annotated[str, model_option(help="Of timm models: hub (pretrained), none, or a safetensors file.")]
Epochs = Annotated[int | None, training_option(help="Passes over the training part. (default: 4 for photos)")]
Size = Annotated[int | None, model_option(help="Side of the square input, pixels. (default: 224 for photos)")]
BatchSize = Annotated[int | None, training_option(help="Examples in a batch. (default: 64; 32 for photos)")]
LearningRate = Annotated[
    float | None, training_option("--lr", help="Highest learning rate. (default: 0.003; 0.0001 for pretrained photos)")
]
DataDir = Annotated[
    Path | None,
    data_option(help="Folder of the paths in a table, or of torchvision's data sets (default: $LABELSMOOTH_DATA)"),
]
SkipCorrupt = Annotated[
    bool, data_option("--skip-corrupt", help="Leave out images that cannot be used, and list them.")
]
DataPart = Annotated[Part, typer.Option(help="Part of DATA; auto: the part that the model was not trained on.")]
Overwrite = Annotated[bool, output_option("--overwrite", help="Replace existing files.")]
Json = Annotated[bool, output_option("--json", help="Print the record as JSON.")]
