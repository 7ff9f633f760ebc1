"""Pictures of calibration: `prepare_*` gives plain records, `plot_*` draws them with Matplotlib.

Colours are Okabe and Ito's blue and vermilion, told apart by the colour-blind and, by their lightness, in grey print;
nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .binning import Binning, assign, sum_by
from .calibration_error import Scope
from .inputs import Array, Floats, Integers, Rows, read
from .interval import Interval, resampled_counts
from .pointwise import error_statistic
from .reliability import curve_of
from .selective import Score, aurc_statistic, groups_by_score
from .smooth import one_question
from .statistic import ones_of
from .tie_groups import risk_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#666666"


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Bins [B] of confidence: edges [B+1], counts, mean confidence, accuracy and its bootstrap band; ECE and gap.

    `histogram` counts the predictions in 25 cells of equal width, whatever the bins are.
    """

    edges: Floats
    count: Integers
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    level: float
    ece: float
    gap: float
    histogram: Integers
    name: str

    @property
    def sentence(self) -> str:
        """The gap in words."""
        gap = abs(self.gap) * 100
        if gap < 0.05:
            return "confidence and accuracy agree on average"
        return f"{gap:.1f} points {'over' if self.gap > 0 else 'under'}-confident on average"


@dataclass(frozen=True)
class RiskCoverage:
    """The error among the most confident, at each coverage [P], and the area under it."""

    coverage: Floats
    risk: Floats
    aurc: float
    error: float
    name: str


@dataclass(frozen=True)
class ConfidenceHistogram:
    """Cells [C] of confidence: edges [C+1], how many predictions are right and wrong; their mean confidence."""

    edges: Floats
    right: Integers
    wrong: Integers
    confidence: float

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / (self.right.sum() + self.wrong.sum()))


def prepare_reliability(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    scope: Scope = "top-label",
    interval: float | Interval = 0.95,
    name: str = "",
    ignore_index: int | None = None,
) -> ReliabilityDiagram:
    """The reliability curve with a pointwise bootstrap band of each bin's accuracy.

    Args:
        probabilities, labels, logits, bins, binning, scope, ignore_index: as in
            :func:`labelsmooth.metrics.reliability_curve`.
        interval: level of the band, or an :class:`Interval`.
        name: what the picture is called.

    Returns:
        A :class:`ReliabilityDiagram` of plain arrays; empty bins are NaN.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> prepare_reliability(p, np.array([0, 0, 1, 1]), bins=2).sentence
        '25.0 points under-confident on average'
    """
    how = interval if isinstance(interval, Interval) else Interval(interval)
    rows = read(probabilities, labels, logits, ignore_index)
    return reliability_record(rows, bins, binning, scope, how, name)


def prepare_reliability_grid(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    classes: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    bins: int = 10,
    binning: Binning = "equal-mass",
    interval: float | Interval = 0.95,
    ignore_index: int | None = None,
) -> list[ReliabilityDiagram]:
    """One :func:`prepare_reliability` per class: p_k against "is the label k".

    Args:
        probabilities, labels, logits, bins, binning, interval, ignore_index: as there.
        classes: which; all unless given.
        names: of all K classes; "class k" unless given.

    Returns:
        A list of :class:`ReliabilityDiagram`.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> [one.name for one in prepare_reliability_grid(p, np.array([0, 0, 1, 1]), bins=2)]
        ['class 0', 'class 1']
    """
    rows = read(probabilities, labels, logits, ignore_index)
    how = interval if isinstance(interval, Interval) else Interval(interval)
    if names is not None and len(names) != rows.classes:
        raise ValueError(f"names are {len(names)}, but there are {rows.classes} classes.")
    chosen = range(rows.classes) if classes is None else classes
    return [
        reliability_record(rows, bins, binning, k, how, f"class {k}" if names is None else names[k]) for k in chosen
    ]


