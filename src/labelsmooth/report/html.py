"""One self-contained page: the verdict first, then the numbers, then the pictures; it opens offline."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labelsmooth._pages import render
from labelsmooth.files import write_text
from labelsmooth.report import figures, numbers
from labelsmooth.study.records import METRICS, StudyRecord

__all__ = ["render_report", "write_report"]

HEADLINES = ("error", "ece", "nll", "aurc")
MAIN_METHOD = "label-smoothing"


def render_report(study: StudyRecord) -> str:
    """The page as a string.  Everything that came from outside, class names and paths, is escaped."""

    def safe(drawn: list[tuple[str, str]]) -> list[tuple[str, Markup]]:
        return [(title, Markup(svg)) for title, svg in drawn]

    return render(
        "labelsmooth.report",
        "report.html.j2",
        study=study,
        metrics=METRICS,
        cards=_cards(study),
        numbers=numbers,
        titles={method.name: method.title for method in study.methods},
        seconds={row.method: row for row in study.seconds},
        differences=[Markup(svg) for metric in HEADLINES if (svg := figures.differences(study, metric))],
        reliability=safe(figures.reliability_diagrams(study)),
        confidence=safe(figures.confidence_histograms(study)),
        training=safe(figures.training_curves(study)),
        logits=Markup(figures.largest_logits(study)),
        config=json.dumps(dataclasses.asdict(study.config), indent=1),
    )


def write_report(study: StudyRecord, path: Path) -> None:
    """Write the page to a file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, render_report(study))


def _cards(study: StudyRecord) -> list[dict[str, Any]]:
    """The main method against plain training, a card for each headline metric."""
    if all(method.name != MAIN_METHOD for method in study.methods):
        return []
    cards = []
    for metric in HEADLINES:
        comparison = study.comparison(MAIN_METHOD, metric)
        word = numbers.outcome(comparison)
        cards.append(
            {
                "title": METRICS[metric].title,
                "before": numbers.value(metric, study.number("plain", metric).mean),
                "after": numbers.value(metric, study.number(MAIN_METHOD, metric).mean),
                "change": numbers.change(comparison),
                "word": word,
                "mark": {"better": "▼", "worse": "▲"}.get(word, "○"),
            }
        )
    return cards
