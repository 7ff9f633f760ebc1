"""The pictures of a study, drawn from its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelsmooth.calibrate import CATALOGUE
from labelsmooth.report.figures import confidence_picture, curve, reliability_picture, training_picture
from labelsmooth.report.plots import STYLES
from labelsmooth.report.svg import BLUE, FAINT, GREEN, INK, ORANGE, PAPER, SOFT, Picture, picture
from labelsmooth.study.records import METRICS, MethodRecord, StudyRecord, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# "temperature scaling" is "temperature" in the heading of a column.
CALIBRATOR_TITLES = {"none": "no calibrator"} | {entry.name: entry.title.split()[0] for entry in CATALOGUE.values()}
MARKERS = "os^DvPX*"


def differences(study: StudyRecord, name: str) -> Picture:
    """Each method's difference from plain training in a metric, with its corrected interval."""
    from matplotlib.ticker import MaxNLocator

    rows = [study.comparison(method.name, name) for method in study.methods if method.name != "plain"]
    titles = {method.name: method.title for method in study.methods}
    points = METRICS[name].percent
    scale = 100 if points else 1

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        for place, row in enumerate(reversed(rows)):
            colour, marker = SOFT, "o"
            if row.significant:
                colour, marker = (GREEN, "v") if row.difference < 0 else (ORANGE, "^")
            axes.plot([scale * row.low, scale * row.high], [place, place], color=colour, lw=2)
            fill = colour if row.significant else PAPER
            axes.plot(scale * row.difference, place, marker=marker, color=colour, ms=7, mfc=fill)
        axes.axvline(0, color=INK, lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(3 if name == "aurc" else 4))  # its labels are long
        axes.set_yticks(range(len(rows)), [titles[row.method] for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("difference" + ", points" * points)
        axes.grid(axis="x", color=FAINT)
        axes.set_axisbelow(True)
        return f"{METRICS[name].title}: difference of each method from plain training"

    return picture(METRICS[name].title, (3.4, 0.9 + 0.28 * len(rows)), draw, name=f"differences-{name}")


def lines_picture(
    heading: str,
    label: str,
    places: NDArray[np.float64],
    lines: dict[str, list[Summary]],
    ticks: list[str],
    *,
    logarithmic: bool = False,
    name: str,
) -> Picture:
    """A metric against a number: a line with 95% intervals for each name."""
    x = np.log(places) if logarithmic else places
    order = np.argsort(x, kind="stable")
    metric = METRICS[next(iter(lines.values()))[0].metric]
    scale = 100 if metric.percent else 1
    columns = 2 if max(map(len, lines)) < 22 else 1  # of the legend: two long titles are wider than the picture

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        beside = 0.012 * float(np.ptp(x) or 1.0)  # so that the intervals do not hide each other
        for k, (title, rows) in enumerate(lines.items()):
            mean, low, high = (
                scale * np.array([getattr(rows[i], end) for i in order]) for end in ("mean", "low", "high")
            )
            colour, line, _ = STYLES[k % len(STYLES)]
            marker = MARKERS[k % len(MARKERS)]
            bars = [np.maximum(mean - low, 0), np.maximum(high - mean, 0)]
            at = x[order] + beside * (k - (len(lines) - 1) / 2)
            fill = PAPER if k else colour
            axes.errorbar(
                at,
                mean,
                bars,
                color=colour,
                ls=line,
                marker=marker,
                ms=4.5,
                mfc=fill,
                lw=1.3,
                elinewidth=0.9,
                label=title,
            )
        axes.set_xticks(x, ticks)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.set_ylabel("%" if scale == 100 else metric.unit)
        axes.grid(axis="y", color=FAINT)
        axes.set_axisbelow(True)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)
        return f"{heading} against {label}: {', '.join(lines)}"

    return picture(heading, (3.4, 2.8 + 0.18 * -(-len(lines) // columns)), draw, name=name)


def strengths(study: StudyRecord) -> list[Picture]:
    """Error, ECE and NLL against epsilon, where the study has several strengths of label smoothing; 0 is plain."""
    epsilons = {"plain": 0.0} | {
        method.name: float(method.settings.get("epsilon", 0.0))
        for method in study.methods
        if method.name.partition(":")[0] == "label-smoothing"
    }
    if len(set(epsilons.values())) < 3:
        return []
    names = sorted(epsilons, key=lambda name: epsilons[name])
    places = np.array([epsilons[name] for name in names])
    kept = [name for name in ("none", "temperature") if name in study.config.calibrators]

    def one(metric: str) -> Picture:
        calibrators = kept[:1] if metric == "error" else kept
        lines = {CALIBRATOR_TITLES[c]: [study.number(name, metric, c) for name in names] for c in calibrators}
        title = METRICS[metric].title
        return lines_picture(title, "epsilon", places, lines, [f"{e:g}" for e in places], name=f"epsilon-{title}")

    return [one(metric) for metric in ("error", "ece", "nll")]


def distillation(study: StudyRecord) -> list[Picture]:
    """Error, ECE and NLL of both teachers, of their students, and of the students' network alone where it is another's;
    nothing without students."""
    if study.distillation is None:
        return []
    teachers, students = study.distillation.teachers, [student.name for student in study.distillation.students]
    alone = study.distillation.alone.name
    lines = {"teacher": teachers, "its student": students}
    if alone not in teachers:
        lines["student's network alone"] = [alone, alone]
    return [
        lines_picture(
            METRICS[metric].title,
            "teacher",
            np.arange(2.0),
            {title: [study.number(name, metric) for name in names] for title, names in lines.items()},
            [study.titles[name].lower() for name in teachers],
            name=f"distillation-{metric}",
        )
        for metric in ("error", "ece", "nll")
    ]


def reliability(study: StudyRecord) -> list[Picture]:
    """For each method accuracy by confidence, without a calibrator and with a temperature."""
    curves = {(c.method, c.calibrator): c for c in study.curves.reliability}
    seeds = study.config.seeds  # which share their test examples

    def one(method: MethodRecord) -> Picture:
        shown = {"as trained": curve(curves[method.name, "none"], seeds)}
        if (method.name, "temperature") in curves:
            shown["with temperature"] = curve(curves[method.name, "temperature"], seeds)
        return reliability_picture(method.title, shown, ece=False)  # the tables have it without its bias

    return [one(method) for method in study.methods]


def confidence(study: StudyRecord) -> list[Picture]:
    """For each method the distribution of its confidence, with the mean and the accuracy as lines."""
    curves = {c.method: c for c in study.curves.reliability if c.calibrator == "none"}

    def one(name: str, heading: str, ceiling: float | None) -> Picture:
        accuracy = 1 - study.number(name, "error").mean
        mean = accuracy + study.number(name, "confidence_gap").mean
        return confidence_picture(heading, curves[name].histogram, mean, accuracy, ceiling)

    return [one(method.name, method.title, method.ceiling) for method in study.methods]


def training(study: StudyRecord) -> list[Picture]:
    """For each method the unsmoothed NLL on training and validation by epoch; a line for each seed, and their mean."""
    histories = {m.name: [run.history for run in study.runs if run.method == m.name] for m in study.methods}
    values = [
        v for runs in histories.values() for run in runs for key in ("train_nll", "validation_nll") for v in run[key]
    ]
    positive = [v for v in values if v is not None and v > 0]
    limits = (min(positive) * 0.8, max(positive) * 1.25) if positive else (0.1, 1.0)
    epochs = study.config.epochs
    return [training_picture(m.title, histories[m.name], epochs, limits) for m in study.methods]


def largest_logits(study: StudyRecord) -> Picture:
    """The distribution of the largest logit under each method, one above the other on one axis."""
    edges = np.array(study.curves.logit_edges)

    def draw(figure: Figure) -> str:
        grid: Any = figure.subplots(len(study.methods), 1, sharex=True, squeeze=False)
        for axes, method in zip(grid[:, 0], study.methods, strict=True):
            counts = np.array(study.curves.largest_logits[method.name])
            axes.stairs(counts / counts.max(), edges, fill=True, color=BLUE)
            mean = study.number(method.name, "largest_logit").mean
            axes.axvline(mean, color=ORANGE, lw=1.6)
            place = (mean, 1.02)
            axes.annotate(f"{mean:.1f}", place, xycoords=("data", "axes fraction"), ha="center", color=ORANGE)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.set_ylabel(method.title, rotation=0, ha="right", va="center")
        grid[-1, 0].set_xlabel("largest logit of a test example (line: the mean)")
        return "Distribution of the largest logit for each method"

    return picture("Largest logits", (7, 0.6 + 0.55 * len(study.methods)), draw)
