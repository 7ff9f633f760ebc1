"""``labelsmooth study``: what helps on your data."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from labelsmooth._memory import keep_freed_memory
from labelsmooth.data import Columns
from labelsmooth.errors import UserError
from labelsmooth.study import (
    Executor,
    RayCluster,
    ShardResult,
    StudyConfig,
    StudyRecord,
    SweepRecord,
    Workers,
    merge_study,
    merge_sweep,
    run_shard,
    run_study,
    run_sweep,
)
from labelsmooth.study.compare import MARGINS
from labelsmooth.study.methods import DEFAULT_METHODS, METHODS
from labelsmooth.study.plan import plan as make_plan
from labelsmooth.study.records import METRICS, load_study

from .app import command, command_line, errors, refuse_unused
from .config import Config, write_config
from .options import (
    BatchSize,
    Data,
    DataDir,
    Json,
    LabelColumn,
    LearningRate,
    Nested,
    PathColumn,
    Size,
    SkipCorrupt,
    SplitColumn,
    Weights,
    check_data_options,
    data_option,
    model_option,
    smoothing_option,
    training_option,
)
from .progress import Bars

Value = TypeVar("Value", int, float, str)
TRAINING = ("workers", "ray", "cpus", "gpus")  # options that --merge refuses
distillation_option = partial(typer.Option, rich_help_panel="Distillation")


@command("labelsmooth study photos/ --seeds 5")
def study(
    ctx: typer.Context,
    data: Data = "digits",
    methods: Annotated[
        str, typer.Option(help="Names separated by commas, or 'list' to see them. plain is always among them.")
    ] = ",".join(DEFAULT_METHODS),
    seeds: Annotated[int | None, typer.Option(help="Trainings of each method. (default: 5; 3 with --quick)")] = None,
    epochs: Annotated[
        str | None, training_option(help="Passes over the training part; several, as 5,15,30, for a sweep.")
    ] = None,
    backbone: Annotated[
        str | None,
        model_option(help="small-cnn or a timm model, or several. (default: small-cnn; resnet34 for photos)"),
    ] = None,
    weights: Weights = "hub",
    size: Size = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    nested: Nested = False,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study. (default: studies/DATA)")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer examples, half the epochs, 3 seeds.")] = False,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune", help="Choose each method's strength from its grid by validation NLL after a temperature."
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Runs trained at once. (default: as many as GPUs, or the CPU's cores, allow)")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Train on a Ray cluster: auto on one of its nodes, ray://HOST:10001, or local."
        ),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(help="With --ray, CPU cores of a run. (default: 1 for small-cnn, else 4)")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="With --ray, GPUs of a run, also a fraction. (default: 1 where there are any)")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Train the I-th of N parts of the runs, and make no report."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Make the report of what the shards trained; train nothing.")
    ] = False,
    epsilon: Annotated[
        str | None, smoothing_option(help="Strengths of label smoothing, as 0.05,0.1,0.2 or below 0, each a method.")
    ] = None,
    label_noise: Annotated[
        str, data_option(help="Share of training labels made wrong, as 0.2; several, as 0,0.2,0.4, for a sweep.")
    ] = "0",
    noise_matrix: Annotated[
        Path | None,
        data_option(help="CSV of a confusion matrix: which labels are wrong, and how. (default: any, equally often)"),
    ] = None,
    train_size: Annotated[
        str, data_option(help="Share of the training part used, as 0.3; several, as 0.1,0.3,1, for a sweep.")
    ] = "1",
    distil: Annotated[
        bool,
        distillation_option("--distil", help="Train students of the plain and the smoothed model, and compare them."),
    ] = False,
    student: Annotated[
        str | None,
        distillation_option(metavar="NETWORK", help="Of the students, as for --backbone. (default: their teachers')"),
    ] = None,
    distil_temperature: Annotated[
        float, distillation_option(help="That softens the teacher's and the student's probabilities.")
    ] = 4.0,
    distil_weight: Annotated[
        float, distillation_option(help="Of the teacher against the labels, between 0 and 1.")
    ] = 0.9,
    splits: Annotated[
        int, typer.Option(help="Splits of the data that the seeds are spread over; as many as seeds: one for each.")
    ] = 1,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=SIZE",
            help="A difference that does not matter, in points or nats. [default: error=0.5 ece=1 nll=0.01]",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what seeds and test images would show, from the study in --out.")
    ] = False,
    skip_corrupt: SkipCorrupt = False,
    config_file: Config = None,
    as_json: Json = False,
) -> None:
    """Train with and without label smoothing and its rivals, and say what helped, by how much, and how sure that is.

    Finished runs in the folder are not repeated: after a stop, the same command continues.
    """
    if methods == "list":
        for method in METHODS.values():
            default = ", ".join(f"{key} {value}" for key, value in method.grid[1].changes().items())
            paper = f" ({method.paper})" if method.paper else ""
            print(f"{method.name:20} {method.line}{paper}{f' [{default}]' if default else ''}")
        return
    check_data_options(ctx, data)
    if merge:
        refuse_unused(ctx, TRAINING, "is for training; --merge trains nothing.")
    if not distil:
        refuse_unused(ctx, ["student", "distil_temperature", "distil_weight"], "is for students; give --distil too.")
    part = _part(shard, merge)
    options: dict[str, Sequence[float] | Sequence[str]] = {
        "label_noise": _values("--label-noise", label_noise, float),
        "train_size": _values("--train-size", train_size, float),
        "epochs": _values("--epochs", epochs, int),
        "backbone": _values("--backbone", backbone, str),
    }
    over = {name: values for name, values in options.items() if len(values) > 1}
    single: dict[str, Any] = {name: values[0] for name, values in options.items() if len(values) == 1}
    names = methods.split(",")
    if epsilon is not None:
        smoothed = [f"label-smoothing:{value:g}" for value in _values("--epsilon", epsilon, float)]
        names = [name for name in names if name.strip() != "label-smoothing"] + smoothed
    config = StudyConfig(
        data=data,
        columns=Columns(path_column, label_column, split_column),
        nested=nested,
        methods=names,
        seeds=seeds,
        **single,
        noise_matrix=noise_matrix,
        weights=weights,
        size=size,
        batch_size=batch_size,
        learning_rate=lr,
        tune=tune,
        quick=quick,
        data_dir=data_dir,
        out=out,
        splits=splits,
        distil=distil,
        student=student,
        distil_temperature=distil_temperature,
        distil_weight=distil_weight,
        margins=_margins(margin or []),
        skip_corrupt=skip_corrupt,
    )
    if plan:
        if over:
            raise UserError(f"--plan reads one study; give one value of {', '.join(over)}.")
        _print_plan(config.folder, as_json)
        return
    if config_file is not None:
        errors.print(f"Options from {config_file}.", highlight=False)
    executor = _executor(workers, ray, cpus, gpus)
    keep_freed_memory()
    record: StudyRecord | SweepRecord
    with Bars() as bars:
        try:
            if part:
                result = run_shard(*part, config, bars, executor=executor, over=over)
            elif over and merge:
                record = merge_sweep(over, config, bars, command=_command())
            elif over:
                record = run_sweep(over, config, bars, executor=executor, command=_command())
            elif merge:
                record = merge_study(config, bars, command=_command())
            else:
                record = run_study(config, bars, executor=executor, command=_command())
        except KeyboardInterrupt:
            bars.stop()
            kept = f"{bars.finished} of {bars.total} runs are finished and kept in {config.folder}"
            said = f"{kept}; run the same command again to continue." if bars.total else "No run had begun."
            errors.print(f"Stopped. {said}", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
    if part:
        _print_shard(result, part, as_json)
        return
    from labelsmooth.report import write_study, write_sweep
    from labelsmooth.report.terminal import print_study, print_sweep

    report = config.folder / "report.html"
    settled: dict[str, object] = {}
    if isinstance(record, SweepRecord):
        write_sweep(record, report)
    else:
        write_study(record, report)
        settled = {name: getattr(record.config, name) for name in ("backbone", "epochs", "batch_size", "seeds")}
        settled["lr"] = record.config.learning_rate
    write_config(ctx, config.folder / "study.yaml", settled)
    if as_json:
        print(json.dumps(dataclasses.asdict(record), indent=1))
        return
    if isinstance(record, SweepRecord):
        print_sweep(record, Console())
    else:
        print_study(record, Console())
    print(f"\nReport: {report.resolve()}")


def _values(option: str, words: str | None, kind: Callable[[str], Value]) -> list[Value]:
    """The values of an option that takes several, as 0,0.2,0.4."""
    try:
        return [kind(word.strip()) for word in words.split(",")] if words else []
    except ValueError:
        raise UserError(f"{option} {words} is not a number, or several with commas between them.") from None


def _executor(workers: int | None, ray: str | None, cpus: int | None, gpus: float | None) -> Executor:
    if ray is None:
        if cpus is not None or gpus is not None:
            raise UserError("--cpus and --gpus are of a run on a Ray cluster; give them with --ray.")
        return Workers(workers)
    if workers is not None:
        raise UserError("--workers is of this machine and --ray of a cluster; give one of them.")
    return RayCluster(ray, cpus=cpus, gpus=gpus)


def _margins(words: list[str]) -> dict[str, float]:
    """``--margin error=0.5 --margin nll=0.02``, with points as shares."""
    margins = {}
    for word in words:
        name, _, size = word.partition("=")
        try:
            margins[name] = float(size) / (100 if name in METRICS and METRICS[name].percent else 1)
        except ValueError:
            raise UserError(f"--margin {word} is not of the form METRIC=SIZE; give for example error=0.5.") from None
        if name not in MARGINS or not 0 < margins[name] < math.inf:
            raise UserError(f"--margin {word}: give {', '.join(MARGINS)} a size above 0, for example error=0.5.")
    return margins


def _print_plan(folder: Path, as_json: bool) -> None:
    from labelsmooth.report.terminal import print_plan

    plans = make_plan(load_study(folder))
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in plans]))
    else:
        print_plan(plans, Console())


def _part(shard: str | None, merge: bool) -> tuple[int, int] | None:
    """I and N of ``--shard I/N``."""
    if shard is None:
        return None
    if merge:
        raise UserError("--shard trains and --merge does not: give one, and --merge when all shards are done.")
    if not (match := re.fullmatch(r"(\d{1,9})/(\d{1,9})", shard)):
        raise UserError(f"--shard {shard} is not of the form I/N; give I from 1 to N, for example --shard 2/8.")
    return int(match[1]), int(match[2])


def _command(*more: str, without: Sequence[str] = ()) -> str:
    """This command without ``--shard``, ``--merge`` and other options that take a value: the one that repeats the study
    on one machine."""
    left_out, words, kept = {"--shard", *without}, iter(sys.argv[1:]), []
    for word in words:
        if word in left_out:
            next(words, None)  # its value
        elif word != "--merge" and word.partition("=")[0] not in left_out:
            kept.append(word)
    return command_line([*kept, *more])


def _print_shard(result: ShardResult, part: tuple[int, int], as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    runs = "tuning runs" if result.tuning else "runs"
    missing = result.total - result.finished
    done = f"Shard {part[0]}/{part[1]} trained {result.trained}. Of the study's {result.total} {runs}, "
    if missing:
        then = f"{missing} are left to the other shards."
    elif result.tuning:
        then = "all are finished. Start the shards again for the study itself."
    else:
        then = f"all are finished. Make the report: {_command('--merge', without=[f'--{name}' for name in TRAINING])}"
    print(done + then)
