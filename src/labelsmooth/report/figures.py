"""The pictures of a study as SVG, drawn from its record: legible in print and without colour."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from labelsmooth.metrics import Reliability
from labelsmooth.metrics.interval import share_interval
from labelsmooth.report.numbers import label, outcome
from labelsmooth.study.records import METRICS, StudyRecord

__all__ = [
    "confidence_histograms",
    "differences",
    "largest_logits",
    "reliability",
    "reliability_diagrams",
    "svg",
    "training_curve",
    "training_curves",
]

# Okabe and Ito's colours, told apart with any kind of colour vision; line style and marker repeat what colour says.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
FEW = 5  # a bin of fewer examples is drawn faintly: its accuracy says little
TICKS = ((1, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1,))  # in each decade of an axis of less than one, less than two, and more
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888",
    "axes.labelcolor": "#333",
    "xtick.color": "#555",
    "ytick.color": "#555",
    "legend.frameon": False,
}


def svg(name: str, size: tuple[float, float], draw: Callable[[Figure], str]) -> str:
    """Draw on a new figure; ``draw`` returns the description that a screen reader speaks."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):  # the salt keeps the ids of two pictures apart
        figure = Figure(figsize=size, layout="constrained")
        description = draw(figure)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Sized by the page, not in points; the picture is one image with a description.
    svg = re.sub(r"(?s)^<svg (.*?)>", _flat, svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(description)}" ', 1)


def _flat(match: re.Match[str]) -> str:
    attributes = dict(re.findall(r'([\w:]+)="([^"]*)"', match[1]))
    kept = {key: text for key, text in attributes.items() if key in ("viewBox", "xmlns", "xmlns:xlink")}
    return "<svg " + " ".join(f'{key}="{text}"' for key, text in kept.items()) + ">"