def reliability_record(
    rows: Rows,
    bins: int = 15,
    binning: Binning = "equal-mass",
    scope: Scope = "top-label",
    how: Interval = Interval(),  # noqa: B008  (frozen)
    name: str = "",
) -> ReliabilityDiagram:
    """:func:`prepare_reliability` of rows that are read already."""
    confidence, correct = one_question(rows, scope)
    curve = curve_of(confidence, correct, bins, binning, rows.weight)
    size = len(curve.count)
    index = np.searchsorted(curve.edges[1:-1], confidence, side="left")
    with np.errstate(invalid="ignore"):
        draws = np.array(
            [sum_by(index, c * correct, size) / sum_by(index, c, size) for c in resampled_counts(rows, how)]
        )
    low, high = np.full(size, np.nan), np.full(size, np.nan)
    tail = (1.0 - how.level) / 2.0
    for b in np.flatnonzero(curve.count):  # a bin of few rows may be empty in some resamples
        low[b], high[b] = np.nanquantile(draws[:, b], [tail, 1.0 - tail])
    gap = np.nan_to_num(curve.gap)
    share = curve.count / curve.count.sum()
    return ReliabilityDiagram(
        curve.edges,
        curve.count,
        curve.confidence,
        curve.accuracy,
        low,
        high,
        how.level,
        ece=float(share @ np.abs(gap)),
        gap=float(share @ gap),
        histogram=np.rint(np.histogram(np.clip(confidence, 0.0, 1.0), 25, (0.0, 1.0), weights=rows.weight)[0]).astype(
            int
        ),
        name=name,
    )


def prepare_risk_coverage(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    score: Score = "max-probability",
    p: float = 2.0,
    points: int = 200,
    name: str = "",
    ignore_index: int | None = None,
) -> RiskCoverage:
    """The risk-coverage curve at evenly spaced coverages.

    Args:
        probabilities, labels, logits, score, p, ignore_index: as in :func:`labelsmooth.metrics.aurc`.
        points: how many coverages, from 1/points to 1.
        name: what the curve is called.

    Returns:
        A :class:`RiskCoverage` of plain arrays.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        >>> prepare_risk_coverage(p, np.array([0, 0, 1, 0]), points=4).risk.round(3)
        array([0.   , 0.   , 0.333, 0.25 ])
    """
    return risk_record(read(probabilities, labels, logits, ignore_index), score, p, points, name)


def risk_record(
    rows: Rows, score: Score = "max-probability", p: float = 2.0, points: int = 200, name: str = ""
) -> RiskCoverage:
    """:func:`prepare_risk_coverage` of rows that are read already."""
    if points < 1:
        raise ValueError(f"points must be at least 1, not {points!r}.")
    groups = groups_by_score(rows, score, p)
    coverage = np.arange(1, points + 1) / points
    risk = np.array([risk_at(groups, c) for c in coverage])
    return RiskCoverage(coverage, risk, aurc_statistic(rows, score, p).value, error_statistic(rows).value, name)


def prepare_histogram(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    cells: int = 20,
    ignore_index: int | None = None,
) -> ConfidenceHistogram:
    """How often each confidence occurs, right and wrong.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`labelsmooth.metrics.error`.
        cells: of equal width, from 0 to 1.

    Returns:
        A :class:`ConfidenceHistogram` of plain arrays.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> record = prepare_histogram(p, np.array([0, 0, 1]), cells=4)
        >>> record.right, record.wrong
        (array([0, 0, 0, 2]), array([0, 0, 1, 0]))
    """
    return histogram_record(read(probabilities, labels, logits, ignore_index), cells)


def histogram_record(rows: Rows, cells: int = 20) -> ConfidenceHistogram:
    """:func:`prepare_histogram` of rows that are read already."""
    if cells < 1:
        raise ValueError(f"cells must be at least 1, not {cells!r}.")
    edges, ones = np.linspace(0.0, 1.0, cells + 1), ones_of(rows)
    index = assign(rows.confidence, edges)
    right = np.rint(sum_by(index, ones * rows.correct, cells)).astype(np.int64)
    wrong = np.rint(sum_by(index, ones * (1.0 - rows.correct), cells)).astype(np.int64)
    return ConfidenceHistogram(edges, right, wrong, float((ones * rows.confidence).sum() / ones.sum()))


