"""Draws each penalty, and each loss in place of the cross-entropy, over one logit: docs/pictures/penalties.svg.

python docs/pictures/penalties.py
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from labelsmooth import (
    brier_weighted_loss,
    dual_focal_loss,
    focal_loss,
    label_relaxation_loss,
    logit_norm_loss,
    penalty,
)

K = 10
FILE = Path(__file__).parent / "penalties.svg"
# Two curves each: the logit belongs to the label (a right prediction), or to another class (a wrong one).
RIGHT, WRONG = "#1b4f72", "#e59866"
PANELS = {
    "margin": partial(penalty.margin, strength=1.0),
    "acls": partial(penalty.acls, strength=0.1),
    "max_suppression": partial(penalty.max_suppression, strength=0.1),
    "confidence": partial(penalty.confidence, strength=0.1),
    "poly1": penalty.poly1,
    "focal_loss": focal_loss,
    "dual_focal_loss": dual_focal_loss,
    "brier_weighted_loss": brier_weighted_loss,
    "label_relaxation_loss": label_relaxation_loss,
    "logit_norm_loss": partial(logit_norm_loss, temperature=0.2),
}


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "labelsmooth", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, grid = plt.subplots(2, 5, figsize=(11.0, 4.2), sharex=True)
    gap = torch.linspace(0.0, 16.0, 321)
    for axes, (name, function) in zip(grid.flat, PANELS.items(), strict=True):
        for y, colour, style in ((0, RIGHT, "-"), (1, WRONG, "--")):
            logits = torch.zeros(len(gap), K)
            logits[:, 0] = gap
            labels = torch.full((len(gap),), y)
            if name.endswith("_loss"):
                axes.plot(gap, F.cross_entropy(logits, labels, reduction="none"), color="0.75", linewidth=1)
            axes.plot(gap, function(logits, labels, reduction="none"), style, color=colour, linewidth=1.6)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7, length=2)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[1]:
        axes.set_xlabel("largest logit", fontsize=8)
    figure.legend(
        [plt.Line2D([], [], color=c, linestyle=s) for c, s in ((RIGHT, "-"), (WRONG, "--"), ("0.75", "-"))],
        ["the label's", "another's", "cross-entropy"],
        loc="lower center", ncols=3, fontsize=8, frameon=False,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(FILE, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    print(FILE.name)


if __name__ == "__main__":
    main()
