"""timm's training recipe with our loss: its network, optimizer, schedule and Mixup; the loss is one line.

    python examples/timm_recipe.py              # scikit-learn's digits, a minute on a CPU
    python examples/timm_recipe.py --epochs 1

timm's train.py smooths in two places: Mixup(label_smoothing=...) makes smoothed class probabilities, and
LabelSmoothingCrossEntropy smooths labels.  Here Mixup is made with label_smoothing=0.0, and the loss smooths both.
Needs pip install labelsmooth[study].
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (for PyPI's torchvision beside a CPU build of PyTorch)

import argparse
from collections.abc import Sequence

import timm
import torch
from sklearn.datasets import load_digits
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

from labelsmooth import LabelSmoothingCrossEntropy, metrics


def main(arguments: Sequence[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet10t")
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
    data = torch.utils.data.TensorDataset(images[held_out:], labels[held_out:])
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True, drop_last=True)

    model = timm.create_model(chosen.model, num_classes=10)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=2e-3, weight_decay=0.05)
    scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=chosen.epochs)
    mixup = Mixup(mixup_alpha=0.2, cutmix_alpha=1.0, prob=0.5, label_smoothing=0.0, num_classes=10)
    criterion = LabelSmoothingCrossEntropy(chosen.epsilon, smooth_in_eval=False)  # the line

    for epoch in range(epochs):
        model.train()
        for batch in loader:
            mixed, targets = mixup(*batch)
            loss = criterion(model(mixed), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step(epoch + 1)
    model.eval()
    with torch.no_grad():
        logits = model(images[:held_out])
    print(metrics.error(logits=logits, labels=labels[:held_out], interval=0.95))
    print(metrics.ece(logits=logits, labels=labels[:held_out], interval=0.95))
    return float(criterion.eval()(logits, labels[:held_out]))


if __name__ == "__main__":
    main()
