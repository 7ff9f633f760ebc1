"""Predictions of any origin, chunk by chunk: the record that every reader gives and every user takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.predictions.columns import Kind, Roles


@dataclass(frozen=True)
class Chunk:
    """Some rows.

    Args:
        scores: [n, K]; or [n], of the positive class or, where there is ``correct``, the confidence in the prediction.
        labels: [n], 0 to K-1.
        groups: [n], the values to group by.
        correct: [n], 1.0 where the predicted class is the label.
        table: the rows as the table has them (a pyarrow RecordBatch).
        percent: the table has percentages, which ``scores`` no longer are.
    """

    scores: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None = None
    groups: npt.NDArray[Any] | None = None
    correct: npt.NDArray[np.float64] | None = None
    table: Any = None
    percent: bool = False


@dataclass(frozen=True)
class Source:
    """Predictions to measure: their name in messages, what the scores are, and their chunks.

    ``remarks`` are sentences about how they were read; ``roles`` the columns, where they come from a table.
    """

    name: str
    kind: Kind
    chunks: Iterator[Chunk]
    remarks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    roles: Roles | None = None
