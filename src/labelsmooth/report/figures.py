"""The pictures that several pages have: reliability, confidence, training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labelsmooth.metrics import Reliability, ReliabilityCurve, ThresholdCurve
from labelsmooth.metrics.binomial import wilson
from labelsmooth.metrics.numbers import percent
from labelsmooth.report.plots import plot_by_rank, plot_reliability
from labelsmooth.report.svg import BLUE, GREEN, INK, ORANGE, PAPER, SOFT, Picture, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from labelsmooth.training.spec import RateTest

TICKS = ((1, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1,))  # in each decade of an axis of less than one, less than two, and more


def reliability_picture(
    title: str, curves: dict[str, ReliabilityCurve], caption: str = "", *, ece: bool = True
) -> Picture:
    """A reliability diagram of one or two curves; `ece` is :func:`plot_reliability`'s."""

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        plot_reliability(curves, axes, ece=ece)
        return f"Reliability diagram: accuracy by confidence, {' and '.join(curves)}"

    return picture(title, (3.4, 3.8), draw, caption, name=f"reliability-{title}")


def rank_picture(title: str, curve: ReliabilityCurve, caption: str = "") -> Picture:
    """Confidence and accuracy by rank, from bins of equal mass."""

    def draw(figure: Figure) -> str:
        plot_by_rank(curve, figure.subplots())
        return "Confidence and accuracy of the predictions by the rank of their confidence"

    return picture(title, (3.4, 2.9), draw, caption)


def curve(record: Reliability, seeds: int = 1) -> ReliabilityCurve:
    """A curve with intervals, from a record whose counts are over several seeds of the same examples."""
    counts = np.array(record.counts) / seeds
    confidence, accuracy = np.array(record.confidence, float), np.array(record.accuracy, float)
    low, high = wilson(accuracy, np.maximum(counts, 1.0), 0.95)
    return ReliabilityCurve(
        np.array(record.edges),
        np.rint(counts).astype(np.int64),
        confidence,
        accuracy,
        low,
        high,
        0.95,
        np.array(record.histogram),
    )


def threshold_pictures(curve: ThresholdCurve) -> list[Picture]:
    """The ROC curve and the precision-recall curve of a binary classifier, with the threshold 0.5 marked."""
    half = int(np.argmin(np.abs(curve.threshold - 0.5)))
    recall, precision = percent(curve.recall[half]), percent(curve.precision[half])
    false_positives = percent(curve.false_positive_rate[half])

    def roc(figure: Figure) -> str:
        axes = figure.subplots()
        _line(axes, curve.false_positive_rate, curve.recall, half)
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.set(xlabel="false positive rate", ylabel="recall (true positive rate)")
        return f"ROC curve, area {curve.auroc:.3f}"

    def precision_recall(figure: Figure) -> str:
        axes = figure.subplots()
        _line(axes, curve.recall, curve.precision, half)
        axes.set(xlabel="recall", ylabel="precision")
        return f"Precision-recall curve; at the threshold 0.5 precision {precision}, recall {recall}"

    return [
        picture(
            f"ROC curve: area {curve.auroc:.3f}",
            (3.4, 3.4),
            roc,
            f"At the threshold 0.5 (circle) {recall} of the positive and {false_positives} of the negative rows are "
            "predicted positive.",
        ),
        picture(
            "Precision and recall",
            (3.4, 3.4),
            precision_recall,
            f"At the threshold 0.5 (circle) {precision} of the rows that are predicted positive are.",
        ),
    ]


def confidence_picture(
    heading: str, histogram: list[int], mean: float, accuracy: float, ceiling: float | None = None
) -> Picture:
    """How often each confidence occurs."""

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        share = 100 * np.array(histogram) / sum(histogram)
        width = 1 / len(share)
        axes.bar(width * np.arange(len(share)), share, width, align="edge", color=BLUE, edgecolor=PAPER, lw=0.5)
        axes.axvline(mean, color=ORANGE, lw=1.6, label=f"mean confidence {percent(mean)}")
        axes.axvline(accuracy, color=INK, lw=1.6, ls=(0, (2, 2)), label=f"accuracy {percent(accuracy)}")
        if ceiling is not None:
            axes.axvline(ceiling, color=GREEN, lw=1.2, ls=(0, (5, 2, 1, 2)), label=f"ceiling {percent(ceiling)}")
        axes.set(xlim=(0, 1), ylim=(0, 100), xlabel="confidence", ylabel="% of predictions")
        axes.legend(loc="upper left")
        return f"Histogram of confidence: mean confidence {percent(mean)}, accuracy {percent(accuracy)}"

    return picture(heading, (3.4, 2.3), draw, name=f"confidence-{heading}")


def training_picture(
    heading: str,
    histories: list[dict[str, list[float | None]]],
    epochs: int,
    limits: tuple[float, float] | None = None,
    caption: str = "",
) -> Picture:
    """NLL by epoch: a thin line for each history, and their mean."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        for key, colour, style, name in (
            ("train_nll", BLUE, "-", "training"),
            ("validation_nll", ORANGE, (0, (4, 2)), "validation"),
        ):
            lines = [np.array(history[key], float) for history in histories]
            for line in lines:
                axes.plot(np.arange(1, len(line) + 1), line, color=colour, ls=style, lw=0.7, alpha=0.35)
            longest = max(len(line) for line in lines)
            padded = np.stack([np.pad(line, (0, longest - len(line)), constant_values=np.nan) for line in lines])
            known = ~np.isnan(padded).all(0)  # an epoch without validation has no value
            if known.any():
                mean = np.nanmean(padded[:, known], 0)
                marker = "o" if known.sum() == 1 else None  # a line of one epoch is not visible
                axes.plot(
                    np.arange(1, longest + 1)[known], mean, marker=marker, color=colour, ls=style, lw=2, label=name
                )
        axes.set(yscale="log", xlabel="epoch", ylabel="NLL")
        if limits is not None:
            axes.set_ylim(limits)
        axes.set_xlim(1, max(2, epochs))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=TICKS[min(2, int(np.log10(high / low)))]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        figure.legend(loc="outside upper center", ncols=2)
        return "Training and validation NLL by epoch"

    return picture(heading, (3.4, 2.5), draw, caption, name=f"training-{heading}")


def rate_picture(test: RateTest) -> Picture:
    """The smoothed training loss of a range test by learning rate, with the rate that it chose."""

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        axes.plot(test.rates, test.losses, color=BLUE, lw=1.6)
        axes.axvline(test.chosen, color=ORANGE, lw=1.6, ls=(0, (4, 2)), label=f"chosen: {test.chosen:.2g}")
        low, start = min(test.losses), test.losses[0]
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", ylim=(0.9 * low, 2 * start - 0.9 * low))
        axes.legend(loc="upper left")
        return f"Smoothed training loss by learning rate; {test.chosen:.2g} was chosen"

    return picture("Range test of the learning rate", (3.4, 2.5), draw)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, marked: int) -> None:
    axes.plot(x, y, color=BLUE, lw=1.6)
    axes.plot(x[marked], y[marked], marker="o", color=ORANGE, mfc=PAPER, ms=7)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), aspect="equal")
