"""``labelsmooth train``: a calibrated classifier of your own photos."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from labelsmooth import models
from labelsmooth._memory import keep_freed_memory
from labelsmooth.data import Columns
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing.registry import POLICIES
from labelsmooth.training import Engine, Settings
from labelsmooth.training.engine import is_main_process
from labelsmooth.training.options import settle
from labelsmooth.training.spec import Balance

from .app import command, command_line, errors, refuse_unused
from .config import Config, write_config
from .options import (
    Backbone,
    BatchSize,
    Data,
    DataDir,
    Epochs,
    LabelColumn,
    LearningRate,
    Nested,
    Overwrite,
    PathColumn,
    Size,
    SkipCorrupt,
    SplitColumn,
    Weights,
    check_data_options,
    data_option,
    hardware_option,
    output_option,
    smoothing_option,
    training_option,
)
from .progress import Bars


@command("labelsmooth train photos/ --out model")
def train(
    ctx: typer.Context,
    data: Data,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    nested: Nested = False,
    data_dir: DataDir = None,
    skip_corrupt: SkipCorrupt = False,
    validation: Annotated[
        float | None,
        data_option(help="Share held out to fit the calibrator; 0 trains on everything, without a calibrator."),
    ] = None,
    backbone: Backbone = None,
    weights: Weights = "hub",
    size: Size = None,
    epsilon: Annotated[
        float | None, smoothing_option(help="Amount of label smoothing. (default: 0.1; that of the policy)")
    ] = None,
    smoothing: Annotated[
        str, smoothing_option(metavar="POLICY", help=f"How epsilon is spread: {', '.join(POLICIES)}.")
    ] = "uniform",
    penalty: Annotated[
        str, smoothing_option(help=f"Instead of a policy: {', '.join(PENALTIES)}.", show_default=False)
    ] = "",
    strength: Annotated[
        float | None, smoothing_option(help="Strength of the penalty. (default: that of its paper)")
    ] = None,
    balance: Annotated[
        Balance,
        training_option(
            help="For classes of uneven size: weights (the loss gives each class the same weight) or sampling (each is "
            "drawn equally often). Rare classes become more probable than they are."
        ),
    ] = "none",
    mixup: Annotated[float, smoothing_option(help="Alpha of mixup; 0.2 is usual, 0 is none.")] = 0.0,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    find_lr: Annotated[bool, training_option("--find-lr", help="Find the learning rate by a range test.")] = False,
    freeze_epochs: Annotated[int, training_option(help="Epochs that fit a pretrained network's new head alone.")] = 1,
    ema: Annotated[
        float | None,
        training_option(help="Decay of a running average of the weights; 0: none. (default: 0.97 for photos)"),
    ] = None,
    weight_decay: Annotated[float, training_option(help="Decoupled weight decay.")] = 0.0,
    dropout: Annotated[float, training_option(help="Dropout probability before the last layer.")] = 0.0,
    patience: Annotated[
        int, training_option(help="Stop after this many epochs without a lower validation NLL; 0: never.")
    ] = 0,
    seed: Annotated[int, training_option(help="Seed of the training.")] = 0,
    precision: Annotated[
        str, hardware_option(help="auto (bfloat16 where the hardware has it), 32, bf16, or 16 on a GPU.")
    ] = "auto",
    compile: Annotated[bool, hardware_option("--compile", help="Compile the network with torch.compile.")] = False,
    devices: Annotated[int, hardware_option(help="Processes on each machine: GPUs, or shares of the CPU.")] = 1,
    nodes: Annotated[int, hardware_option(help="Machines, started by torchrun or SLURM.")] = 1,
    strategy: Annotated[
        str, hardware_option(help="With several processes: ddp (whole network in each) or fsdp (sharded).")
    ] = "ddp",
    out: Annotated[Path | None, output_option(help="Folder of the model. (default: models/DATA)")] = None,
    resume: Annotated[bool, output_option("--resume", help="Continue a training that was stopped in --out.")] = False,
    overwrite: Overwrite = False,
    config_file: Config = None,
    logger: Annotated[
        list[str] | None, output_option(help="Besides CSV and TensorBoard: mlflow, wandb. May be repeated.")
    ] = None,
) -> None:
    """Train a classifier on your images, calibrate it, and report its accuracy and calibration."""
    check_data_options(ctx, data)
    if config_file is not None:
        errors.print(f"Options from {config_file}.", highlight=False)
    if penalty:
        refuse_unused(ctx, ["smoothing"], f"is not used beside --penalty {penalty}; give one of the two.")
    if devices * nodes == 1:
        refuse_unused(ctx, ["strategy"], "is for several processes; give --devices or --nodes too.")
    keep_freed_memory()
    config = models.TrainConfig(
        data=data,
        columns=Columns(path_column, label_column, split_column),
        nested=nested,
        out=out,
        backbone=backbone,
        weights=weights,
        settings=Settings(
            epsilon=_epsilon(epsilon, smoothing, penalty),
            smoothing=smoothing,
            penalty=penalty,
            strength=strength,
            weight_decay=weight_decay,
            dropout=dropout,
            mixup=mixup,
            balance=balance,
            patience=patience,
        ),
        epochs=epochs,
        size=size,
        batch_size=batch_size,
        learning_rate=lr,
        find_lr=find_lr,
        freeze_epochs=freeze_epochs,
        ema=ema,
        precision=precision,
        validation=validation,
        seed=seed,
        data_dir=data_dir,
        skip_corrupt=skip_corrupt,
        resume=resume,
        overwrite=overwrite,
        engine=Engine(devices=devices, nodes=nodes, strategy=strategy, compile=compile, loggers=tuple(logger or ())),
    )
    if settle(config)["weights"] == "none":
        refuse_unused(ctx, ["freeze_epochs"], "is for pretrained networks.")
    with Bars(scores=True) as bars:
        try:
            record = models.train(config, bars, command=command_line())
        except KeyboardInterrupt as error:
            bars.stop()
            errors.print(f"Stopped. {str(error) or 'The training had not begun.'}", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
    if not is_main_process():
        return
    from labelsmooth.report import write_card, write_training
    from labelsmooth.report.terminal import print_training

    report = config.folder / "report.html"
    write_training(record, report)
    write_card(record, config.folder / "README.md")
    settled = {name: record.recipe[name] for name in ("backbone", "epochs", "batch_size")}
    settled |= {"lr": record.recipe["learning_rate"], "find_lr": None}
    write_config(ctx, config.folder / "train.yaml", settled)
    print_training(record, Console())
    print(f"Model: {config.folder.resolve()}")
    print(f"Use it: labelsmooth predict {shlex.quote(str(config.folder))} PHOTOS")
    print(f"\nReport: {report.resolve()}")


def _epsilon(epsilon: float | None, smoothing: str, penalty: str) -> float:
    """The amount of smoothing: by default the policy's, and none beside a penalty."""
    if epsilon is None and smoothing in POLICIES and not penalty:
        return POLICIES[smoothing].epsilon
    return epsilon or 0.0
