"""Matplotlib figures as SVG for a page: sized by it, in its colours (dark mode too), described for screen readers."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any kind of colour vision; line style and marker repeat what colour says.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
INK, SOFT, LINE, FAINT, PAPER = "#1b1f24", "#57606a", "#d8dee4", "#eeeeee", "#ffffff"
# On a page each is a property of style.css, which has other values for dark screens.
NAMES = {BLUE: "blue", ORANGE: "orange", GREEN: "green"} | {
    INK: "ink",
    SOFT: "soft",
    LINE: "line",
    FAINT: "faint",
    PAPER: "paper",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Picture:
    """A figure of a page: its heading, the SVG, and what to see in it."""

    title: str
    svg: str
    caption: str = ""


def picture(
    title: str, size: tuple[float, float], draw: Callable[[Figure], str], caption: str = "", name: str = ""
) -> Picture:
    """Draw on a new figure of this size in inches; `draw` returns the description that a screen reader reads out.

    Args:
        name: what keeps the ids of this SVG apart from those of the page's others; the title unless given.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name or title}):
        figure = Figure(figsize=size, layout="constrained")
        description = draw(figure)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True
        )
    svg = buffer.getvalue()
    svg = re.sub(r"(?s)^.*?<svg (.*?)>", lambda match: _open(match[1], description), svg, count=1)
    return Picture(title, re.sub("#[0-9a-f]{6}", _colour, svg), caption)


def _open(attributes: str, description: str) -> str:
    """The first tag without its size in points."""
    kept = dict(re.findall(r'(viewBox|xmlns|xmlns:xlink)="([^"]*)"', attributes))
    words = " ".join(f'{key}="{text}"' for key, text in kept.items())
    return f'<svg role="img" aria-label="{html.escape(description)}" {words}>'


def _colour(match: re.Match[str]) -> str:
    return f"var(--{NAMES[match[0]]})" if match[0] in NAMES else match[0]
