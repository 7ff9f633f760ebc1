"""Photos a second in training: our trainer beside fastai's Learner and timm's recipe, a whole epoch from the files on.

    python bench/train.py [--quick] [--threads 2] [--first 1] [--device cpu | cuda]

All train the same timm backbone from random weights, every layer of it, on the same JPEG files of 500 x 375 pixels, in
batches of the same size, with random resized crops and flips, and smoothed labels; validation is not counted.  Each
runs in a process of its own.  An epoch is timed after one to warm up; the contenders take turns, and the table holds
medians.  "photos/CPU s" divides by the processor time of the process and its workers instead, which other work on the
machine hardly touches.

Ours decodes the photos once, before the first epoch, and keeps them; "start s" is how long that takes, and "photos/s,
4 epochs" counts it.  timm's own options for bfloat16 and channels-last make the fourth line; fastai has bfloat16 on a
GPU only, and trains in it there.
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before timm and fastai)

import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import timm.data
import timm.loss
import timm.optim
import torch
from fastai.vision.all import Callback, Flip, ImageDataLoaders, RandomResizedCrop, vision_learner
from harness import options, table, write
from PIL import Image

from labelsmooth import LabelSmoothingCrossEntropy
from labelsmooth._memory import keep_freed_memory
from labelsmooth.data import Split, load_dataset
from labelsmooth.progress import Progress
from labelsmooth.training import RunSpec, Settings
from labelsmooth.training.fit import train

EPSILON, SCALE, CLASSES = 0.1, 0.35, 8
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Case:
    backbone: str
    size: int
    batch: int
    photos: int


CASES = [Case("resnet34", 128, 32, 256), Case("tf_efficientnet_lite0", 224, 32, 256)]


def make_photos(folder: Path, photos: int) -> None:
    """JPEGs as large as those of the Oxford-IIIT Pets, smooth with some noise, in class folders; and one a class in
    ``held_out`` for libraries that want something to validate on."""
    rng = np.random.default_rng(0)
    for number in range(photos + CLASSES):
        part = "train" if number < photos else "held_out"
        path = folder / part / f"class{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = (pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=90)


def cpu_seconds() -> float:
    """Processor time of this process, of its children that have ended, and of those that live."""
    total = sum(os.times()[:4])
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


@dataclass
class Clock:
    """Started and stopped around what counts; ``wall`` and ``cpu`` are seconds."""

    wall: float = 0.0
    cpu: float = 0.0

    def start(self) -> None:
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def stop(self) -> None:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self.wall, self.cpu = time.perf_counter() - self.wall, cpu_seconds() - self.cpu


class Ours:
    """The public function, for two epochs each time: the second is the one that counts."""

    def __init__(self, folder: Path, case: Case) -> None:
        start = time.perf_counter()
        self.data = load_dataset(folder / "train", case.size)
        self.start = time.perf_counter() - start
        none = np.empty(0, np.int64)
        self.split = Split(np.arange(len(self.data.labels)), none, none)
        self.spec = RunSpec(
            data=self.data.fingerprint,
            split_seed=0,
            limits=None,
            backbone=case.backbone,
            weights="none",
            size=case.size,
            epochs=2,
            batch_size=case.batch,
            learning_rate=1e-3,
            settings=Settings(epsilon=EPSILON),
            seed=0,
            precision="auto",
        )

    def epoch(self) -> Clock:
        clock = Clock()

        class Ended(Progress):
            def epoch(self, done: int, total: int, worker: int = 0) -> None:
                clock.start() if done == 1 else clock.stop()

        with tempfile.TemporaryDirectory() as folder:
            train(self.spec, self.data, self.split, "none", Path(folder), Ended())
        return clock


class TrainingClock(Callback):
    """The time of the training part of fastai's epoch."""

    def before_train(self) -> None:
        self.clock = Clock()
        self.clock.start()

    def after_train(self) -> None:
        self.clock.stop()


class Fastai:
    """vision_learner and fit_one_cycle."""

    def __init__(self, folder: Path, case: Case) -> None:
        start = time.perf_counter()
        dls = ImageDataLoaders.from_folder(
            folder,
            train="train",
            valid="held_out",
            item_tfms=RandomResizedCrop(case.size, min_scale=SCALE),
            batch_tfms=Flip(),
            bs=case.batch,
        )
        loss = LabelSmoothingCrossEntropy(EPSILON)
        self.learn = vision_learner(dls, case.backbone, pretrained=False, loss_func=loss, cbs=TrainingClock())
        self.learn.remove_cb(self.learn.progress)
        if DEVICE.type == "cuda":
            self.learn.to_bf16()
        self.start = time.perf_counter() - start
        self.epoch()

    def epoch(self) -> Clock:
        with self.learn.no_logging():
            self.learn.fit_one_cycle(1, 1e-3)
        return self.learn.training_clock.clock  # type: ignore[no-any-return]


