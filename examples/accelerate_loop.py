"""A training loop with Accelerate, on one process or several; the loss is one line.

    python examples/accelerate_loop.py
    torchrun --nproc-per-node 2 examples/accelerate_loop.py

Each process trains on its share of a batch, and Accelerate averages the gradients.  The calibrator is fitted to the
gathered logits of the held-out digits.  Needs pip install labelsmooth[study] accelerate.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from labelsmooth import LabelSmoothingCrossEntropy, metrics, smoothing
from labelsmooth.calibrate import TemperatureScaling

EPOCHS = 5


def main() -> dict[str, float]:
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    set_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    policy = smoothing.Scheduled(smoothing.Uniform(), smoothing.schedule.linear(0.2, 0.0, EPOCHS))
    criterion = LabelSmoothingCrossEntropy(policy)  # the line
    train = DataLoader(TensorDataset(images[600:], labels[600:]), batch_size=32, shuffle=True)
    held_out = DataLoader(TensorDataset(images[:600], labels[:600]), batch_size=100)
    model, optimizer, train, held_out = accelerator.prepare(model, optimizer, train, held_out)
    for _ in range(EPOCHS):
        for features, target in train:
            accelerator.backward(criterion(model(features), target))
            optimizer.step()
            optimizer.zero_grad()
        policy.step()
    with torch.no_grad():
        batches = [accelerator.gather_for_metrics((model(features), target)) for features, target in held_out]
    logits, target = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    calibrator = TemperatureScaling().fit(logits[:300], target[:300])
    values = {
        "rows": len(target),
        "error": float(metrics.error(logits=logits[300:], labels=target[300:])),
        "ece": float(metrics.ece(logits=logits[300:], labels=target[300:])),
        "calibrated ece": float(metrics.ece(calibrator.predict_proba(logits[300:]), target[300:])),
    }
    accelerator.print(f"{accelerator.num_processes} processes: {values}")
    accelerator.end_training()
    return values


if __name__ == "__main__":
    main()
