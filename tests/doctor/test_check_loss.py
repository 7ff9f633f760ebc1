"""What the doctor says of losses whose smoothing is known: PyTorch's, timm's, ours, and wrong ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

import labelsmooth as ls
from labelsmooth.cli import app
from labelsmooth.doctor import check_loss, load_loss
from labelsmooth.errors import UserError


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_pytorchs_loss(epsilon: float, reduction: str) -> None:
    check = check_loss(nn.CrossEntropyLoss(label_smoothing=epsilon, reduction=reduction, ignore_index=3))
    assert (check.form, check.smooths, check.convention) == ("softmax cross-entropy", True, "all")
    assert check.epsilon == pytest.approx(epsilon, abs=1e-6)
    assert (check.reduction, check.ignore_index) == (reduction, 3)
    assert check.no_effect == check.remarks == ()


def test_a_loss_without_smoothing() -> None:
    for loss in (nn.CrossEntropyLoss(), F.cross_entropy, ls.LabelSmoothingCrossEntropy(0.0)):
        check = check_loss(loss)
        assert (check.smooths, check.convention, check.epsilon, check.no_effect) == (False, None, None, ())


def test_class_weights_are_divided_out() -> None:
    check = check_loss(nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0, 4.0]), label_smoothing=0.2))
    assert check.epsilon == pytest.approx(0.2, abs=1e-6)
    assert check.convention == "all"
    assert "With 4 classes it equals epsilon=0.15 of convention 'others'." in check.remarks


def test_our_losses() -> None:
    check = check_loss(ls.LabelSmoothingCrossEntropy(ls.smoothing.Uniform(0.1, over="others")))
    assert (check.convention, round(check.epsilon or 0, 6), check.ignore_index) == ("others", 0.1, -100)
    prior = check_loss(
        ls.LabelSmoothingCrossEntropy(ls.smoothing.Prior(0.1, torch.tensor([0.5, 0.3, 0.2]))), num_classes=3
    )
    assert (prior.smooths, prior.convention, prior.epsilon) == (True, "unknown", None)
    binary = check_loss(partial(ls.binary_cross_entropy_with_logits, label_smoothing=0.1))
    assert (binary.form, binary.smooths) == ("binary cross-entropy", True)


def test_timms_losses() -> None:
    loss, options = load_loss("timm.loss:LabelSmoothingCrossEntropy(smoothing=0.15)")
    check = check_loss(loss, options=options)
    assert (check.convention, round(check.epsilon or 0, 6), check.reduction) == ("all", 0.15, "mean")
    assert check.ignore_index is None
    loss, _ = load_loss("timm.loss:SoftTargetCrossEntropy")
    check = check_loss(loss)
    assert not check.smooths
    assert "It takes targets of the logits' shape: one-hot here." in check.remarks
    loss, _ = load_loss("timm.loss:BinaryCrossEntropy(smoothing=0.1)")
    check = check_loss(loss)
    assert (check.form, check.convention, round(check.epsilon or 0, 6)) == ("binary cross-entropy", "all", 0.1)


def test_losses_of_log_probabilities() -> None:
    for loss in (nn.NLLLoss(), nn.KLDivLoss(reduction="batchmean")):
        check = check_loss(loss)
        assert check.form == "softmax cross-entropy"
        assert not check.smooths
        assert "log-probabilities" in check.remarks[0]


class Forgetful(nn.Module):
    """Takes an amount of smoothing and ignores it."""

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)


class InEvaluationOnly(Forgetful):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=0.0 if self.training else self.smoothing)


class FixedClasses(Forgetful):
    """The module of many tutorials: epsilon / (K - 1), for a K of its own."""

    cls = 7

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        target = torch.full_like(logits, self.smoothing / (self.cls - 1)).scatter_(
            1, labels[:, None], 1 - self.smoothing
        )
        return (-target * logits.log_softmax(1)).sum(1).mean()


class SumOverClasses(Forgetful):
    """epsilon on every class, not divided by K."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        return (1 - self.smoothing) * F.nll_loss(log_p, labels) - self.smoothing * log_p.sum(1).mean()


