"""The repr of every public record: short, and with the essential."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import labelsmooth as ls
from labelsmooth import metrics, smoothing
from labelsmooth.data import ArrayImages
from labelsmooth.models import HeldOut, TrainConfig
from labelsmooth.predictions import evaluate
from labelsmooth.study import StudyConfig
from labelsmooth.study.records import MethodReliability

LABELS = np.arange(400) % 2
P = np.stack([np.linspace(0.1, 0.9, 400), np.linspace(0.9, 0.1, 400)], 1)
ECE = metrics.ece(P, LABELS)
FRAME = pd.DataFrame({"label": LABELS, "probability": P[:, 1]})
INTEGERS = torch.arange(400) % 10


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (
            metrics.reliability_curve(P, LABELS),
            f"ReliabilityCurve(15 bins, 400 rows, ece={ECE:.4g})",
        ),
        (metrics.reliability_curve(P, LABELS).plain(), "Reliability(15 bins, 400 rows)"),
        (metrics.risk_coverage(P, LABELS), f"RiskCoverage(200 points, aurc={metrics.aurc(P, LABELS):.4g}, error=0.5)"),
        (metrics.confidence_histogram(P, LABELS), "ConfidenceHistogram(400 rows, confidence=0.7005, accuracy=0.5)"),
        (
            metrics.brier_split(torch.from_numpy(P), torch.from_numpy(LABELS), bins=2),
            "BrierSplit(brier=0.6092, calibration=0.1092, refinement=0.5)",
        ),
        (
            metrics.nll_split(P, LABELS, interval=0.95),
            "NLLSplit(nll=0.8344 [0.7730, 0.8900], calibration=0.1407 [0.0925, 0.1991], "
            "refinement=0.6937 [0.6909, 0.6963], temperature=20)",
        ),
        (metrics.class_counts(P, LABELS), "ClassCounts(2 classes, 400 rows)"),
        (metrics.binary_counts(P[:, 1], LABELS), "BinaryCounts(negative=200 rows, positive=200 rows)"),
        (
            MethodReliability([0.0, 1.0], [3], [0.5], [0.5], [3], "plain", "none"),
            "MethodReliability(1 bins, 3 rows)",
        ),
        (
            smoothing.Uniform(0.1)(INTEGERS, 10),
            "Target(num_classes=10, index=[400], keep=0.9, scale=0.1, rows=False)",
        ),
        (ls.smoothing.mix(INTEGERS, INTEGERS, 0.5), "Mixture(a=[400], b=[400], lam=0.5)"),
        (ArrayImages(np.zeros((7, 8, 8), np.uint8)), "ArrayImages([7, 1, 8, 8], torch.uint8)"),
        (
            StudyConfig(data="digits", methods="label-smoothing"),
            "StudyConfig(data='digits', methods='label-smoothing')",
        ),
        (TrainConfig(data="digits", epochs=3), "TrainConfig(data='digits', epochs=3)"),
        (TrainConfig(data=FRAME), "TrainConfig(data=DataFrame)"),
        (HeldOut(P.astype(np.float32), LABELS), "HeldOut(400 images, 2 classes)"),
        (
            evaluate(FRAME),
            f"Evaluation(the data frame: 400 rows of probabilities, error=0.5, ece={ECE:.4g}, over-confident)",
        ),
    ],
    ids=lambda value: value.split("(")[0] if isinstance(value, str) else "",
)
def test_reprs_are_short_and_say_the_essential(record: object, text: str) -> None:
    assert repr(record) == text


def test_the_curve_of_thresholds() -> None:
    curve = metrics.threshold_curve(metrics.binary_counts(P[:, 1], LABELS))
    assert repr(curve) == f"ThresholdCurve({len(curve.threshold)} thresholds, auroc={curve.auroc:.4g})"


def test_a_tensor_without_values_has_a_repr() -> None:
    with torch.device("meta"):
        target = ls.Target(10, torch.zeros(4).long(), torch.tensor(0.9), 0.1)
    assert repr(target) == "Target(num_classes=10, index=[4], keep=[], scale=0.1, rows=False)"


def test_a_target_has_a_repr_where_an_epsilon_is_vectorized() -> None:
    def of_keep(keep: torch.Tensor) -> torch.Tensor:
        assert "keep=[]" in repr(ls.Target(10, torch.zeros(4).long(), keep, 0.1))
        return keep

    torch.func.vmap(of_keep)(torch.tensor([0.9, 0.8]))
