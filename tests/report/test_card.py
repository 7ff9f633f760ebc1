"""The model card: a header that YAML reads, names from outside shown as they are, and a snippet that runs."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from labelsmooth import models
from labelsmooth.models.records import Measured, MeasuredSets
from labelsmooth.report.card import render_card, write_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "model"
    models.train(data="digits", epochs=1, out=folder)
    return folder


def test_the_header_is_the_hubs(folder: Path) -> None:
    record = models.load_training(folder)
    _, header, body = render_card(record).split("---\n", 2)
    values = yaml.safe_load(header)
    assert values["library_name"] == "labelsmooth"
    assert values["pipeline_tag"] == "image-classification"
    (result,) = values["model-index"][0]["results"]
    assert result["dataset"]["name"] == "digits"
    accuracy = next(metric["value"] for metric in result["metrics"] if metric["type"] == "accuracy")
    assert accuracy == pytest.approx(1 - record.metrics[record.applied]["error"].value, abs=1e-6)
    headings = re.findall("^## (.*)$", body, re.MULTILINE)
    assert headings == ["Use", "Data", "Training", "Results", "Calibration", "Limits"]
    assert "95% interval" in body


def test_the_snippet_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    write_card(models.load_training(copy), copy / "README.md")
    Image.new("L", (8, 8), 128).save(copy / "photo.jpg")
    monkeypatch.chdir(copy)
    snippet = re.search("```python\n(.*?)```", (copy / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    exec(snippet[1], {})
    label, confidence, rest = capsys.readouterr().out.split(maxsplit=2)
    assert label in map(str, range(10))
    assert 0 < float(confidence) <= 1
    assert rest.startswith("(")


def test_names_from_outside_are_text(folder: Path) -> None:
    record = models.load_training(folder)
    record = dataclasses.replace(
        record,
        classes=["a`b", "<script>", "x: y"],
        data=dataclasses.replace(record.data, name="pets *of* <me> # 'x'"),
        command="labelsmooth train ```",
        sets=MeasuredSets(0.9, Measured(0.91, 0.85, 0.95), 1.3, None),
    )
    card = render_card(record)
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["model-index"][0]["results"][0]["dataset"]["name"] == "pets *of* <me> # 'x'"
    assert "# A classifier of pets \\*of\\* \\<me\\> \\# 'x'" in body
    assert "`` a`b ``" in body
    assert "held the label of 91.0% of the test images (95% interval 85.0 to 95.0%) with 1.30 classes" in body
    assert body.count("```") % 2 == 0
