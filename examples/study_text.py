"""A study of one's own texts and one's own network.

    python examples/study_text.py [--seeds 5] [--epochs 10] [--out studies/docstrings]

The texts are the beginnings of the docstrings of NumPy, SciPy, scikit-learn and PyTorch; the class of a text is
its library.  A text is a row of at most 32 word numbers, and the network a mean of word vectors under two layers.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import zlib

import numpy as np
import torch
from torch import Tensor, nn

from labelsmooth.data import array_dataset
from labelsmooth.report import write_study
from labelsmooth.study import StudyRecord, run_study

LIBRARIES = {
    "numpy": ("numpy", "numpy.linalg", "numpy.fft", "numpy.ma", "numpy.polynomial.polynomial"),
    "scipy": ("scipy.stats", "scipy.signal", "scipy.optimize", "scipy.linalg", "scipy.special", "scipy.ndimage"),
    "sklearn": ("sklearn.metrics", "sklearn.linear_model", "sklearn.preprocessing", "sklearn.datasets", "sklearn.svm"),
    "torch": ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.distributions"),
}
WORDS, LENGTH = 4096, 32


def texts() -> dict[str, list[str]]:
    """The beginnings of each library's docstrings, two paragraphs, none twice."""
    by_library: dict[str, dict[str, None]] = {}
    for library, modules in LIBRARIES.items():
        paragraphs = by_library.setdefault(library, {})
        for name in modules:
            module = importlib.import_module(name)
            for _, value in sorted(vars(module).items()):
                if callable(value) and (text := inspect.getdoc(value)):
                    paragraphs[" ".join(" ".join(text.split("\n\n")[:2]).split())] = None
    return {library: [text for text in paragraphs if len(text) > 20] for library, paragraphs in by_library.items()}


def numbers(text: str) -> list[int]:
    """A number for each word, 1 to 4,095; 0 is for no word."""
    words = re.findall(r"[a-z]{2,}", text.lower())[:LENGTH]
    return [1 + zlib.crc32(word.encode()) % (WORDS - 1) for word in words] + [0] * (LENGTH - len(words))


class TextNetwork(nn.Module):
    """Mean word vector, one hidden layer, logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.vectors = nn.EmbeddingBag(WORDS, 64, mode="mean", padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, num_classes))

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.layers(self.vectors(words))
        return logits


def main(arguments: list[str] | None = None) -> StudyRecord:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", default="studies/docstrings")
    chosen = parser.parse_args(arguments)
    by_library = texts()
    rows = [numbers(text) for paragraphs in by_library.values() for text in paragraphs]
    labels = np.repeat(np.arange(len(by_library)), [len(paragraphs) for paragraphs in by_library.values()])
    study = run_study(
        data=array_dataset("docstrings", torch.tensor(rows), labels, classes=list(by_library)),
        make_network=TextNetwork,
        methods="label-smoothing,weight-decay,dropout",
        seeds=chosen.seeds,
        epochs=chosen.epochs,
        out=chosen.out,
    )
    write_study(study, f"{chosen.out}/report.html")
    print("\n".join(study.verdict))
    return study


if __name__ == "__main__":
    main()
