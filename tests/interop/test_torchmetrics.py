"""The streamed metrics in torchmetrics' collection, over batches and over two processes, and the gathered logits."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before torchmetrics, in the spawned processes too)

from pathlib import Path

import torch
from processes import gloo
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from labelsmooth import metrics
from labelsmooth.interop.lightning import _gathered
from labelsmooth.metrics import streaming

N, K = 200, 5
SHARES = (slice(0, 120), slice(120, N))  # uneven


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    logits = 2 * torch.randn(N, K, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(N, K, generator=torch.Generator().manual_seed(1))
    return logits, (logits + 2 * noise).argmax(1)


def collection() -> MetricCollection:
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(K, average="micro"),
            "error": streaming.Error(scores="logits"),
            "nll": streaming.NLL(scores="logits"),
            "brier": streaming.Brier(scores="logits"),
            "ece": streaming.CalibrationError(scores="logits"),
            "gap": streaming.ConfidenceGap(scores="logits"),
            "aurc": streaming.AURC(scores="logits"),
        },
        prefix="val_",
    )


def assert_values(values: dict[str, torch.Tensor]) -> None:
    logits, labels = problem()
    given = dict(logits=logits, labels=labels)
    expected = {
        "accuracy": 1 - float(metrics.error(**given)),
        "error": metrics.error(**given),
        "nll": metrics.nll(**given),
        "brier": metrics.brier(**given),
        "ece": metrics.ece(**given),
        "gap": metrics.confidence_gap(**given),
        "aurc": metrics.aurc(**given),
    }
    assert values.keys() == {f"val_{name}" for name in expected}
    for name, value in expected.items():
        tolerance = 3e-4 if name in ("ece", "aurc") else 1e-6  # these count confidences in cells
        torch.testing.assert_close(float(values[f"val_{name}"]), float(value), atol=tolerance, rtol=0)


def test_in_a_collection_over_batches() -> None:
    ours = collection()
    logits, labels = problem()
    for batch in torch.arange(N).split(64):
        ours.update(logits[batch], labels[batch])
    assert_values(ours.compute())
    ours.reset()
    clone = ours.clone(prefix="val_")
    clone.update(logits, labels)
    assert_values(clone.compute())


def _process(rank: int, size: int, rendezvous: str) -> None:
    logits, labels = problem()
    with gloo(rank, size, rendezvous):
        ours = collection()
        for batch in torch.arange(N)[SHARES[rank]].split(64):
            ours.update(logits[batch], labels[batch])
        assert_values(ours.compute())
        torch.testing.assert_close(_gathered([logits[SHARES[rank]], labels[SHARES[rank]]]), [logits, labels])


def test_over_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, args=(2, str(tmp_path / "rendezvous")), nprocs=2)