def differences(study: StudyRecord, metric: str) -> str:
    """Each method's difference from plain training with its corrected interval."""
    rows = [study.comparison(method.name, metric) for method in study.methods if method.name != "plain"]
    titles = {method.name: method.title for method in study.methods}
    scale = 100 if METRICS[metric].percent else 1

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        for place, row in enumerate(reversed(rows)):
            colour = {"better": GREEN, "worse": ORANGE}.get(outcome(row), GREY)
            marker = {"better": "v", "worse": "^"}.get(outcome(row), "o")
            axes.plot([scale * row.low, scale * row.high], [place, place], color=colour, lw=2)
            axes.plot(
                scale * row.difference, place, marker=marker, color=colour, ms=7, mfc=colour if row.called else "white"
            )
        axes.axvline(0, color="#333", lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_yticks(range(len(rows)), [titles[row.method] for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"{label(metric)} minus plain training's" + (", points" if scale == 100 else ""))
        axes.grid(axis="x", color="#eee")
        axes.set_axisbelow(True)
        return f"{label(metric)}: difference of each method from plain training; " + "; ".join(
            f"{titles[row.method]} {outcome(row)}" for row in rows
        )

    return svg(f"differences-{metric}", (3.4, 0.9 + 0.28 * len(rows)), draw) if rows else ""


def reliability_diagrams(study: StudyRecord) -> list[tuple[str, str]]:
    """For each method its title and its diagram: accuracy by confidence, before and after a temperature."""
    seeds = study.config.seeds  # which share their test examples

    def one(name: str) -> str:
        return reliability(
            name, _curve(study, name, "none"), _curve(study, name, "temperature"), "after temperature", seeds
        )

    return [(method.title, one(method.name)) for method in study.methods]


def _curve(study: StudyRecord, method: str, calibrator: str) -> Reliability:
    return next(c for c in study.curves.reliability if (c.method, c.calibrator) == (method, calibrator))


def reliability(
    name: str, raw: Reliability, scaled: Reliability | None, after: str = "calibrated", seeds: int = 1
) -> str:
    """Accuracy by confidence, as trained and after a calibrator, over the counts of the bins."""
    shown = [(raw, BLUE, "o", BLUE, "as trained")]
    if scaled is not None:
        shown.insert(0, (scaled, ORANGE, "s", "white", after))

    def draw(figure: Figure) -> str:
        top, bottom = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        top.plot([0, 1], [0, 1], color="#999", lw=0.8, ls=(0, (4, 3)))
        edges, places = np.array(raw.edges), np.arange(len(raw.counts))
        for curve, colour, marker, fill, title in shown:
            seen = [b for b in places if curve.confidence[b] is not None]
            x = np.array([curve.confidence[b] for b in seen], float)
            y = np.array([curve.accuracy[b] for b in seen], float)
            counts = np.array([curve.counts[b] for b in seen], float) / seeds
            low, high = share_interval(y, np.maximum(counts, 1.0), 0.95)
            many = counts >= FEW
            errors = np.array([y - low, high - y])
            for chosen, strength in ((many, 1.0), (~many, 0.3)):
                top.errorbar(
                    x[chosen],
                    y[chosen],
                    errors[:, chosen],
                    ls="",
                    elinewidth=0.8,
                    marker=marker,
                    ms=4.5,
                    color=colour,
                    mfc=fill,
                    alpha=strength,
                )
            top.plot(x[many], y[many], color=colour, lw=1.2, marker=marker, ms=4.5, mfc=fill, label=title)
        top.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="accuracy")
        figure.legend(loc="outside upper center", ncols=2, fontsize=8)
        bottom.bar(
            edges[:-1],
            np.array(raw.counts) / seeds,
            np.diff(edges),
            align="edge",
            color=BLUE,
            edgecolor="white",
            lw=0.5,
        )
        bottom.set_yscale("symlog", linthresh=1)
        bottom.set(xlabel="confidence", ylabel="examples\nper bin")
        for b in places:
            if raw.counts[b]:
                text = f"{raw.counts[b] / seeds:.0f}" if raw.counts[b] >= seeds else "<1"
                bottom.annotate(
                    text,
                    ((edges[b] + edges[b + 1]) / 2, raw.counts[b] / seeds),
                    ha="center",
                    va="bottom",
                    fontsize=6,
                    color="#333",
                )
        bottom.set_ylim(0, 12 * max(raw.counts) / seeds)
        return "Reliability diagram: accuracy by confidence, " + " and ".join(title for *_, title in reversed(shown))

    return svg(f"reliability-{name}", (3.3, 3.9), draw)


def confidence_histograms(study: StudyRecord) -> list[tuple[str, str]]:
    """For each method the distribution of its confidence, with the mean and the accuracy as lines."""

    def one(name: str, ceiling: float | None) -> str:
        curve = _curve(study, name, "none")
        accuracy = 1 - study.number(name, "error").mean
        mean = accuracy + study.number(name, "confidence_gap").mean

        def draw(figure: Figure) -> str:
            axes = figure.subplots()
            share = 100 * np.array(curve.histogram) / sum(curve.histogram)
            axes.bar(np.arange(20) / 20, share, 1 / 20, align="edge", color=BLUE, alpha=0.8, edgecolor="white", lw=0.5)
            axes.axvline(mean, color=ORANGE, lw=1.6, label=f"mean confidence {100 * mean:.1f}%")
            axes.axvline(accuracy, color="#222", lw=1.6, ls=(0, (2, 2)), label=f"accuracy {100 * accuracy:.1f}%")
            if ceiling is not None:
                label = f"ceiling of smoothing {100 * ceiling:.1f}%"
                axes.axvline(ceiling, color=GREEN, lw=1.2, ls=(0, (5, 2, 1, 2)), label=label)
            axes.set(xlim=(0, 1.02), ylim=(0, 100), xlabel="confidence", ylabel="% of examples")
            axes.legend(loc="upper left", fontsize=8)
            return f"Histogram of confidence: mean confidence {100 * mean:.1f}%, accuracy {100 * accuracy:.1f}%"

        return svg(f"confidence-{name}", (3.3, 2.2), draw)

    return [(method.title, one(method.name, method.ceiling)) for method in study.methods]


def training_curves(study: StudyRecord) -> list[tuple[str, str]]:
    """For each method the unsmoothed NLL on training and validation by epoch; a line for each seed, and their mean."""
    histories = {m.name: [run.history for run in study.runs if run.method == m.name] for m in study.methods}
    values = [
        v for runs in histories.values() for run in runs for key in ("train_nll", "validation_nll") for v in run[key]
    ]
    positive = [v for v in values if v is not None and v > 0]
    limits = (min(positive) * 0.8, max(positive) * 1.25) if positive else (0.1, 1.0)

    epochs = study.config.epochs
    return [(m.title, training_curve(m.name, histories[m.name], epochs, limits)) for m in study.methods]


def training_curve(
    name: str, histories: list[dict[str, list[float | None]]], epochs: int, limits: tuple[float, float] | None = None
) -> str:
    """NLL by epoch: a thin line for each history, and their mean."""

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        for key, colour, style, title in (
            ("train_nll", BLUE, "-", "training"),
            ("validation_nll", ORANGE, (0, (4, 2)), "validation"),
        ):
            lines = [np.array(history[key], float) for history in histories]
            for line in lines:
                axes.plot(np.arange(1, len(line) + 1), line, color=colour, ls=style, lw=0.7, alpha=0.35)
            longest = max(len(line) for line in lines)
            padded = np.stack([np.pad(line, (0, longest - len(line)), constant_values=np.nan) for line in lines])
            if not np.isnan(padded).all():
                axes.plot(np.arange(1, longest + 1), np.nanmean(padded, 0), color=colour, ls=style, lw=2, label=title)
        axes.set(yscale="log", xlabel="epoch", ylabel="NLL")
        if limits is not None:
            axes.set_ylim(limits)
        axes.set_xlim(1, max(2, epochs))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=TICKS[min(2, int(np.log10(high / low)))]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        figure.legend(loc="outside upper center", ncols=2, fontsize=8)
        return "Training and validation NLL by epoch"

    return svg(f"training-{name}", (3.3, 2.3), draw)


def largest_logits(study: StudyRecord) -> str:
    """The distribution of the largest logit under each method, one above the other on one axis."""
    edges = np.array(study.curves.logit_edges)

    def draw(figure: Figure) -> str:
        grid: Any = figure.subplots(len(study.methods), 1, sharex=True, squeeze=False)
        for axes, method in zip(grid[:, 0], study.methods, strict=True):
            counts = np.array(study.curves.largest_logits[method.name])
            axes.stairs(counts / counts.max(), edges, fill=True, color=BLUE, alpha=0.8)
            mean = study.number(method.name, "largest_logit").mean
            axes.axvline(mean, color=ORANGE, lw=1.6)
            axes.annotate(
                f"{mean:.1f}", (mean, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=8, color=ORANGE
            )
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.set_ylabel(method.title, rotation=0, ha="right", va="center")
        grid[-1, 0].set_xlabel("largest logit of a test example (line: the mean)")
        return "Distribution of the largest logit for each method"

    return svg("logits", (7, 0.6 + 0.55 * len(study.methods)), draw)
