"""What the literature claims about smoothing, run again.

python bench/evidence --list
python bench/evidence CLAIM ... [--seeds 5] [--data-dir DATA]     # writes runs/evidence/CLAIM.json
python bench/evidence --page                                  # writes docs/evidence.md from the records
"""

from __future__ import annotations

import argparse
from pathlib import Path

import adaptive_sets
import distillation
import label_noise
import largest_logits
import overconfidence
import overfitting_error
import page
import refinement
import selective
import successors
import temperature
import torch
import vocabulary
from claim import Statement, measure
from images import Images

MODULES = (
    *(overfitting_error, largest_logits, overconfidence, temperature, selective, distillation),
    *(successors, label_noise, vocabulary, adaptive_sets, refinement),
)
CLAIMS = {module.CLAIM.name: module.CLAIM for module in MODULES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="names of --list")
    parser.add_argument("--seeds", type=int, default=5, help="at most 10, at least 2")
    parser.add_argument("--data-dir", type=Path, help="torchvision's data sets, by default LABELSMOOTH_DATA")
    parser.add_argument("--out", type=Path, default=page.ROOT / "runs" / "evidence", help="the folder of the records")
    parser.add_argument("--toy", action="store_true", help="a few digits and epochs, to test the code")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--page", nargs="?", type=Path, const=page.ROOT / "docs" / "evidence.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # threads that wait for each other cost small networks more than they gain
    if arguments.page:
        arguments.page.write_text(page.write(CLAIMS.values(), arguments.out))
    elif arguments.list or not arguments.claims:
        for claim in CLAIMS.values():
            print(f"{claim.name:22}{claim.sentence} ({claim.source})")
    else:
        folder = (arguments.out if arguments.toy else page.ROOT / "studies") / "evidence"
        images = Images(arguments.seeds, folder, arguments.data_dir, arguments.toy)
        for name in arguments.claims:
            if name not in CLAIMS:
                parser.error(f"there is no claim {name!r}; choose among {', '.join(CLAIMS)}")
            record = measure(CLAIMS[name], images, arguments.out)
            for statement in map(Statement.read, record["statements"]):
                print(f"{statement.text}: {statement.verdict()}\n  {statement.quantity}: {statement}")


if __name__ == "__main__":
    main()
