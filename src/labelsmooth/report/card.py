"""The model card: ``README.md`` of a model's folder, in the format of the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelsmooth.errors import plural
from labelsmooth.files import StrPath, write_text
from labelsmooth.metrics.numbers import estimate, level, title
from labelsmooth.models.records import TrainingRecord
from labelsmooth.report.tables import Table
from labelsmooth.report.training import metrics_table

# The hub's identifiers of the metrics that its pages show.
HUB_METRICS = {"accuracy": "error", "nll": "nll", "ece": "ece", "brier": "brier"}
SNIPPET = """\
from labelsmooth import models

model = models.load(".")  # this folder: huggingface_hub.snapshot_download("USER/NAME")
for prediction in model.predict(["photo.jpg"], sets=0.9):
    print(prediction.label, prediction.confidence, prediction.classes, prediction.unlike)
"""


def write_card(record: TrainingRecord, path: StrPath) -> None:
    """Write the card of a trained model, by convention ``README.md`` in its folder.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(Path(path), render_card(record))


def render_card(record: TrainingRecord) -> str:
    """The card as Markdown with the hub's YAML header: use, data, recipe, metrics with intervals, calibration, limits.

    The licence is left to the user, who knows that of the photos.
    """
    data, recipe = record.data, record.recipe
    name = _plain(data.name)
    parts = f"{plural(data.train, 'training image')}, {data.validation} validation, {data.test} test"
    sections = {
        "Use": f"```console\n$ pip install 'labelsmooth[study]'\n$ labelsmooth predict . photo.jpg --sets 0.9\n```\n\n"
        f"```python\n{SNIPPET}```\n\nImages are prepared by the folder's own rules; the probabilities are calibrated.",
        "Data": f"{name}: {parts}, {len(record.classes)} classes: {', '.join(_code(c) for c in record.classes)}.",
        "Training": f"{_code(str(recipe['backbone']))}, {plural(record.epochs, 'epoch')}. Loss and regularisers beside "
        f"plain cross-entropy: {_code(json.dumps(recipe.get('settings', {})))}."
        + (f"\n\n```console\n$ {record.command.replace('```', '` ` `')}\n```" if record.command else ""),
        "Results": f"{_plain(record.sentence)}\n\n{_markdown(metrics_table(record))}",
        "Calibration": _calibration(record),
        "Limits": _limits(record),
    }
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"---\n{_header(record)}---\n\n# A classifier of {name}\n\n{body}\n"


def _header(record: TrainingRecord) -> str:
    """The YAML header; values are written as JSON, which YAML contains."""
    measured = record.metrics[record.applied]
    metrics = [
        {
            "type": hub,
            "name": "Accuracy" if hub == "accuracy" else title(ours),
            "value": round(1 - measured[ours].value if hub == "accuracy" else measured[ours].value, 6),
        }
        for hub, ours in HUB_METRICS.items()
    ]
    dataset = {"name": record.data.name, "type": record.data.name, "split": "test"}
    result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}
    values: dict[str, Any] = {
        "library_name": "labelsmooth",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "label-smoothing", "calibration", record.recipe["backbone"]],
        "model-index": [{"name": f"{record.recipe['backbone']} on {record.data.name}", "results": [result]}],
    }
    return "".join(f"{key}: {json.dumps(item)}\n" for key, item in values.items())


def _calibration(record: TrainingRecord) -> str:
    applied = record.calibrator.applied
    first = (
        f"Probabilities are calibrated by {record.calibrator.name}, fitted on the validation images. "
        if applied
        else "No calibrator is applied. "
    )
    text = first + _plain(record.calibrator.reason)
    if record.sets is not None:
        coverage = record.sets.coverage
        share, ends = estimate("error", coverage.value, coverage.low, coverage.high)
        text += (
            f"\n\nPrediction sets of {level(record.sets.asked)} held the label of {share} of the "
            f"test images (95% interval {ends}) with "
            f"{record.sets.size:.2f} classes on average."
        )
    return text


def _limits(record: TrainingRecord) -> str:
    error = record.metrics[record.applied]["error"]
    wrong, ends = estimate("error", error.value, error.low, error.high)
    limits = [
        f"On {plural(record.data.test, 'test image')} {wrong} of the predictions were wrong (95% interval {ends}); "
        "other images may be harder.",
        f"Every image gets one of the {len(record.classes)} classes, whatever it shows. `unlike` marks images that are "
        "farther from the classes than about 99% of the validation images; images that are like the classes and of "
        "none of them are not recognised.",
        "Confidences and prediction sets hold for images drawn like the validation images: same cameras, same mixture "
        "of classes. For others, `labelsmooth calibrate . PHOTOS` fits them again.",
    ]
    return "\n".join(f"- {limit}" for limit in limits)


def _markdown(table: Table) -> str:
    rows = [
        [row.title, *(f"{cell.text} ({cell.small})" if cell.small else cell.text for cell in row.cells)]
        for row in table.rows
    ]
    lines = [table.columns, ["---"] * len(table.columns), *rows]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"{text}\n\n{table.note}" if table.note else text


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\`*_{}[]<>#|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def _code(text: str) -> str:
    """A code span, also of text with backticks."""
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"
