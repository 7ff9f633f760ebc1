"""What `predict --unlike` marks: a classifier of some of the pets' breeds, given photos of the others.

    python bench/unlike.py [--epochs 4]

Trains on the photos of twelve breeds (LABELSMOOTH_DATA holds the pets and the weights), then predicts the test part,
the breed of cats that was left out, and the breeds of dogs that were.  Beside the marks, the mean confidence and size
of the 90% sets.  AUROC is of the typicality, against the test part.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import table, write
from sklearn.metrics import roc_auc_score

from labelsmooth import models
from labelsmooth.data import load_dataset, split_dataset

BREEDS = (
    *("Abyssinian", "Bengal", "Birman", "Bombay", "British_Shorthair", "Egyptian_Mau", "Maine_Coon", "Ragdoll"),
    *("Russian_Blue", "Siamese", "Sphynx", "beagle"),
)
LEFT_OUT = "Persian"
DATA = Path(os.environ["LABELSMOOTH_DATA"])
SHARES = (0.01, 0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as name:
        photos, model = Path(name) / "photos", Path(name) / "model"
        others: dict[str, list[Path]] = {LEFT_OUT: [], "dogs": []}
        for path in sorted((DATA / "oxford-iiit-pet" / "images").glob("*.jpg")):
            breed = path.stem.rsplit("_", 1)[0]
            if breed in BREEDS:
                (photos / breed).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, photos / breed)
            else:
                others[LEFT_OUT if breed == LEFT_OUT else "dogs"].append(path)
        models.train(
            data=photos,
            out=model,
            epochs=epochs,
            backbone="tf_efficientnet_lite0",
            weights=DATA / "weights" / "tf_efficientnet_lite0.safetensors",
        )
        data = load_dataset(photos, 224)
        test = [photos / data.files[int(k)] for k in split_dataset(data, 0).test]
        groups = {"test part": test, LEFT_OUT: others[LEFT_OUT], "other dogs": others["dogs"][::16]}
        loaded = models.load(model)
        predictions = {name: loaded.predict(paths, sets=0.9) for name, paths in groups.items()}
    held_out = loaded.held_out
    assert held_out is not None
    usual = np.array([one.typicality for one in predictions["test part"]])
    rows: list[dict[str, Any]] = []
    for name, ours in predictions.items():
        typicality = np.array([one.typicality for one in ours])
        unusual = np.r_[np.zeros(len(usual)), np.ones(len(ours))]
        marked = {f"marked at {s:g}": float(np.mean([held_out.is_unlike(t, s) for t in typicality])) for s in SHARES}
        rows.append(
            {
                "photos of": name,
                "photos": len(ours),
                **marked,
                "AUROC": float(roc_auc_score(unusual, -np.r_[usual, typicality])),
                "confidence": float(np.mean([one.confidence for one in ours if one.confidence is not None])),
                "size of sets": float(np.mean([len(one.classes or ()) for one in ours])),
            }
        )
    print(table(rows, list(rows[0])))
    write("unlike", rows=rows)


if __name__ == "__main__":
    main()
