"""Draws the target distribution of each policy for one label of ten: docs/pictures/policies/*.svg.

python docs/pictures/policies.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from labelsmooth.smoothing import (
    ClassMatrix,
    Online,
    Prior,
    Teacher,
    TeacherFree,
    Uniform,
    beta,
    binomial,
    confusion,
    embeddings,
    gaussian,
    mix,
    ordinal,
    poisson,
    taxonomy,
)

K, LABEL = 10, 3
FOLDER = Path(__file__).parent / "policies"
# The two colours differ in lightness too, for print and for the colour-blind.
OF_LABEL, OF_BASE = "#1b4f72", "#e59866"


def clothes() -> Online:
    """A model of ten kinds of clothes that takes a dress (3) for a shirt (6), a top (0) or a coat (4) at times."""
    logits = torch.full((1, K), -1.0)
    logits[0, [3, 6, 0, 4]] = torch.tensor([3.0, 1.8, 1.4, 1.0])
    policy = Online(K, 0.5)
    policy.observe(logits, torch.tensor([LABEL]))
    policy.step()
    return policy


def tree() -> dict[str, str]:
    """Ten leaves: 0 to 3 are close cousins, 4 and 5 less so, and 6 to 9 are another branch."""
    parents = {str(k): "a" for k in (2, 3)} | {str(k): "b" for k in (0, 1)} | {str(k): "c" for k in (4, 5)}
    parents |= {str(k): "d" for k in (6, 7, 8, 9)}
    return parents | {"a": "ab", "b": "ab", "ab": "abc", "c": "abc", "abc": "root", "d": "root"}


def counts() -> torch.Tensor:
    table = torch.eye(K) * 90
    table[LABEL, [0, 4, 6]] = torch.tensor([3.0, 2.0, 6.0])
    return table


ANGLES = torch.linspace(0, 2.5, K)
VECTORS = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
FREQUENCIES = torch.tensor([30.0, 22, 15, 11, 8, 5, 4, 2, 2, 1])
POLICIES = {
    "none": Uniform(0.0),
    "uniform": Uniform(0.3),
    "others": Uniform(0.3, "others"),
    "exclude": Uniform(0.3, exclude=[0, 1]),
    "negative": Uniform(-0.8, allow_negative=True),
    "prior": Prior(0.3, FREQUENCIES),
    "per-label": Uniform(torch.tensor([0.6])),
    "ordinal": ClassMatrix(1.0, ordinal(K)),
    "gaussian": ClassMatrix(1.0, gaussian(K, sigma=1.0)),
    "binomial": ClassMatrix(1.0, binomial(K)),
    "poisson": ClassMatrix(1.0, poisson(K)),
    "beta": ClassMatrix(1.0, beta(K)),
    "taxonomy": ClassMatrix(1.0, taxonomy(tree(), [str(k) for k in range(K)], beta=5.0)),
    "embeddings": ClassMatrix(0.3, embeddings(VECTORS, temperature=0.1, include_label=False)),
    "confusion": ClassMatrix(0.3, confusion(counts())),
    "online": clothes(),
    "teacher": Teacher(0.5, logits=torch.tensor([[0.2, 1.0, 0.0, 3.0, -1.0, 0.5, 1.6, 0.0, -1.0, 0.3]])),
    "teacher-free": TeacherFree(0.3),
}


def q_of(name: str) -> torch.Tensor:
    """[K] the target of the label."""
    if name == "mix":
        mixture = mix(torch.tensor([LABEL]), torch.tensor([7]), 0.7)
        parts = [Uniform(0.3)(labels, K).dense()[0] for labels in (mixture.a, mixture.b)]
        return mixture.lam * parts[0] + (1 - mixture.lam) * parts[1]
    return POLICIES[name](torch.tensor([LABEL]), K).dense()[0]


def draw(name: str) -> None:
    q = q_of(name).tolist()
    labels = (LABEL, 7) if name == "mix" else (LABEL,)
    figure, axes = plt.subplots(figsize=(2.6, 1.25))
    axes.bar(range(K), q, width=0.8, color=[OF_LABEL if k in labels else OF_BASE for k in range(K)])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_ylim(min(0.0, min(q)) * 1.4, max(1.0, max(q)) * 1.05)
    axes.set_xticks([LABEL], [f"{LABEL}"], fontsize=7)
    axes.set_yticks([0, 1], ["0", "1"], fontsize=7)
    axes.tick_params(length=2, pad=1)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout(pad=0.2)
    # No date and fixed ids: drawn again, the file is the same.
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "labelsmooth", "svg.fonttype": "none", "font.family": "sans-serif"})
    FOLDER.mkdir(exist_ok=True)
    for name in [*POLICIES, "mix"]:
        draw(name)
        print(FOLDER.name + f"/{name}.svg")


if __name__ == "__main__":
    main()