def plot_reliability(record: ReliabilityDiagram, axes: Axes | None = None) -> Axes:
    """Draw a reliability diagram: accuracy over confidence with its band, the counts below, the gap in words.

    Args:
        record: from :func:`prepare_reliability`.
        axes: where to draw; a new figure unless given.

    Returns:
        The axes.
    """
    axes = _axes(axes, 4.6, 4.6)
    filled = record.count > 0
    x, y = record.confidence[filled], record.accuracy[filled]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="calibrated", zorder=1)
    axes.fill_between(
        x,
        record.low[filled],
        record.high[filled],
        color=BLUE,
        alpha=0.22,
        linewidth=0,
        label=f"{record.level:.0%} band",
    )
    # Lines from the diagonal to the point: the gap itself, its length to be read off the vertical axis.
    axes.vlines(x, x, y, color=VERMILION, linewidth=1.6, label="gap", zorder=2)
    axes.plot(x, y, color=BLUE, marker="o", markersize=4.5, linewidth=1.4, label="accuracy", zorder=3)
    cells, width = record.histogram, 1.0 / len(record.histogram)
    left = np.arange(len(cells)) * width
    axes.bar(
        left, 0.15 * cells / cells.max(), width, align="edge", color=GREY, alpha=0.3, label="predictions", zorder=0
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    title = f"{record.name}\n" if record.name else ""
    axes.set_title(f"{title}ECE {record.ece:.3f}: {record.sentence}", fontsize=10)
    # On the side of the diagonal where the points are not, above the counts.
    over = ((x - y) * record.count[filled]).sum() >= 0
    place: dict[str, Any] = {"loc": "upper left"} if over else {"loc": "lower right", "bbox_to_anchor": (1.0, 0.15)}
    axes.legend(**place, frameon=False, fontsize=9)
    _plain(axes)
    return axes


def plot_reliability_grid(records: Sequence[ReliabilityDiagram], columns: int = 4) -> Figure:
    """One small reliability diagram per record, such as one per class.

    Args:
        records: from :func:`prepare_reliability_grid`.
        columns: diagrams side by side.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(records))
    lines = -(-len(records) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.7 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for k, axes in enumerate(panels.flat):
        if k >= len(records):
            axes.set_visible(False)
            continue
        record, filled = records[k], records[k].count > 0
        x, y = record.confidence[filled], record.accuracy[filled]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.fill_between(x, record.low[filled], record.high[filled], color=BLUE, alpha=0.22, linewidth=0)
        axes.plot(x, y, color=BLUE, marker="o", markersize=3, linewidth=1.1)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_title(f"{record.name}  ECE {record.ece:.3f}", fontsize=9)
        _plain(axes)
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return figure


def plot_before_after(before: ReliabilityDiagram, after: ReliabilityDiagram) -> Figure:
    """Two reliability diagrams side by side, on the same axes.

    Args:
        before, after: from :func:`prepare_reliability`.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_reliability(before, left)
    plot_reliability(after, right)
    return figure


def plot_risk_coverage(records: Sequence[RiskCoverage], axes: Axes | None = None) -> Axes:
    """Draw risk-coverage curves: the error that is left when only the most confident predictions are kept.

    Args:
        records: from :func:`prepare_risk_coverage`.
        axes: where to draw; a new figure unless given.

    Returns:
        The axes.
    """
    axes = _axes(axes, 5.4, 3.8)
    styles = [(BLUE, "-"), (VERMILION, (0, (5, 2))), ("#009E73", (0, (1, 1.5))), ("black", (0, (4, 1.5, 1, 1.5)))]
    for k, record in enumerate(records):
        colour, line = styles[k % len(styles)]
        label = f"{record.name or 'model'}: AURC {record.aurc:.4f}"
        axes.plot(record.coverage, record.risk, color=colour, linestyle=line, linewidth=1.7, label=label)
    top = max(float(record.risk.max()) for record in records)
    axes.set(xlim=(0, 1), ylim=(0, 1.05 * top if top > 0 else 1.0), xlabel="coverage: share of predictions kept")
    axes.set_ylabel("error among those kept")
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return axes


def plot_histogram(record: ConfidenceHistogram, axes: Axes | None = None) -> Axes:
    """Draw how often each confidence occurs, right and wrong stacked, with mean confidence and accuracy as lines.

    Args:
        record: from :func:`prepare_histogram`.
        axes: where to draw; a new figure unless given.

    Returns:
        The axes.
    """
    axes = _axes(axes, 5.4, 3.8)
    left, widths = record.edges[:-1], np.diff(record.edges)
    bars: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
    axes.bar(left, record.right, widths, color=BLUE, label="right", **bars)
    axes.bar(left, record.wrong, widths, bottom=record.right, color=VERMILION, hatch="////", label="wrong", **bars)
    for place, style, name in (
        (record.confidence, "-", "mean confidence"),
        (record.accuracy, (0, (2, 2)), "accuracy"),
    ):
        axes.axvline(place, color="black", linestyle=style, linewidth=1.4, label=f"{name} {place:.1%}")
    axes.set(xlim=(0, 1), xlabel="confidence", ylabel="predictions")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
    _plain(axes)
    return axes


def _axes(axes: Axes | None, width: float, height: float) -> Axes:
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    made: Any = Figure(figsize=(width, height), layout="constrained").subplots()
    return made  # type: ignore[no-any-return]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
