"""An evaluation as one page that needs nothing else: the answer, the numbers with their intervals, the pictures."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from labelsmooth._pages import render as fill
from labelsmooth.files import check_output, disk_errors, whole_file
from labelsmooth.metrics import Difference, Estimate
from labelsmooth.metrics.catalogue import CATALOGUE
from labelsmooth.predictions import Evaluation
from labelsmooth.report import plots
from labelsmooth.report.evaluation_text import notes
from labelsmooth.report.figures import svg
from labelsmooth.report.numbers import label, value

__all__ = ["render_evaluation", "write_evaluation"]

HEADLINES = ("error", "confidence_gap", "ece", "nll")


def write_evaluation(evaluation: Evaluation, out: Path, overwrite: bool = False) -> None:
    """Write an evaluation with its pictures as HTML.

    Raises:
        UserError: where `out` exists and `overwrite` is false, or it cannot be written.
    """
    check_output(out, overwrite)
    page = render_evaluation(evaluation)
    with disk_errors(out), whole_file(out) as file:
        file.write(page.encode())


def render_evaluation(evaluation: Evaluation) -> str:
    """The page as a string; names of files and groups are escaped."""
    return fill(
        "labelsmooth.report",
        "evaluation.html.j2",
        evaluation=evaluation,
        level=f"{next(iter(evaluation.metrics.values())).level:.0%}",
        cards=[(label(name), estimate(name, evaluation.metrics[name])) for name in HEADLINES],
        tone=_tone(evaluation),
        metrics=[
            (label(name), *estimate(name, e), CATALOGUE[name].meaning, e.value > e.high)
            for name, e in evaluation.metrics.items()
        ],
        differences=[(label(name), *change(name, d)) for name, d in evaluation.differences.items()],
        groups=[
            (name, rows, [estimate(metric, metrics[metric]) for metric in HEADLINES], _side(metrics["confidence_gap"]))
            for name, (rows, metrics) in evaluation.groups.items()
        ],
        headlines=[label(name) for name in HEADLINES],
        pictures=[(title, Markup(picture), words) for title, picture, words in _pictures(evaluation)],
        notes=notes(evaluation),
    )


def estimate(name: str, measured: Estimate) -> tuple[str, str]:
    """A value and its interval."""
    sign = name == "confidence_gap"
    low, high = (value(name, end, sign=sign) for end in (measured.low, measured.high))
    return value(name, measured.value, sign=sign), f"{low} to {high}"


def change(name: str, difference: Difference) -> tuple[str, str, str, str]:
    """A difference, its interval, its p-value, and which of the two is better where that is sure."""
    number, low, high = (value(name, v, sign=True) for v in (difference.value, difference.low, difference.high))
    word = "cannot tell"
    if name != "confidence_gap" and (difference.high < 0.0 or difference.low > 0.0):
        word = "▼ better" if difference.high < 0.0 else "▲ worse"
    elif name == "confidence_gap":
        word = "closer to 0" if abs(difference.first) < abs(difference.second) else "further from 0"
    p_value = f"{difference.p_value:.3f}" if difference.p_value >= 0.001 else "< 0.001"
    return number, f"{low} to {high}", p_value, word


def _tone(evaluation: Evaluation) -> str:
    gap, ece = evaluation.metrics["confidence_gap"], evaluation.metrics["ece"]
    return "bad" if gap.low > 0 or gap.high < 0 or ece.low > 0 else "good"


def _side(gap: Estimate) -> str:
    return "over-confident" if gap.low > 0 else "under-confident" if gap.high < 0 else "no sign of either"


def _pictures(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Title, SVG and words of each picture."""
    curves = evaluation.curves
    if curves is None:
        return []
    reliability = {"Reliability": curves.reliability}
    risk = {"these predictions": curves.risk}
    if curves.other_reliability is not None and curves.other_risk is not None:
        reliability = {
            "Reliability: these predictions": curves.reliability,
            "Reliability: the other": curves.other_reliability,
        }
        risk["the other"] = curves.other_risk

    def histogram(figure: Figure) -> str:
        plots.plot_histogram(curves.histogram, figure.subplots())
        return "Histogram of confidence"

    def coverage(figure: Figure) -> str:
        plots.plot_risk_coverage(risk, figure.subplots())
        return "Error over coverage"

    def diagram(title: str) -> str:
        def draw(figure: Figure) -> str:
            plots.plot_reliability(reliability[title], figure.subplots())
            return plots.gap_sentence(reliability[title])

        return svg(title, (4.6, 4.6), draw)

    pictures = [(title, diagram(title), "" if k else _RELIABILITY) for k, title in enumerate(reliability)]
    pictures.append(("Confidence", svg("confidence", (5.4, 3.8), histogram), _CONFIDENCE))
    pictures.append(("Risk and coverage", svg("risk", (5.4, 3.8), coverage), _RISK))
    return pictures


_RELIABILITY = (
    "On the dashed diagonal predictions are right as often as their confidence says; below it over-confident, above it "
    "under-confident. Orange lines are the gaps, the band is for the accuracy of each bin, and the grey bars along the "
    "bottom count the predictions."
)
_CONFIDENCE = "The bars count the predictions. Calibrated confidence has its mean at the accuracy."
_RISK = (
    "Keep only the most confident share of the predictions, hand back the rest: the error that is left. "
    "Where the curve falls to the left, the errors are among the least confident."
)
