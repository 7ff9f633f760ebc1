"""The plan of a study in the terminal: the smallest difference that seeds and test examples can show."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from labelsmooth.study.plan import Plan
from labelsmooth.study.records import METRICS

__all__ = ["print_plan"]


def print_plan(plans: Sequence[Plan], console: Console) -> None:
    """Print a table for each metric."""
    for plan in plans:
        metric = METRICS[plan.metric]
        unit = "points" if metric.percent else metric.unit
        table = Table(title=f"{metric.title}, {unit}")
        table.add_column("Seeds", justify="right")
        for examples in plan.examples:
            table.add_column(f"{examples:,}", justify="right")
        for seeds, row in zip(plan.seeds, plan.smallest, strict=True):
            table.add_row(str(seeds), *(f"{100 * v:.2f}" if metric.percent else f"{v:.4f}" for v in row))
        console.print(table)
    console.print(
        "The smallest difference, by seeds and by test examples, that the primary comparisons find significant with a "
        "probability of 80%, if seeds and examples vary as they do in the pilot."
    )
