"""The torchmetrics classes: batch by batch what the functions give at once, in states that do not grow."""

import numpy as np
import pytest
import torch

from labelsmooth import metrics
from labelsmooth.metrics import streaming

EXACT = [
    (streaming.Error, {}, metrics.error, {}),
    (streaming.NLL, {}, metrics.nll, {}),
    (streaming.Brier, {}, metrics.brier, {}),
    (streaming.ConfidenceGap, {}, metrics.confidence_gap, {}),
    (streaming.SmoothECE, {}, metrics.smooth_ece, {}),
    (streaming.SmoothECE, {"scope": 1}, metrics.smooth_ece, {"scope": 1}),
    *[
        (streaming.CalibrationError, options, metrics.ece, options)
        for options in (
            {"binning": "equal-width"},
            {"binning": "equal-width", "norm": "l2", "bins": 7},
            {"binning": "equal-width", "norm": "max", "scope": 2, "bins": 5},
        )
    ],
]


def batches(p, y, size):
    return [(torch.from_numpy(p[i : i + size]), torch.from_numpy(y[i : i + size])) for i in range(0, len(y), size)]


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize(("cls", "arguments", "function", "options"), EXACT)
def test_batches_add_up_to_the_function(sample, cls, arguments, function, options):
    p, y = sample(n=500)
    metric = cls(**arguments)
    assert torch.isnan(metric.compute())
    metric.reset()
    for batch in batches(p, y, 64):
        metric.update(*batch)
    assert float(metric.compute()) == pytest.approx(function(p, y, **options), abs=1e-9)


@pytest.mark.parametrize("cls", [streaming.CalibrationError, streaming.AURC])
def test_cells_come_within_their_width(sample, cls):
    p, y = sample(n=5000)
    metric, function = cls(), metrics.ece if cls is streaming.CalibrationError else metrics.aurc
    for batch in batches(p, y, 512):
        metric.update(*batch)
    assert float(metric.compute()) == pytest.approx(function(p, y), abs=5e-4)


@pytest.mark.parametrize("binning", ["equal-mass", "equal-width"])
def test_zero_one_and_ties_are_where_the_function_puts_them(binning):
    p = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 1.0])
    y = np.array([0, 0, 1, 0, 1, 1, 0, 1, 0, 1])
    metric = streaming.CalibrationError(bins=4, binning=binning, scope=1)
    metric.update(torch.from_numpy(p), torch.from_numpy(y))
    assert float(metric.compute()) == pytest.approx(metrics.ece(p, y, bins=4, binning=binning, scope=1), abs=1e-12)


@pytest.mark.parametrize("cls", [streaming.NLL, streaming.CalibrationError, streaming.SmoothECE, streaming.AURC])
def test_two_processes_sum_to_one(sample, cls):
    p, y = sample(n=600)
    whole, first, second = cls(), cls(), cls()
    whole.update(torch.from_numpy(p), torch.from_numpy(y))
    first.update(torch.from_numpy(p[:200]), torch.from_numpy(y[:200]))
    second.update(torch.from_numpy(p[200:]), torch.from_numpy(y[200:]))
    sizes = {name: getattr(first, name).numel() for name in first._defaults}
    for name, reduction in first._reductions.items():
        # What a process group does with the states of its members.
        setattr(first, name, reduction(torch.stack([getattr(first, name), getattr(second, name)])))
    first._update_count = 2
    assert float(first.compute()) == pytest.approx(float(whole.compute()), abs=1e-12)
    assert {name: getattr(first, name).numel() for name in first._defaults} == sizes


def test_logits_ignored_positions_and_half_precision(sample):
    p, y = sample(n=300)
    z = torch.from_numpy(np.log(p))
    labels = torch.from_numpy(np.where(np.arange(300) % 3 == 0, -100, y))
    metric = streaming.NLL(scores="logits", ignore_index=-100)
    metric.update(z, labels)
    metric.update(z[:1], torch.tensor([-100]))
    expected = metrics.nll(logits=z.numpy(), labels=labels.numpy(), ignore_index=-100)
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-12)
    assert metric.half().total.dtype == torch.float64
    with pytest.raises(ValueError, match="scores must be"):
        streaming.NLL(scores="auto")
    with pytest.raises(ValueError, match="one metric per class"):
        streaming.CalibrationError(scope="class-wise")
