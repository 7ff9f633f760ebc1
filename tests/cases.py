"""One table of cases for every test of a loss: inputs, targets and options as F.cross_entropy takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    """A call of cross_entropy; ``make`` gives the same numbers every time, and fresh tensors."""

    name: str
    shape: tuple[int, ...]  # of the logits: (K,), (N, K) or (N, K, d1, ...)
    target: str = "index"  # or "probabilities"
    weighted: bool = False
    ignored: bool = False  # about a third of the labels
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        generator = torch.Generator().manual_seed(len(self.name))
        class_dim = 0 if len(self.shape) == 1 else 1
        num_classes = self.shape[class_dim]
        logits = (3 * torch.randn(self.shape, generator=generator, dtype=torch.float64)).to(dtype)
        options = dict(self.options)
        if self.target == "probabilities":
            target = torch.rand(self.shape, generator=generator, dtype=torch.float64).softmax(class_dim).to(dtype)
        else:
            labels = self.shape[:class_dim] + self.shape[class_dim + 1 :]
            target = torch.randint(num_classes, labels, generator=generator)
            if self.ignored:
                target = target.masked_fill(
                    torch.rand(labels, generator=generator) < 0.3, options.get("ignore_index", -100)
                )
        if self.weighted:
            options["weight"] = torch.rand(num_classes, generator=generator, dtype=torch.float64).to(dtype)
        return logits, target, options


CASES = [
    Case("one example", (5,)),
    Case("rows", (7, 5)),
    Case("rows, smoothed", (7, 5), options={"label_smoothing": 0.1}),
    Case("epsilon one", (7, 5), options={"label_smoothing": 1.0}),
    Case("one class", (4, 1), options={"label_smoothing": 0.3}),
    Case("dense prediction", (2, 5, 3, 4), options={"label_smoothing": 0.2}),
    Case("sequence, some ignored", (3, 5, 6), ignored=True, options={"label_smoothing": 0.2}),
    Case("ignored by a class index", (9, 5), ignored=True, options={"label_smoothing": 0.1, "ignore_index": 2}),
    Case("class weights", (7, 5), weighted=True),
    Case("class weights, smoothed", (7, 5), weighted=True, options={"label_smoothing": 0.1}),
    Case("weights and ignored", (11, 5), weighted=True, ignored=True, options={"label_smoothing": 0.3}),
    Case("probabilities", (7, 5), target="probabilities"),
    Case("probabilities of one example", (5,), target="probabilities", options={"label_smoothing": 0.1}),
    Case("probabilities, weighted and smoothed", (4, 5, 3), "probabilities", True, options={"label_smoothing": 0.2}),
    Case("many classes", (3, 1001), options={"label_smoothing": 0.1}),
    Case("empty batch", (0, 5), options={"label_smoothing": 0.1}),
]
REDUCTIONS = ("mean", "sum", "none")
