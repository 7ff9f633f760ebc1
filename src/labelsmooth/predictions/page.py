"""An evaluation as one page that needs nothing else: the answer, the numbers with their intervals, the pictures."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

from labelsmooth._pages import render as fill
from labelsmooth.errors import UserError
from labelsmooth.files import check_output, disk_errors, whole_file
from labelsmooth.metrics import Difference, Estimate
from labelsmooth.metrics import figures as draw

from .evaluate import Evaluation
from .show import TITLES, notes

MEANINGS = {
    "error": "share of wrong predictions",
    "nll": "mean of -ln p of the label: error and calibration together",
    "brier": "squared distance from the label: error and calibration together",
    "ece": "mean distance of confidence and accuracy over bins of confidence; 0 is calibrated",
    "smooth_ece": "the same without bins",
    "ks": "the largest cumulative difference of confidence and accuracy",
    "confidence_gap": "above 0 over-confident, below 0 under-confident",
    "aurc": "mean error among the most confident, over all shares kept: how well confidence sorts out errors",
    "e_aurc": "what of it the best order of the same errors would not have",
}
HEADLINES = ("error", "confidence_gap", "ece", "nll")


def write_page(evaluation: Evaluation, out: Path, overwrite: bool = False) -> None:
    """Write an evaluation with its pictures as HTML.

    Raises:
        UserError: where `out` exists and `overwrite` is false, or Jinja2 or Matplotlib is missing.
    """
    check_output(out, overwrite)
    page = render(evaluation)
    with disk_errors(out), whole_file(out) as file:
        file.write(page.encode())


def render(evaluation: Evaluation) -> str:
    """The page as a string; names of files and groups are escaped."""
    try:
        import jinja2  # noqa: F401  (missing, it is said so below)
        from markupsafe import Markup

        pictures = _pictures(evaluation)
    except ImportError as problem:
        raise UserError(f"A report needs {problem.name}: pip install 'labelsmooth[study]'.") from problem
    return fill(
        "labelsmooth.predictions",
        "evaluation.html.j2",
        evaluation=evaluation,
        level=f"{next(iter(evaluation.metrics.values())).level:.0%}",
        cards=[(TITLES[name], estimate(name, evaluation.metrics[name])) for name in HEADLINES],
        tone=_tone(evaluation),
        metrics=[
            (TITLES[name], *estimate(name, e), MEANINGS[name], e.value > e.high)
            for name, e in evaluation.metrics.items()
        ],
        differences=[(TITLES[name], *change(name, d)) for name, d in evaluation.differences.items()],
        groups=[
            (name, rows, [estimate(metric, found[metric]) for metric in HEADLINES], _gap_bar(found["confidence_gap"]))
            for name, (rows, found) in evaluation.groups.items()
        ],
        headlines=[TITLES[name] for name in HEADLINES],
        pictures=[(title, Markup(svg), words) for title, svg, words in pictures],
        notes=notes(evaluation),
    )


def estimate(name: str, found: Estimate) -> tuple[str, str]:
    """A value and its interval in the units that people read: points for shares, plain numbers for the rest."""
    value, low, high = (_number(name, v) for v in (found.value, found.low, found.high))
    return value, f"{low} to {high}"


def change(name: str, found: Difference) -> tuple[str, str, str, str]:
    """A difference, its interval, its p-value, and which of the two is better where that is sure."""
    value, low, high = (_number(name, v, signed=True) for v in (found.value, found.low, found.high))
    word = "cannot tell"
    if name != "confidence_gap" and (found.high < 0.0 or found.low > 0.0):
        word = "▼ better" if found.high < 0.0 else "▲ worse"
    elif name == "confidence_gap":
        word = "closer to 0" if abs(found.first) < abs(found.second) else "further from 0"
    return value, f"{low} to {high}", f"{found.p_value:.3f}" if found.p_value >= 0.001 else "< 0.001", word


def _number(name: str, value: float, signed: bool = False) -> str:
    share = name in ("error", "ece", "smooth_ece", "ks", "confidence_gap")
    sign = "+" if signed or name == "confidence_gap" else ""
    return f"{100 * value:{sign}.2f} %" if share else f"{value:{sign}.4f}"


def _tone(evaluation: Evaluation) -> str:
    gap, ece = evaluation.metrics["confidence_gap"], evaluation.metrics["ece"]
    return "bad" if gap.low > 0 or gap.high < 0 or ece.low > 0 else "good"


def _gap_bar(gap: Estimate) -> str:
    return "over-confident" if gap.low > 0 else "under-confident" if gap.high < 0 else "no sign of either"


def _pictures(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Title, SVG and words of each picture."""
    drawn = evaluation.pictures
    if drawn is None:
        return []
    found = []
    one = drawn.reliability
    if drawn.other_reliability is None:
        found.append(("Reliability", _svg(draw.plot_reliability(one), one.sentence), _RELIABILITY))
    else:
        titles = ((one, "these predictions"), (drawn.other_reliability, "the other"))
        for record, title in titles:
            picture = _svg(draw.plot_reliability(record), record.sentence)
            found.append((f"Reliability: {title}", picture, _RELIABILITY if record is one else ""))
    words = "Where the bars are, so are the predictions. Calibrated confidence has its mean at the accuracy."
    found.append(("Confidence", _svg(draw.plot_histogram(drawn.histogram), "Histogram of confidence"), words))
    curves = [drawn.risk] if drawn.other_risk is None else [drawn.risk, drawn.other_risk]
    words = (
        "Keep only the most confident share of the predictions, hand back the rest: the error that is left. "
        "A curve that falls to the left is a confidence that knows where the errors are."
    )
    found.append(("Risk and coverage", _svg(draw.plot_risk_coverage(curves), "Error over coverage"), words))
    return found


_RELIABILITY = (
    "On the dashed diagonal predictions are right as often as their confidence says; below it over-confident, above it "
    "under-confident. Orange lines are the gaps, the band is for the accuracy of each bin, and the grey bars along the "
    "bottom count the predictions."
)


def _svg(axes: Any, description: str) -> str:
    """The picture as SVG, sized by the page, with words for a screen reader."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        axes.figure.savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True
        )
    svg = buffer.getvalue()
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg[svg.index("<svg") :], count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(description)}" ', 1)
