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
    off = 1e-6 if cls is streaming.SmoothECE else 1e-9
    assert float(metric.compute()) == pytest.approx(function(p, y, **options), abs=off)


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
    with pytest.raises(ValueError, match="needs the number of classes"):
        streaming.CalibrationError(scope="class-wise")
    with pytest.raises(ValueError, match="predictions have 5 classes, but classes=4"):
        streaming.CalibrationError(scope="class-wise", classes=4).update(torch.from_numpy(p), torch.from_numpy(y))


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_every_class_has_its_own_cells(sample, norm):
    p, y = sample(n=4000, k=4)
    for binning, off in (("equal-width", 1e-9), ("equal-mass", 2e-3 if norm != "max" else 2e-2)):
        metric = streaming.CalibrationError(binning=binning, norm=norm, scope="class-wise", classes=4)
        for batch in batches(p, y, 256):
            metric.update(*batch)
        expected = metrics.ece(p, y, binning=binning, norm=norm, scope="class-wise")
        assert float(metric.compute()) == pytest.approx(expected, abs=off)
        assert metric.right.shape == (4, metric.right.shape[1])
        assert metric.right.shape[1] < 1000


@pytest.mark.parametrize(
    ("cls", "function", "options", "off"),
    [
        (streaming.OverConfidence, metrics.over_confidence, {"binning": "equal-width"}, 1e-9),
        (streaming.UnderConfidence, metrics.under_confidence, {"binning": "equal-width"}, 1e-9),
        (streaming.DebiasedECE, metrics.debiased_ece, {"binning": "equal-width"}, 1e-9),
        (streaming.DebiasedECE, metrics.debiased_ece, {}, 1e-3),
        (streaming.KS, metrics.ks, {}, 1e-4),
        (streaming.EAURC, metrics.e_aurc, {}, 1e-4),
        (streaming.RiskAtCoverage, metrics.risk_at_coverage, {"coverage": 0.7}, 2e-3),
    ],
)
def test_the_others_come_as_close_as_their_cells(sample, cls, function, options, off):
    p, y = sample(n=5000)
    metric = cls(**options)
    for batch in batches(p, y, 512):
        metric.update(*batch)
    assert float(metric.compute()) == pytest.approx(function(p, y, **options), abs=off)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("name", streaming.__all__)
@pytest.mark.parametrize("kind", ["binary", "multi-label", "dense"])
def test_every_class_takes_every_shape_in_batches(name, kind):
    """Dense and multi-label batches, some labels ignored, say what the rows one by one say; states do not grow."""
    rng = np.random.default_rng(0)
    shape = {"binary": (600,), "multi-label": (600, 3), "dense": (60, 4, 5)}[kind]
    z = rng.normal(size=(60, 3, 4, 5) if kind == "dense" else shape)
    y = rng.integers(0, 3 if kind == "dense" else 2, shape)
    y[rng.random(shape) < 0.2] = -1
    options = {"coverage": 0.5} if name == "RiskAtCoverage" else {}
    metric = getattr(streaming, name)(scores="logits", ignore_index=-1, **options)
    sizes = {state: getattr(metric, state).numel() for state in metric._defaults}
    for start in range(0, len(y), 20):
        metric.update(torch.from_numpy(z[start : start + 20]), torch.from_numpy(y[start : start + 20]))
    assert {state: getattr(metric, state).numel() for state in metric._defaults} == sizes
    function = getattr(streaming, name).name
    rows = z.transpose(0, 2, 3, 1).reshape(-1, 3) if kind == "dense" else z.reshape(-1)
    expected = getattr(metrics, function)(logits=rows, labels=y.reshape(-1), ignore_index=-1, **options)
    assert float(metric.compute()) == pytest.approx(expected, abs=6e-3)
