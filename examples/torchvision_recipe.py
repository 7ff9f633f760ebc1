"""torchvision's reference recipe for classification with our loss: MixUp or CutMix in the collator, warm-up, EMA.

    python examples/torchvision_recipe.py       # scikit-learn's digits, a minute on a CPU

As in references/classification/train.py: SGD with Nesterov momentum, a linear warm-up into a cosine, an exponential
moving average of the weights, no weight decay of norms, and epsilon = 0.1.  The loss is one line.
Needs pip install labelsmooth[study].
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (for PyPI's torchvision beside a CPU build of PyTorch)

import argparse
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from labelsmooth import LabelSmoothingCrossEntropy, metrics


def main(arguments: Sequence[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=1797, help="how many of the digits")
    chosen = parser.parse_args(arguments)
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images[: chosen.images, None], dtype=torch.float32) / 8 - 1
    images = torch.nn.functional.interpolate(images, scale_factor=4).expand(-1, 3, -1, -1)
    labels = torch.tensor(digits.target[: chosen.images])
    held_out = len(labels) // 5

    mix = v2.RandomChoice([v2.MixUp(num_classes=10, alpha=0.2), v2.CutMix(num_classes=10, alpha=1.0)])

    def collate(batch: list[Any]) -> Any:
        return mix(*default_collate(batch))

    data = TensorDataset(images[held_out:], labels[held_out:])
    loader = DataLoader(data, batch_size=64, shuffle=True, drop_last=True, collate_fn=collate)

    model = torchvision.models.resnet18(num_classes=10)
    norms = [p for p in model.parameters() if p.dim() < 2]
    others = [p for p in model.parameters() if p.dim() >= 2]
    groups = [{"params": others, "weight_decay": 2e-5}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    steps, warm_up = chosen.epochs * len(loader), len(loader)
    schedules = [LinearLR(optimizer, 0.01, total_iters=warm_up), CosineAnnealingLR(optimizer, max(1, steps - warm_up))]
    scheduler = SequentialLR(optimizer, schedules, milestones=[warm_up])
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    criterion = LabelSmoothingCrossEntropy(chosen.epsilon, smooth_in_eval=False)  # the line

    for _ in range(chosen.epochs):
        model.train()
        for mixed, targets in loader:
            loss = criterion(model(mixed), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            averaged.update_parameters(model)
    averaged.eval()
    with torch.no_grad():
        logits = averaged(images[:held_out])
    print(metrics.error(logits=logits, labels=labels[:held_out], interval=0.95))
    print(metrics.ece(logits=logits, labels=labels[:held_out], interval=0.95))
    return float(criterion.eval()(logits, labels[:held_out]))


if __name__ == "__main__":
    main()
