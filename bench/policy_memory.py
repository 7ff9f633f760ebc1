"""Peak memory of the loss under every policy, beyond the logits: forward and backward, in units of N x K floats.

The gradient is one unit.  What is claimed: no policy but Teacher, which is given one, and no part of the loss, makes a
second N x K table.  Beside them stands the usual way, a dense target for F.cross_entropy.

    python bench/policy_memory.py [--rows 4096] [--classes 2048]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import peak_bytes, write

import labelsmooth as ls
from labelsmooth.smoothing import ClassMatrix, Online, Prior, Teacher, TeacherFree, Uniform, mix


def cases(rows: int, classes: int) -> dict[str, tuple[Callable[[], object], str]]:
    """Each policy, made before anything is measured, and what it holds besides."""
    table = torch.rand(classes, classes)
    online = Online(classes)
    teacher = torch.randn(rows, classes)
    epsilons = torch.rand(rows)
    return {
        "Uniform": (Uniform(0.1), ""),
        "Uniform, over others": (Uniform(0.1, "others"), ""),
        "Uniform, excluding": (Uniform(0.1, exclude=[0]), ""),
        "Uniform, an epsilon for each label": (Uniform(epsilons), "N"),
        "Prior": (Prior(0.1, torch.rand(classes)), "K"),
        "TeacherFree": (TeacherFree(0.1), ""),
        "ClassMatrix": (ClassMatrix(0.1, table), "K x K"),
        "Online": (online, "K x K, twice"),
        "Teacher": (Teacher(0.5, logits=teacher), "N x K"),
    }


def measure(rows: int, classes: int) -> list[dict[str, object]]:
    logits = torch.randn(rows, classes, requires_grad=True)
    labels = torch.randint(classes, (rows,))
    other = labels.flip(0)
    unit = rows * classes * 4

    def finish(loss: torch.Tensor) -> None:
        loss.backward()
        logits.grad = None

    def fused(target: object, policy: object) -> Callable[[], None]:
        # The training form for all but Online, whose observe() is measured on a line of its own.
        criterion = ls.LabelSmoothingCrossEntropy(policy).eval()
        return lambda: finish(criterion(logits, target))

    def dense() -> None:
        q = torch.full((rows, classes), 0.1 / classes).scatter_(1, labels[:, None], 0.9 + 0.1 / classes)
        finish(F.cross_entropy(logits, q))

    def plain() -> None:
        finish(F.cross_entropy(logits, labels, label_smoothing=0.1))

    policies = cases(rows, classes)
    steps = {name: (fused(labels, policy), holds) for name, (policy, holds) in policies.items()}
    online = policies["Online"][0]
    steps["Online.observe"] = (lambda: online.observe(logits, labels), "")
    steps["mix of two labels"] = (fused(mix(labels, other, 0.3), Uniform(0.1)), "")
    steps["F.cross_entropy, label_smoothing=0.1"] = (plain, "")
    steps["F.cross_entropy, dense target"] = (dense, "")
    lines = []
    for name, (step, holds) in steps.items():
        lines.append({"case": name, "peak_in_units": round(peak_bytes(step) / unit, 3), "held_by_the_policy": holds})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=2048)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    lines = measure(arguments.rows, arguments.classes)
    print(f"Peak beyond the logits, forward and backward, N = {arguments.rows}, K = {arguments.classes}, float32.")
    print(f"{'':38}{'peak / (N x K)':>16}   held by the policy")
    for row in lines:
        print(f"{row['case']:38}{row['peak_in_units']:16.3f}   {row['held_by_the_policy']}")
    write(
        "policy_memory",
        command=["bench/policy_memory.py", *sys.argv[1:]],
        rows=arguments.rows,
        classes=arguments.classes,
        unit_bytes=arguments.rows * arguments.classes * 4,
        results=lines,
    )


if __name__ == "__main__":
    main()
