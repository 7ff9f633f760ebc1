"""Pictures of calibration for notebooks and pages: `plot_*` draws with Matplotlib what the metrics return.

Colours are Okabe and Ito's blue and vermilion, told apart with any kind of colour vision and, by their lightness, in
grey print; line style and marker repeat what colour says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labelsmooth.metrics import ConfidenceHistogram, ReliabilityCurve, RiskCoverage

__all__ = [
    "gap_sentence",
    "plot_before_after",
    "plot_histogram",
    "plot_reliability",
    "plot_reliability_grid",
    "plot_risk_coverage",
]

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#666666"


def gap_sentence(curve: ReliabilityCurve) -> str:
    """The confidence gap of a curve in words."""
    gap = abs(curve.mean_gap) * 100
    if gap < 0.05:
        return "confidence and accuracy agree on average"
    return f"{gap:.1f} points {'over' if curve.mean_gap > 0 else 'under'}-confident on average"


def plot_reliability(curve: ReliabilityCurve, axes: Axes | None = None, name: str = "") -> Axes:
    """Draw a reliability diagram: accuracy over confidence with its interval, the counts below, the gap in words.

    Args:
        curve: from :func:`labelsmooth.metrics.reliability_curve`.
        axes: where to draw; a new figure if None.
        name: first line of the title.

    Returns:
        The axes.

    Example:
        >>> import numpy as np
        >>> from labelsmooth import metrics
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> curve = metrics.reliability_curve(p, np.array([0, 0, 1, 1]), bins=2)
        >>> print(plot_reliability(curve).get_title())
        ECE 0.250: 25.0 points under-confident on average
    """
    axes = _axes(axes, 4.6, 4.6)
    filled = curve.count > 0
    x, y = curve.confidence[filled], curve.accuracy[filled]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="calibrated", zorder=1)
    axes.fill_between(
        x,
        curve.low[filled],
        curve.high[filled],
        color=BLUE,
        alpha=0.22,
        linewidth=0,
        label=f"{curve.level:.0%} interval",
    )
    # Lines from the diagonal to the point: the gap itself, its length to be read off the vertical axis.
    axes.vlines(x, x, y, color=VERMILION, linewidth=1.6, label="gap", zorder=2)
    axes.plot(x, y, color=BLUE, marker="o", markersize=4.5, linewidth=1.4, label="accuracy", zorder=3)
    cells, width = curve.histogram, 1.0 / len(curve.histogram)
    left = np.arange(len(cells)) * width
    axes.bar(
        left, 0.15 * cells / cells.max(), width, align="edge", color=GREY, alpha=0.3, label="predictions", zorder=0
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    title = f"{name}\n" if name else ""
    axes.set_title(f"{title}ECE {curve.ece:.3f}: {gap_sentence(curve)}", fontsize=10)
    # On the side of the diagonal where the points are not, above the counts.
    over = ((x - y) * curve.count[filled]).sum() >= 0
    place: dict[str, Any] = {"loc": "upper left"} if over else {"loc": "lower right", "bbox_to_anchor": (1.0, 0.15)}
    axes.legend(**place, frameon=False, fontsize=9)
    _plain(axes)
    return axes


def plot_reliability_grid(
    curves: Sequence[ReliabilityCurve], names: Sequence[str] | None = None, columns: int = 4
) -> Figure:
    """Draw one small reliability diagram per curve, such as one per class.

    Args:
        curves: from :func:`labelsmooth.metrics.reliability_curve`, such as one with ``scope=k`` for each class k.
        names: titles of the diagrams; "class 0", "class 1", ... if None.
        columns: diagrams side by side.

    Returns:
        The figure.

    Raises:
        ValueError: if there are not as many names as curves.
    """
    names = [f"class {k}" for k in range(len(curves))] if names is None else names
    if len(names) != len(curves):
        raise ValueError(f"names are {len(names)}, but there are {len(curves)} curves: give one name per curve.")
    columns = min(columns, len(curves))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.7 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for curve, name, axes in zip(curves, names, panels.flat, strict=False):
        filled = curve.count > 0
        x, y = curve.confidence[filled], curve.accuracy[filled]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.fill_between(x, curve.low[filled], curve.high[filled], color=BLUE, alpha=0.22, linewidth=0)
        axes.plot(x, y, color=BLUE, marker="o", markersize=3, linewidth=1.1)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_title(f"{name}  ECE {curve.ece:.3f}", fontsize=9)
        _plain(axes)
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return figure


def plot_before_after(before: ReliabilityCurve, after: ReliabilityCurve) -> Figure:
    """Draw two reliability diagrams side by side, on the same axes.

    Args:
        before, after: from :func:`labelsmooth.metrics.reliability_curve`.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(9.4, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_reliability(before, left, "before")
    plot_reliability(after, right, "after")
    return figure


def plot_risk_coverage(curves: dict[str, RiskCoverage], axes: Axes | None = None) -> Axes:
    """Draw risk-coverage curves: the error that is left when only the most confident predictions are kept.

    Args:
        curves: from :func:`labelsmooth.metrics.risk_coverage`, by the name of the model.
        axes: where to draw; a new figure if None.

    Returns:
        The axes.
    """
    axes = _axes(axes, 5.4, 3.8)
    styles = [(BLUE, "-"), (VERMILION, (0, (5, 2))), ("#009E73", (0, (1, 1.5))), ("black", (0, (4, 1.5, 1, 1.5)))]
    for k, (name, curve) in enumerate(curves.items()):
        colour, line = styles[k % len(styles)]
        label = f"{name}: AURC {curve.aurc:.4f}"
        axes.plot(curve.coverage, curve.risk, color=colour, linestyle=line, linewidth=1.7, label=label)
    top = max(float(curve.risk.max()) for curve in curves.values())
    axes.set(xlim=(0, 1), ylim=(0, 1.05 * top if top > 0 else 1.0), xlabel="coverage: share of predictions kept")
    axes.set_ylabel("error among those kept")
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return axes


def plot_histogram(histogram: ConfidenceHistogram, axes: Axes | None = None) -> Axes:
    """Draw how often each confidence occurs, right and wrong stacked, with mean confidence and accuracy as lines.

    Args:
        histogram: from :func:`labelsmooth.metrics.confidence_histogram`.
        axes: where to draw; a new figure if None.

    Returns:
        The axes.
    """
    axes = _axes(axes, 5.4, 3.8)
    left, widths = histogram.edges[:-1], np.diff(histogram.edges)
    bars: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
    axes.bar(left, histogram.right, widths, color=BLUE, label="right", **bars)
    axes.bar(
        left, histogram.wrong, widths, bottom=histogram.right, color=VERMILION, hatch="////", label="wrong", **bars
    )
    for place, style, name in (
        (histogram.confidence, "-", "mean confidence"),
        (histogram.accuracy, (0, (2, 2)), "accuracy"),
    ):
        axes.axvline(place, color="black", linestyle=style, linewidth=1.4, label=f"{name} {place:.1%}")
    axes.set(xlim=(0, 1), xlabel="confidence", ylabel="predictions")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
    _plain(axes)
    return axes


def _axes(axes: Axes | None, width: float, height: float) -> Axes:
    if axes is not None:
        return axes
    new: Axes = Figure(figsize=(width, height), layout="constrained").subplots()
    return new


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
