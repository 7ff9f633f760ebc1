"""A study of one's own table of numbers and one's own network.

    python examples/study_tabular.py [--seeds 5] [--epochs 30] [--out studies/breast-cancer]

The table is scikit-learn's breast cancer data: 569 rows of 30 measurements, two classes.  The network is a small
multi-layer perceptron.  The study says whether label smoothing, weight decay or dropout helps it, and how sure that is.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from labelsmooth.data import array_dataset
from labelsmooth.report import write_study
from labelsmooth.study import StudyRecord, run_study


def make_network(num_classes: int) -> nn.Module:
    """Called for each run, after its seed is set."""
    return nn.Sequential(nn.Linear(30, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, num_classes))


def main(arguments: list[str] | None = None) -> StudyRecord:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", default="studies/breast-cancer")
    chosen = parser.parse_args(arguments)
    table = load_breast_cancer()
    rows = (table.data - table.data.mean(0)) / table.data.std(0)
    study = run_study(
        data=array_dataset(
            "breast-cancer",
            torch.tensor(rows, dtype=torch.float32),
            np.asarray(table.target),
            classes=[str(name) for name in table.target_names],
            fractions=(0.4, 0.2, 0.4),
        ),
        make_network=make_network,
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
