"""What the torchmetrics classes share: float64 sums, batches checked as the functions check them, and means."""

from __future__ import annotations

from typing import Any, Literal

import labelsmooth._torchvision  # noqa: F401  (before torchmetrics, which imports torchvision where it finds it)

# isort: split
import torch
from torchmetrics import Metric

from .inputs import Floats, Predictions, read


class Streamed(Metric):
    """What the classes share: float64 sums, and batches checked as the functions check them."""

    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        scores: Literal["probabilities", "logits"] = "probabilities",
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if scores not in ("probabilities", "logits"):
            raise ValueError(f"scores must be 'probabilities' or 'logits', not {scores!r}.")
        self.scores = scores
        self.ignore_index = ignore_index

    def _sums(self, *names: str, size: int | None = None) -> None:
        for name in names:
            shape = () if size is None else (size,)
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        # A model cast to half precision must not take the sums with it.
        self.set_dtype(torch.float64)

    def update(self, predictions: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch, of the shapes that the functions take."""
        if self.ignore_index is not None and not bool((labels != self.ignore_index).any()):
            return
        if self.scores == "logits":
            self._add(read(None, labels, predictions, self.ignore_index))
        else:
            self._add(read(predictions, labels, None, self.ignore_index))

    def _add(self, rows: Predictions) -> None:
        raise NotImplementedError

    def _to(self, name: str, value: Floats | float) -> None:
        state = getattr(self, name)
        setattr(self, name, state + torch.as_tensor(value, dtype=state.dtype, device=state.device))

    def _array(self, name: str) -> Floats:
        array: Floats = getattr(self, name).cpu().double().numpy()
        return array

    def _result(self, value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class Mean(Streamed):
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sums("total", "count")

    def _add(self, rows: Predictions) -> None:
        self._to("total", float(self._values(rows).sum()))
        self._to("count", float(rows.rows))

    def compute(self) -> torch.Tensor:
        """The mean over all rows so far; NaN before the first."""
        return self.total / self.count

    @staticmethod
    def _values(rows: Predictions) -> Floats:
        raise NotImplementedError
