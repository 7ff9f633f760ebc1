"""The examples of trainers, run as a reader would run them, on small data."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from examples import EXAMPLES, load_example
from labelsmooth import cross_entropy


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what NumPy's namespace holds
def test_a_language_model_is_measured_by_token(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    record: dict[str, Any] = load_example("language_model").main(["--quick", "--out", str(tmp_path / "numbers.json")])
    plain, smoothed = record["measured"]
    for measured in (plain, smoothed):
        assert measured["calibrated"]["NLL"].value <= measured["as trained"]["NLL"].value
        assert measured["calibrated"]["error"].value == pytest.approx(measured["as trained"]["error"].value)
    texts = plain["as trained"]["NLL"].examples
    assert texts > 100  # the unit of the intervals is a text, not a token
    assert (tmp_path / "numbers.json").stat().st_size > 100


@pytest.mark.parametrize("name", ["timm_recipe", "torchvision_recipe"])
def test_recipes_of_images_learn(name: str) -> None:
    loss = load_example(name).main(["--epochs", "1", "--images", "600"])
    assert loss < 2.5  # 2.3 is that of ignorance; an unstable step would be far above


def test_smoothing_in_the_loss_is_smoothing_in_timms_mixup() -> None:
    from timm.data import Mixup
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

    images, labels, logits = torch.randn(6, 3, 8, 8), torch.arange(6), torch.randn(6, 10)
    targets = []
    for epsilon in (0.1, 0.0):
        np.random.seed(0)  # noqa: NPY002  (which Mixup draws from)
        targets.append(Mixup(mixup_alpha=0.4, label_smoothing=epsilon, num_classes=10)(images.clone(), labels)[1])
    torch.testing.assert_close(
        cross_entropy(logits, targets[1], label_smoothing=0.1), SoftTargetCrossEntropy()(logits, targets[0])
    )
    theirs = LabelSmoothingCrossEntropy(0.1)(logits, labels)
    torch.testing.assert_close(cross_entropy(logits, labels, label_smoothing=0.1), theirs)


def test_accelerate_on_two_processes_of_torchrun() -> None:
    """Each process sees half of a batch; the gathered rows are those of the whole held-out part."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run([*command, EXAMPLES / "accelerate_loop.py"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if "processes" in line]
    values = ast.literal_eval(line.split(":", 1)[1].strip())
    assert line.startswith("2 processes")
    assert values["rows"] == 600
    assert values["error"] < 0.2