class Padded(Forgetful):
    """Leaves the padding out of the NLL, but not out of the smoothing."""

    ignore_index = 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        nll = -log_p.gather(1, labels[:, None])[:, 0] * (labels != self.ignore_index)
        return ((1 - self.smoothing) * nll - self.smoothing * log_p.mean(1)).mean()


class Detached(Forgetful):
    """The smooth part is in the value, not in the gradient."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        return F.nll_loss(log_p, labels) - self.smoothing * log_p.mean(1).mean().detach()


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    log_p = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    return (-((1 - log_p.exp()) ** 2) * log_p).mean()


def test_options_without_effect() -> None:
    assert check_loss(Forgetful(0.2)).no_effect == ("smoothing=0.2",)
    assert check_loss(partial(lambda z, y, label_smoothing: F.cross_entropy(z, y), label_smoothing=0.1)).no_effect
    detached = check_loss(Detached())
    assert detached.no_effect == ("smoothing=0.1",)
    assert "Its values do not belong to its gradients: a part of it is detached." in detached.remarks
    only = check_loss(InEvaluationOnly())
    assert only.no_effect == ("smoothing=0.1",)
    assert "In evaluation mode, after loss.eval(), the targets are different." in only.remarks


def test_hand_made_losses() -> None:
    fixed = check_loss(FixedClasses())
    assert (fixed.convention, round(fixed.epsilon or 0, 6), fixed.no_effect) == ("others", 0.1, ())
    wrong = check_loss(SumOverClasses())
    assert (wrong.smooths, wrong.convention, wrong.epsilon) == (True, "unknown", None)
    assert any("times a factor: 1.4 with 5 classes, 1.9 with 10 classes" in remark for remark in wrong.remarks)
    padded = check_loss(Padded())
    assert padded.ignore_index is None
    assert "Rows of ignore_index=0 get a gradient all the same." in padded.remarks


def test_losses_that_are_no_cross_entropy() -> None:
    check = check_loss(focal)
    assert (check.form, check.smooths, check.convention) == ("other", False, None)
    penalised = check_loss(lambda z, y: F.cross_entropy(z, y) + 0.1 * (z.softmax(1) * z.log_softmax(1)).sum(1).mean())
    assert (penalised.form, penalised.smooths, penalised.convention) == ("other", True, "unknown")


def test_the_loss_itself_is_not_changed() -> None:
    loss = nn.CrossEntropyLoss(torch.ones(4), label_smoothing=0.1)
    check_loss(loss.train())
    assert loss.training
    assert loss.weight is not None
    assert loss.weight.dtype == torch.float32


def test_refused() -> None:
    with pytest.raises(UserError, match="cannot be called with logits of 5 or 10 classes and labels"):
        check_loss(lambda z: z.sum())
    with pytest.raises(UserError, match="num_classes=1 is too small"):
        check_loss(nn.CrossEntropyLoss(), num_classes=1)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command(tmp_path: Path) -> None:
    code, output = run("torch.nn:CrossEntropyLoss(label_smoothing=0.1)")
    assert code == 0
    assert "epsilon=0.1, convention 'all': epsilon / K on every class" in output
    (tmp_path / "neighbour.py").write_text("EPSILON = 0.1\n")
    (tmp_path / "losses.py").write_text(
        "from neighbour import EPSILON\nimport torch\n"
        "def criterion(z, y, smoothing=EPSILON):\n    return torch.nn.functional.cross_entropy(z, y)\n"
    )
    code, output = run(f"{tmp_path / 'losses.py'}:criterion")
    assert code == 1
    assert "no effect     smoothing=0.1 does not smooth the labels" in output


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("torch.nn.CrossEntropyLoss", "is not of the form MODULE:EXPRESSION"),
        ("no_such_module:loss", "cannot be made (ModuleNotFoundError"),
        ("torch.nn:CrossEntropyLoss(smoothing=0.1)", "cannot be made (TypeError"),
        ("torch:pi", "is a float, not a loss"),
    ],
)
def test_the_command_refuses(spec: str, sentence: str) -> None:
    code, output = run(spec)
    assert code == 2
    assert sentence in " ".join(output.split())