class Timm:
    """The loop of timm's training script with its data, optimiser and loss; ``fast`` with --channels-last and
    --amp --amp-dtype bfloat16."""

    def __init__(self, folder: Path, case: Case, fast: bool = False) -> None:
        start = time.perf_counter()
        self.fast, self.format = fast, torch.channels_last if fast else torch.contiguous_format
        model: Any = timm.create_model(case.backbone, pretrained=False, num_classes=CLASSES)
        self.model = model.to(device=DEVICE, memory_format=self.format)
        self.loader = timm.data.create_loader(
            timm.data.create_dataset("", str(folder / "train")),
            input_size=(3, case.size, case.size),
            batch_size=case.batch,
            is_training=True,
            scale=(SCALE, 1.0),
            color_jitter=0.0,
            num_workers=min(16, os.cpu_count() or 1),  # as many as fastai takes
            device=DEVICE,
            use_prefetcher=False,
        )
        self.optimizer = timm.optim.create_optimizer_v2(self.model, opt="adamw", lr=1e-3, weight_decay=0.0)
        self.loss = timm.loss.LabelSmoothingCrossEntropy(EPSILON)
        self.start = time.perf_counter() - start
        self.epoch()

    def epoch(self) -> Clock:
        clock = Clock()
        clock.start()
        self.model.train()
        for images, labels in self.loader:
            images = images.to(DEVICE, memory_format=self.format)
            with torch.autocast(DEVICE.type, torch.bfloat16) if self.fast else nullcontext():
                loss = self.loss(self.model(images), labels.to(DEVICE))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        clock.stop()
        return clock


MAKERS: dict[str, Callable[[Path, Case], Any]] = {
    "labelsmooth": Ours,
    "fastai": Fastai,
    "timm": Timm,
    "timm, bfloat16, channels-last": partial(Timm, fast=True),
}


class Contender:
    """One of them in a process of its own, as its users run it: ours keeps the memory that it frees, as the command
    ``labelsmooth train`` does, and the others must not profit from that."""

    made: Any  # in that process

    def __init__(self, who: str, folder: Path, case: Case, threads: int) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.start: float = self._pool.submit(Contender._make, who, folder, case, threads).result()

    @staticmethod
    def _make(who: str, folder: Path, case: Case, threads: int) -> float:
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads)
        if who == "labelsmooth":
            keep_freed_memory()
        Contender.made = MAKERS[who](folder, case)
        return float(Contender.made.start)

    @staticmethod
    def _epoch() -> Clock:
        clock: Clock = Contender.made.epoch()
        return clock

    def epoch(self) -> Clock:
        return self._pool.submit(Contender._epoch).result()

    def stop(self) -> None:
        self._pool.submit(os._exit, 0)  # a library's own threads and workers must not keep the process
        self._pool.shutdown(wait=False)


def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder, case.photos)
        contenders = {who: Contender(who, folder, case, torch.get_num_threads()) for who in MAKERS}
        clocks: dict[str, list[Clock]] = {who: [] for who in MAKERS}
        for _ in range(rounds):
            for who, contender in contenders.items():
                clocks[who].append(contender.epoch())
        for contender in contenders.values():
            contender.stop()
    ours = clocks["labelsmooth"]
    rows = []
    for who, times in clocks.items():
        wall, start = statistics.median(clock.wall for clock in times), contenders[who].start
        pairs = list(zip(times, ours, strict=True))
        rows.append(
            {
                "training": f"{case.backbone}, {case.size} pixels, batch {case.batch}, {case.photos} photos",
                "who": who,
                "photos/s": case.photos / wall,
                "times ours": statistics.median(their.wall / our.wall for their, our in pairs),
                "photos/CPU s": case.photos / statistics.median(clock.cpu for clock in times),
                "times ours (CPU)": statistics.median(their.cpu / our.cpu for their, our in pairs),
                "start s": start,
                "photos/s, 4 epochs": 4 * case.photos / (start + 4 * wall),
            }
        )
    return rows


if __name__ == "__main__":
    chosen = options("Photos a second of whole training epochs, beside fastai and timm.", devices=True)
    if chosen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for the contenders' processes
    elif chosen.device == "cuda" and DEVICE.type != "cuda":
        raise SystemExit("--device cuda needs a CUDA device, and PyTorch sees none. Nothing was timed.")
    warnings.simplefilter("ignore")
    measured = []
    for case in CASES[: chosen.first]:
        rows = measure(replace(case, photos=96), 1) if chosen.quick else measure(case, 5)
        print(table(rows, list(rows[0])), end="\n\n", flush=True)
        measured += rows
    write("train", rows=measured)
