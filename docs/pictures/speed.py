"""Draws the time of the loss beside its peers from bench/results/cross_entropy.json: docs/pictures/speed.svg.

python docs/pictures/speed.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).parent / "speed.svg"
BARS = {
    "labelsmooth": "#00897b",
    "torch compiled": "#b0bec5",
    "torch eager": "#78909c",
    "torch eager, alone": "#455a64",  # in a process of its own, whose malloc gives large blocks back to the system
}


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "labelsmooth", "svg.fonttype": "none", "font.family": "sans-serif"})
    records = json.loads((ROOT / "bench/results/cross_entropy.json").read_text())
    rows = [row for one in records for row in one["rows"] if row["dtype"] == "float32" and row["who"] in BARS]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    figure, axes = plt.subplots(figsize=(8.4, 2.9))
    width = 0.2
    for offset, (who, colour) in enumerate(BARS.items()):
        ratio: dict[str, float] = {}
        for row in rows:
            if row["who"] == who:  # of several machines, the one where ours gains least
                ratio[row["shape"]] = min(row["times ours (least)"], ratio.get(row["shape"], float("inf")))
        places = [index + (offset - 1.5) * width for index in range(len(shapes))]
        bars = axes.bar(places, [ratio.get(shape, 0) for shape in shapes], width * 0.92, color=colour, label=who)
        axes.bar_label(
            bars, [f"{ratio[shape]:.1f}" if shape in ratio else "" for shape in shapes], fontsize=7, padding=1
        )
    axes.set_xticks(range(len(shapes)), [shape.replace("x", "×") for shape in shapes], fontsize=8)
    axes.set_ylabel("least time, ours = 1", fontsize=8)
    axes.set_yscale("log")
    axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"], fontsize=8)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    machine = records[0]["machine"]
    where = (
        f"{machine['cores']} cores of an {machine['cpu']}" if len(records) == 1 else f"least of {len(records)} machines"
    )
    axes.set_title(
        f"Loss and gradient, label smoothing 0.1, float32, rows × classes; {where}, "
        f"PyTorch {machine['torch'].split('+')[0]}",
        fontsize=8,
        loc="left",
    )
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    figure.tight_layout()
    figure.savefig(FILE, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    print(FILE.name)


if __name__ == "__main__":
    main()
