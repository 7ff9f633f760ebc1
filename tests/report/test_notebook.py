"""The notebook extension: every record of the package has a table, and names from outside are escaped."""

from __future__ import annotations

import numpy as np
import pytest

from labelsmooth import metrics, models, report
from labelsmooth.predictions import evaluate


class Shell:
    """What of IPython's shell the extension uses."""

    def __init__(self) -> None:
        self.display_formatter = self
        self.formatters = {"text/html": self}
        self.shown: dict[type, object] = {}

    def for_type(self, typ, func):
        self.shown[typ] = func


@pytest.fixture(scope="module")
def shell() -> Shell:
    shell = Shell()
    report.load_ipython_extension(shell)
    return shell


def show(shell: Shell, record: object) -> str:
    return shell.shown[type(record)](record)


def test_an_estimate(shell):
    estimate = metrics.error(np.array([0.9, 0.2, 0.6, 0.4]), np.array([1, 0, 1, 1]), interval=0.9)
    html = show(shell, estimate)
    assert "<td>0.2500</td>" in html
    assert "90% interval" in html


def test_an_evaluation(shell, tmp_path):
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 300)
    np.savez(tmp_path / "p.npz", probabilities=p, labels=(rng.random(300) < p).astype(int))
    evaluation = evaluate(tmp_path / "p.npz", interval=metrics.Interval(resamples=100))
    html = show(shell, evaluation)
    assert evaluation.sentence in html
    assert html.count("<tr") == 1 + len(evaluation.metrics)


def test_a_study_escapes_its_names(shell, tiny_study):
    html = show(shell, tiny_study)
    assert html.count("<tr") == 1 + len(tiny_study.methods)
    assert "Plain cross-entropy" in html


def test_a_model(shell):
    model = models.Model(("<i>cat", "dog"), network=None, input=models.Input(1, 8, 8), config={"backbone": "small-cnn"})
    html = show(shell, model)
    assert "small-cnn" in html
    assert "2: &lt;i&gt;cat, dog" in html


def test_the_curves_of_a_training_are_drawn_in_one_place(tiny_npz, tmp_path, monkeypatch):
    class Handle:
        def __init__(self, output, display_id):
            assert display_id
            self.outputs = [output]
            handles.append(self)

        def update(self, output):
            self.outputs.append(output)

    handles: list[Handle] = []
    monkeypatch.setattr("IPython.display.display", Handle)
    models.train(data=tiny_npz, epochs=2, out=tmp_path / "m", progress=report.LiveCurves())
    (handle,) = handles
    first, second = (output.data for output in handle.outputs)
    assert first.startswith("<p>Epoch 1/2: training loss")
    assert "Training and validation NLL by epoch" in second
