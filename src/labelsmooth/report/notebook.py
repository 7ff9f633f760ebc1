"""In a notebook: ``%load_ext labelsmooth.report`` shows records as tables, ``LiveCurves`` a training as it goes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Protocol

from labelsmooth.metrics import Estimate
from labelsmooth.metrics.numbers import level
from labelsmooth.models import Model
from labelsmooth.models.records import TrainingRecord
from labelsmooth.predictions import Evaluation
from labelsmooth.progress import Progress
from labelsmooth.report.evaluation import estimates_table
from labelsmooth.report.figures import training_picture
from labelsmooth.report.page import table_html
from labelsmooth.report.study import results_table
from labelsmooth.report.tables import Cell, Row, Table
from labelsmooth.report.terminal import epoch_line
from labelsmooth.report.training import metrics_table
from labelsmooth.study.records import StudyRecord

STUDY_METRICS = ("error", "nll", "ece", "confidence_gap", "aurc")


class Formatter(Protocol):
    """IPython's formatter of one kind of output."""

    def for_type(self, typ: type, func: Callable[[Any], str]) -> object: ...


class Display(Protocol):
    """IPython's formatters by the kind of output."""

    formatters: dict[str, Formatter]


class Shell(Protocol):
    """The part of IPython's shell that is used here."""

    display_formatter: Display


def load_ipython_extension(shell: Shell) -> None:
    """Show the records of this package as tables; IPython calls it for ``%load_ext labelsmooth.report``."""
    html = shell.display_formatter.formatters["text/html"]
    html.for_type(Table, table_html)
    html.for_type(Estimate, lambda e: table_html(_estimate(e)))
    html.for_type(Evaluation, lambda e: _with_sentence(e.sentence, estimates_table(e.metrics)))
    html.for_type(TrainingRecord, lambda t: _with_sentence(t.sentence, metrics_table(t)))
    html.for_type(StudyRecord, lambda s: _with_sentence(s.verdict[0], results_table(s, STUDY_METRICS)))
    html.for_type(Model, lambda m: table_html(_model(m)))


class LiveCurves(Progress):
    """Draws the curves of a training in a notebook, anew after each epoch.

    Example::

        models.train(data="digits", progress=LiveCurves())
    """

    def __init__(self) -> None:
        self._history: dict[str, list[float | None]] = {}
        self._display: Any = None

    def run(self, title: str, seed: int, worker: int = 0, epochs: int = 1) -> None:
        self._history = {"train_nll": [], "validation_nll": []}
        self._display = None

    def scores(self, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        ipython: Any = importlib.import_module("IPython.display")
        for name, curve in self._history.items():
            curve.append(values.get(name))
        curves = training_picture("Training", [self._history], epochs).svg
        output = ipython.HTML(f"<p>{epoch_line(epoch, epochs, values)}</p>{curves}")
        if self._display is None:
            self._display = ipython.display(output, display_id=True)
        else:
            self._display.update(output)


def _with_sentence(sentence: str, table: Table) -> str:
    return f"<p><b>{escape(sentence)}</b></p>{table_html(table)}"


def _estimate(e: Estimate) -> Table:
    cells = [Cell(f"{e.low:.4f} to {e.high:.4f}"), Cell(e.method)]
    return Table(["Value", f"{level(e.level)} interval", "Method"], [Row(f"{e.value:.4f}", cells)])


def _model(model: Model) -> Table:
    calibrator = "none" if model.calibrator is None else repr(model.calibrator)
    pairs = {
        "Backbone": str(model.config.get("backbone", "")),
        "Images": " x ".join(map(str, model.input.shape)),
        "Calibrator": calibrator,
        "Classes": f"{len(model.classes)}: {', '.join(model.classes[:8])}{', …' * (len(model.classes) > 8)}",
    }
    return Table(["Model", ""], [Row(name, [Cell(text)]) for name, text in pairs.items()])
