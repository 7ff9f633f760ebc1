"""Runs a study from its config to its record; finished runs are kept, so that it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from labelsmooth.smoothing import ceiling
from labelsmooth.study import environment
from labelsmooth.study.config import RunSpec, StudyConfig
from labelsmooth.study.evaluate import evaluate
from labelsmooth.study.methods import CALIBRATORS, METHODS, Settings, settings_of
from labelsmooth.study.progress import Progress
from labelsmooth.study.records import StudyRecord, save_study
from labelsmooth.study.runs import PARTS, Runs
from labelsmooth.study.summarise import summarise
from labelsmooth.study.verdict import verdict

__all__ = ["run_study"]

QUICK_LIMITS = (6000, 2000, 2000)
TUNING_SEED = 1_000_003  # of no run of the study itself, so that tuning does not favour the seeds it is judged on
DEFAULT_EPOCHS = {"digits": 30, "fashion-mnist": 15}


def run_study(
    config: StudyConfig | None = None, progress: Progress | None = None, *, command: str = "", **options: Any
) -> StudyRecord:
    """Train with every method and seed, calibrate, measure, compare, and say what helped.

    The record is also written to ``study.json`` in the study's folder.  Runs that the folder holds already are not
    repeated.  The test part is read once, after all training.

    Args:
        config: what to do; or give the fields of :class:`StudyConfig` as keyword arguments.
        progress: told about each run and epoch.
        command: the command to repeat the study with, for the record.

    Raises:
        StudyError: anything the user can put right, in one sentence.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> study = run_study(data="digits", methods=("label-smoothing",), seeds=1, epochs=1, out=out)
        >>> [method["name"] for method in study.methods]
        ['plain', 'label-smoothing']
    """
    from labelsmooth.study.data.sources import load_dataset
    from labelsmooth.study.data.split import split_dataset

    config = config or StudyConfig(**options)
    progress = progress or Progress()
    settled = _settle(config)
    data = load_dataset(config.data, config.data_dir, settled["size"] or None, progress.photos)
    limits = QUICK_LIMITS if config.quick else None
    split = split_dataset(data, config.split_seed, limits)
    runs = Runs(config.folder / "runs", data, split, settled["weights"], progress)
    base = _base_spec(config, settled, data.fingerprint, limits)

    names = config.method_names
    strengths = {name: _tuned(name, base, runs) if config.tune else 1 for name in names}
    settings = {name: settings_of(name, strengths[name]) for name in names}
    specs = [
        (name, dataclasses.replace(base, settings=settings[name], seed=seed))
        for seed in range(config.seed_count)
        for name in names
    ]
    progress.plan(len(specs), sum(runs.finished(spec) for _, spec in specs))
    finished = [(name, spec.seed, runs.run(METHODS[name].title, spec)) for name, spec in specs]

    asked = {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(config).items()}
    study = StudyRecord(
        config={
            **asked,
            **settled,
            "methods": list(names),
            "seeds": config.seed_count,
            "calibrators": list(CALIBRATORS),
        },
        data={
            "name": data.name,
            "classes": list(data.classes),
            "fingerprint": data.fingerprint,
            **{part: len(getattr(split, part)) for part in PARTS},
        },
        methods=[
            {
                "name": name,
                "title": METHODS[name].title,
                "settings": settings[name].changes(),
                "ceiling": _ceiling(settings[name], len(data.classes)),
            }
            for name in names
        ],
        **summarise(finished, runs.labels),
        verdict=[],
        versions=environment.versions(),
        command=command,
    )
    study = dataclasses.replace(study, verdict=verdict(study))
    save_study(config.folder / "study.json", study)
    return study


def _settle(config: StudyConfig) -> dict[str, Any]:
    """The defaults that depend on the kind of data, and on the backbone."""
    from labelsmooth.study.data.sources import is_small
    from labelsmooth.study.training.network import SMALL_CNN

    backbone = config.backbone or (SMALL_CNN if is_small(config.data) else "resnet34")
    small = backbone == SMALL_CNN
    native = small and is_small(config.data) and config.size is None
    epochs = config.epochs or (DEFAULT_EPOCHS.get(config.data, 30) if small else 4)
    if config.quick and config.epochs is None:
        epochs = math.ceil(epochs / 2)
    return {
        "backbone": backbone,
        "weights": "none" if small else config.weights,
        "size": 0 if native else config.size or (64 if small else 224),  # 0: as the images are
        "epochs": epochs,
        "batch_size": config.batch_size or (64 if small else 32),
        "learning_rate": config.learning_rate or (3e-3 if small else 1e-2),
    }


def _base_spec(
    config: StudyConfig, settled: dict[str, Any], fingerprint: str, limits: tuple[int, int, int] | None
) -> RunSpec:
    """The baseline's spec, of which every run is a change."""
    from labelsmooth.study.training.network import weights_fingerprint

    fixed = {**settled, "weights": weights_fingerprint(settled["weights"])}
    return RunSpec(fingerprint, config.split_seed, limits, **fixed, settings=Settings(), seed=0)


def _tuned(name: str, base: RunSpec, runs: Runs) -> int:
    """The strength of a method's grid with the lowest final validation NLL, on a seed of its own."""
    grid = METHODS[name].grid
    if len(set(grid)) == 1:
        return 1
    validation = runs.labels["validation"]
    scores = []
    for settings in grid:
        spec = dataclasses.replace(base, settings=settings, seed=TUNING_SEED)
        logits = runs.run(f"{METHODS[name].title} (tuning)", spec).logits["validation"]
        result = evaluate(dict.fromkeys(PARTS, logits), dict.fromkeys(PARTS, validation), ("none",))
        scores.append(float(result["none"].values["nll"].mean()))
    return int(np.argmin(scores))


def _ceiling(settings: Settings, num_classes: int) -> float | None:
    """The confidence that a perfect fit converges to under uniform smoothing; None where that is 1 or not known."""
    if settings.smoothing not in ("uniform", "others") or not 0 < settings.epsilon <= 1:
        return None
    return ceiling(settings.epsilon, num_classes, "others" if settings.smoothing == "others" else "all").confidence
