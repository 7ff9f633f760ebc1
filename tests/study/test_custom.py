"""Studies of the user's own data and network, as the examples make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from examples import load_example
from labelsmooth.data import array_dataset
from labelsmooth.errors import UserError
from labelsmooth.study import StudyConfig, Workers, run_study
from labelsmooth.training.network import CustomNetwork, custom_name

TABLE = array_dataset("table", torch.randn(120, 5, generator=torch.manual_seed(0)), torch.arange(120) % 3)


def linear(num_classes: int) -> nn.Module:
    return nn.Linear(5, num_classes)


def wider(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, num_classes))


@pytest.mark.filterwarnings("ignore")  # of what the modules that are read warn about their own attributes
@pytest.mark.parametrize(("name", "epochs", "most"), [("study_tabular", 4, 0.3), ("study_text", 2, 0.6)])
def test_the_examples_learn(name: str, epochs: int, most: float, tmp_path: Path) -> None:
    study = load_example(name).main(["--seeds", "1", "--epochs", str(epochs), "--out", str(tmp_path)])
    assert study.number("plain", "error").mean < most < study.guess_error + 0.1
    assert {method.name for method in study.methods} == {"plain", "label-smoothing", "weight-decay", "dropout"}
    assert len({tuple(run.history["train_loss"]) for run in study.runs}) == 4, "each method trains in its own way"
    assert (tmp_path / "report.html").exists()


def test_runs_are_named_by_what_the_network_is(tmp_path: Path) -> None:
    assert custom_name(linear, 3) == custom_name(linear, 3)
    assert len({custom_name(linear, 3), custom_name(wider, 3), custom_name(linear, 4)}) == 3
    assert custom_name(linear, 3).startswith("linear-")
    options = {"data": TABLE, "methods": "plain", "seeds": 1, "epochs": 1, "out": tmp_path}
    for make, runs in ((linear, 1), (linear, 1), (wider, 2), (lambda num_classes: wider(num_classes), 3)):
        study = run_study(make_network=make, **options)
        assert len(list((tmp_path / "runs").iterdir())) == runs
        assert study.config.backbone.split("-")[0] in ("linear", "wider", "lambda")


def test_workers_take_functions_that_cannot_be_imported(tmp_path: Path) -> None:
    options = {"data": TABLE, "methods": "plain", "seeds": 2, "epochs": 1}
    one = run_study(make_network=lambda num_classes: nn.Linear(5, num_classes), out=tmp_path / "a", **options)
    two = run_study(
        make_network=lambda num_classes: nn.Linear(5, num_classes), out=tmp_path / "b", executor=Workers(2), **options
    )
    assert [row.mean for row in one.summary] == [row.mean for row in two.summary]


def test_dropout_goes_before_the_last_linear_layer() -> None:
    network = CustomNetwork(wider(3), dropout=0.5)
    inputs = torch.randn(64, 5)
    torch.manual_seed(0)
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    assert torch.equal(network(inputs), network(inputs))
    with pytest.raises(UserError, match="Dropout goes before the last linear layer, and the network has none"):
        CustomNetwork(nn.Conv2d(1, 3, 3), dropout=0.1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": TABLE}, r"torch.float32 of shape \(5,\), which no backbone takes; give make_network="),
        ({"data": TABLE, "make_network": linear, "backbone": "resnet18"}, "backbone='resnet18' is not used beside"),
        (
            {
                "data": array_dataset("words", torch.arange(600).reshape(120, 5), np.arange(120) % 3),
                "make_network": linear,
                "methods": "mixup",
            },
            "mixup mixes inputs, but those of words are torch.int64; leave it out",
        ),
    ],
)
def test_refused(options: dict[str, object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        run_study(StudyConfig(**{"out": tmp_path, "epochs": 1, "seeds": 1, **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "classes", "sentence"),
    [
        (torch.zeros(4), None, r"inputs have the shape \(6, 2\) and labels \(4,\)"),
        (torch.tensor([0, 0, 0, 1, 1, 2]), None, "Each class needs at least 3"),
        (torch.tensor([0, 0, 0, 1, 1, 2]), ["a", "b"], r"labels run from 0 to 2; they must lie in \[0, 2\)"),
    ],
)
def test_arrays_that_are_no_data_set(labels: torch.Tensor, classes: list[str] | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        array_dataset("bad", torch.zeros(6, 2), labels, classes=classes)
