"""Pictures of calibration for notebooks and pages: `plot_*` draws with Matplotlib what the metrics return.

Colours are Okabe and Ito's blue and vermilion, told apart with any kind of colour vision and, by their lightness, in
grey print; line style and marker repeat what colour says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labelsmooth.metrics import ConfidenceHistogram, ReliabilityCurve, RiskCoverage
from labelsmooth.report.svg import BLUE, GREEN, INK, ORANGE, PAPER, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 5  # a bin of fewer predictions is drawn faintly: its accuracy says little
STYLES = [
    (BLUE, "-", "o"),
    (ORANGE, (0, (5, 2)), "s"),
    (GREEN, (0, (1, 1.5)), "^"),
    (INK, (0, (4, 1.5, 1, 1.5)), "D"),
]  # colour, line, marker


def plot_reliability(
    curves: ReliabilityCurve | Mapping[str, ReliabilityCurve], axes: Axes | None = None, *, ece: bool = True
) -> Axes:
    """Draw a reliability diagram: accuracy over confidence with its intervals, above a histogram.

    Args:
        curves: from :func:`labelsmooth.metrics.reliability_curve`; several, by name, are drawn over each other.
        axes: where to draw; a new figure if None.
        ece: whether the legend has each curve's ECE, which is over its own bins.

    Returns:
        The axes.

    Example:
        >>> import numpy as np
        >>> from labelsmooth import metrics
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> axes = plot_reliability({"before": metrics.reliability_curve(p, np.array([0, 0, 1, 1]), bins=2)})
        >>> axes.get_legend_handles_labels()[1]
        ['before: ECE 25.0%']
    """
    axes = _axes(axes, 4.6, 4.6)
    named = {"accuracy": curves} if isinstance(curves, ReliabilityCurve) else dict(curves)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for k, (name, curve) in enumerate(named.items()):
        colour, line, marker = STYLES[k % len(STYLES)]
        fill = PAPER if k else colour
        many = curve.count >= FEW
        for part, alpha in ((many, 1.0), (~many & (curve.count > 0), 0.35)):
            x, y = curve.confidence[part], curve.accuracy[part]
            bars = np.array([y - curve.low[part], curve.high[part] - y])
            axes.errorbar(x, y, bars, ls="", lw=0.9, marker=marker, ms=4.5, color=colour, mfc=fill, alpha=alpha)
        label = f"{name}: ECE {curve.ece:.1%}" if ece else name
        x, y = curve.confidence[many], curve.accuracy[many]
        axes.plot(x, y, color=colour, ls=line, lw=1.3, marker=marker, ms=4.5, mfc=fill, label=label)
    cells = next(iter(named.values())).histogram
    left = np.arange(len(cells)) / len(cells)
    axes.bar(left, 0.15 * cells / cells.max(), 1 / len(cells), align="edge", color=SOFT, alpha=0.3, zorder=0)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="confidence", ylabel="accuracy", aspect="equal")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1, frameon=False)
    _plain(axes)
    return axes


def plot_by_rank(curve: ReliabilityCurve, axes: Axes | None = None) -> Axes:
    """Draw confidence and accuracy over the rank of the confidence, which spreads the predictions of a confident model.

    Args:
        curve: from :func:`labelsmooth.metrics.reliability_curve` with bins of equal mass.
        axes: where to draw; a new figure if None.

    Returns:
        The axes.

    Example:
        >>> import numpy as np
        >>> from labelsmooth import metrics
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> axes = plot_by_rank(metrics.reliability_curve(p, np.array([0, 0, 1, 1]), bins=2))
        >>> axes.get_xlabel()
        'predictions from the least to the most confident'
    """
    axes = _axes(axes, 5.4, 3.8)
    filled = curve.count > 0
    count, confidence, accuracy = curve.count[filled], curve.confidence[filled], curve.accuracy[filled]
    ends = np.concatenate([[0.0], np.cumsum(count) / count.sum()])
    middle = (ends[1:] + ends[:-1]) / 2
    bars = np.array([accuracy - curve.low[filled], curve.high[filled] - accuracy])
    axes.errorbar(middle, accuracy, bars, lw=0.9, ls="", marker="o", ms=4.5, color=BLUE, label="accuracy")
    axes.stairs(confidence, ends, baseline=None, color=ORANGE, lw=1.6, label="confidence")
    axes.vlines(middle, confidence, accuracy, color=ORANGE, lw=1.2, ls=(0, (1, 1)))
    axes.set(xlim=(0, 1), xlabel="predictions from the least to the most confident", ylabel="confidence, accuracy")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
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
    from matplotlib.figure import Figure

    columns = min(columns, len(curves))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.7 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for curve, name, axes in zip(curves, names, panels.flat, strict=False):
        filled = curve.count > 0
        x, y = curve.confidence[filled], curve.accuracy[filled]
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.fill_between(x, curve.low[filled], curve.high[filled], color=BLUE, alpha=0.22, linewidth=0)
        axes.plot(x, y, color=BLUE, marker="o", markersize=3, linewidth=1.1)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_title(f"{name}  ECE {curve.ece:.1%}", fontsize=9)
        _plain(axes)
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return figure


def plot_risk_coverage(curves: Mapping[str, RiskCoverage], axes: Axes | None = None) -> Axes:
    """Draw risk-coverage curves: the error that is left when only the most confident predictions are kept.

    Args:
        curves: from :func:`labelsmooth.metrics.risk_coverage`, by the name of the model.
        axes: where to draw; a new figure if None.

    Returns:
        The axes.
    """
    axes = _axes(axes, 5.4, 3.8)
    for k, (name, curve) in enumerate(curves.items()):
        colour, line, _ = STYLES[k % len(STYLES)]
        label = f"{name}: AURC {curve.aurc:.4f}"
        axes.plot(curve.coverage, curve.risk, color=colour, linestyle=line, linewidth=1.7, label=label)
    top = max(float(curve.risk.max()) for curve in curves.values())
    axes.set(xlim=(0, 1), ylim=(0, 1.05 * top if top > 0 else 1.0), xlabel="coverage: share of predictions kept")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.0%}")
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
    bars: dict[str, Any] = {"align": "edge", "edgecolor": PAPER, "linewidth": 0.5}
    axes.bar(left, histogram.right, widths, color=BLUE, label="right", **bars)
    axes.bar(left, histogram.wrong, widths, bottom=histogram.right, color=ORANGE, hatch="////", label="wrong", **bars)
    for place, style, name in (
        (histogram.confidence, "-", "mean confidence"),
        (histogram.accuracy, (0, (2, 2)), "accuracy"),
    ):
        axes.axvline(place, color=INK, linestyle=style, linewidth=1.4, label=f"{name} {place:.1%}")
    axes.set(xlim=(0, 1), xlabel="confidence", ylabel="predictions")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
    _plain(axes)
    return axes


def _axes(axes: Axes | None, width: float, height: float) -> Axes:
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    new: Axes = Figure(figsize=(width, height), layout="constrained").subplots()
    return new


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
