"""The article's program with today's fastai: a pretrained network, four epochs on the Oxford-IIIT Pets, our loss.

    python examples/article.py                  # as in the article: ResNet-34, a fifth of the photos held out
    python examples/article.py --epsilon 0      # the same without smoothing
    python examples/article.py --data-dir data --backbone tf_efficientnet_lite0 --weights lite0.safetensors

Only the loss is changed.  As in the article fit_one_cycle trains the new head; fastai keeps the body frozen.
Needs pip install labelsmooth[fastai]; timm too for other backbones than resnet34.
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (for PyPI's torchvision beside a CPU build of PyTorch)

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import (
    CategoryBlock,
    ClassificationInterpretation,
    DataBlock,
    DataLoaders,
    FuncSplitter,
    ImageBlock,
    Learner,
    RandomSplitter,
    RegexLabeller,
    Resize,
    URLs,
    aug_transforms,
    error_rate,
    get_image_files,
    noop,
    resnet34,
    set_seed,
    untar_data,
    using_attr,
    vision_learner,
)

from labelsmooth import LabelSmoothingCrossEntropy, metrics


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    chosen = _options(arguments)
    set_seed(chosen.seed, reproducible=True)
    root = chosen.data_dir / "oxford-iiit-pet" if chosen.data_dir else untar_data(URLs.PETS)
    dls = make_dls(root, chosen.split, chosen.size, chosen.batch_size, chosen.seed, chosen.workers)
    learn = make_learner(dls, chosen.backbone, chosen.weights, chosen.epsilon, chosen.out)
    print(f"{len(dls.train_ds)} photos to train on, {len(dls.valid_ds)} held out, {dls.c} breeds")

    quietly(learn)
    before = largest_logit(learn)
    learn.fit_one_cycle(chosen.epochs)
    after = largest_logit(learn)

    probabilities, labels = learn.get_preds()
    results = {
        "error": float(metrics.error(probabilities, labels)),
        "nll": float(metrics.nll(probabilities, labels)),
        "ece": float(metrics.ece(probabilities, labels)),
        "confidence": float(probabilities.max(1).values.mean()),
        "largest logit before": before,
        "largest logit after": after,
    }
    print(f"error {results['error']:.1%}, NLL {results['nll']:.3f}, ECE {results['ece']:.3f}, ", end="")
    print(
        f"mean confidence {results['confidence']:.3f}; a photo's largest logit {before:.2f} before, {after:.2f} after"
    )
    if chosen.out:
        show(learn)
        learn.export("article.pkl")
        print(f"{learn.path / 'article.pkl'}: load_learner reads it; it is a pickle, so load only files that you trust")
    return results


def show(learn: Learner) -> None:
    """Print which breeds are confused most, and the prediction for one photo."""
    confused = ClassificationInterpretation.from_learner(learn).most_confused(min_val=2)[:3]
    print("most confused:", ", ".join(f"{truth} predicted as {breed} ({n})" for truth, breed, n in confused) or "none")
    photo = learn.dls.valid_ds.items[0]
    breed, number, probabilities = learn.predict(photo)
    print(f"{photo.name}: {breed} {probabilities[number]:.1%}")


def make_dls(root: Path, split: str, size: int, batch_size: int, seed: int, workers: int | None = None) -> DataLoaders:
    """The photos in ``root / "images"``, named BREED_NUMBER.jpg; resized and augmented as in fastai's tutorial.

    ``split`` is "article" (a fifth held out at random) or "official" (trainval.txt and test.txt in
    ``root / "annotations"``).
    """
    files = sorted(get_image_files(root / "images"))
    splitter: Callable[..., Any] = RandomSplitter(0.2, seed=seed)
    if split == "official":
        listed = {name: _listed(root / "annotations" / f"{name}.txt") for name in ("trainval", "test")}
        files = [file for file in files if file.stem in listed["trainval"] | listed["test"]]
        splitter = FuncSplitter(lambda file: file.stem in listed["test"])
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_y=using_attr(RegexLabeller(r"(.+)_\d+.jpg$"), "name"),
        splitter=splitter,
        item_tfms=Resize(round(460 / 224 * size)),
        batch_tfms=aug_transforms(size=size),
    )
    return block.dataloaders(files, path=root, bs=batch_size, num_workers=workers)


def _listed(file: Path) -> set[str]:
    return {line.split()[0] for line in file.read_text().splitlines() if line and not line.startswith("#")}


def make_learner(dls: DataLoaders, backbone: str, weights: str, epsilon: float, out: Path | None) -> Learner:
    """The learner of the article for resnet34 with weights from the hub; other backbones and weights likewise."""
    loss = LabelSmoothingCrossEntropy(epsilon)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    if weights in ("hub", "none"):
        arch = resnet34 if backbone == "resnet34" else backbone  # a string is a timm model to fastai
        return vision_learner(dls, arch, pretrained=weights == "hub", loss_func=loss, metrics=error_rate, path=out)
    overlay = {"file": weights}  # timm reads its pretrained weights there
    learn = vision_learner(dls, backbone, pretrained_cfg_overlay=overlay, loss_func=loss, metrics=error_rate, path=out)
    _check_weights(learn, weights)
    return learn


def _check_weights(learn: Learner, file: str) -> None:
    """Check that every tensor of the body came from the file: timm skips what does not fit."""
    from safetensors.torch import load_file

    stored = load_file(file)
    wrong = [
        name
        for name, value in learn.model[0].model.state_dict().items()
        if name not in stored or not torch.equal(value.cpu(), stored[name])
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise SystemExit(f"{file} does not hold the weights of this backbone: it lacks {', '.join(wrong[:5])}{more}.")


def quietly(learn: Learner) -> None:
    """Remove the progress bar where the output is not a terminal."""
    if not sys.stdout.isatty() and hasattr(learn, "progress"):
        learn.remove_cb(learn.progress)


def largest_logit(learn: Learner) -> float:
    """The mean of the largest logit over at most 200 of the held-out photos, evenly spaced."""
    photos = learn.dls.valid_ds.items
    logits, _ = learn.get_preds(dl=learn.dls.test_dl(photos[:: -(-len(photos) // 200)]), act=noop)
    return float(logits.max(1).values.mean())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    folder = os.environ.get("LABELSMOOTH_DATA")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(folder) if folder else None,
        help="the folder that holds oxford-iiit-pet/ (LABELSMOOTH_DATA, else fastai downloads it)",
    )
    parser.add_argument("--split", choices=["article", "official"], default="article")
    parser.add_argument("--backbone", default="resnet34", help="resnet34, or any timm model")
    parser.add_argument("--weights", default="hub", help="hub, none, or a safetensors file with timm's keys")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="processes that decode photos")
    parser.add_argument("--out", type=Path, help="a folder to export the learner to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
