"""Lightning: callbacks for anyone's module that step the smoothing, and measure and repair calibration."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before Lightning, whose torchmetrics imports torchvision)

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from labelsmooth import metrics
from labelsmooth.calibrate import Calibrator, TemperatureScaling
from labelsmooth.calibrate.files import from_json, to_json
from labelsmooth.smoothing import Online, Scheduled

__all__ = ["CalibrationCallback", "SmoothingCallback"]

METRICS = ("error", "nll", "ece", "confidence_gap")
Read = Callable[[Any, Any], tuple[Tensor, Tensor]]


class SmoothingCallback(Callback):
    """Steps the smoothing policies of a module: ``smoothing.Scheduled`` and ``smoothing.Online``.

    The policies are found among the module's submodules: in its ``LabelSmoothingCrossEntropy``, or as attributes.
    Their states are in the module's ``state_dict``, so a resumed training goes on where it was.

    Args:
        interval: "epoch" steps after each training epoch, "step" after each step of the optimizer; Online learns over
            an epoch.
        log: log epsilon at each step under the name "epsilon".

    Raises:
        ValueError: an unknown interval; when the training starts, Online with ``interval="step"``.

    Example:
        >>> from labelsmooth import LabelSmoothingCrossEntropy, smoothing
        >>> policy = smoothing.Scheduled(smoothing.Uniform(), smoothing.schedule.linear(0.2, 0.0, steps=10))
        >>> criterion = LabelSmoothingCrossEntropy(policy)  # self.criterion, in the module's __init__
        >>> # Trainer(callbacks=[SmoothingCallback()]).fit(module, loader)
    """

    def __init__(self, interval: Literal["epoch", "step"] = "epoch", *, log: bool = True) -> None:
        if interval not in ("epoch", "step"):
            raise ValueError(f"interval={interval!r} is unknown; use 'epoch' or 'step'.")
        self.interval = interval
        self.log = log
        self._steps = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so where there is nothing to step."""
        policies = _policies(pl_module)
        if not policies:
            warnings.warn(
                f"{type(pl_module).__name__} has no policy that changes (smoothing.Scheduled, smoothing.Online) among "
                "its submodules, so SmoothingCallback does nothing. Make the loss in the module's __init__.",
                stacklevel=2,
            )
        learning = [getattr(policy, "policy", policy) for policy in policies]
        if self.interval == "step" and any(isinstance(policy, Online) for policy in learning):
            raise ValueError("smoothing.Online learns over an epoch; use SmoothingCallback(interval='epoch').")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Step, where the optimizer has made a step."""
        if self.interval == "step" and trainer.global_step > self._steps:
            self._step(pl_module)
        self._steps = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step, where the interval is the epoch."""
        if self.interval == "epoch":
            self._step(pl_module)

    def _step(self, pl_module: LightningModule) -> None:
        for policy in _policies(pl_module):
            if self.log and isinstance(policy.epsilon, float):
                pl_module.log(
                    "epsilon", policy.epsilon, on_step=self.interval == "step", on_epoch=self.interval == "epoch"
                )
            policy.step()


class CalibrationCallback(Callback):
    """Measures calibration after each validation epoch, and fits a calibrator to the validation logits.

    Logged are "calibration/error", "calibration/nll", ..., and a picture, "calibration/reliability", to TensorBoard, to
    loggers with ``log_image``, or as a file in the logger's folder.  The calibrator is fitted after each
    validation epoch, so every checkpoint holds the one that belongs to its weights; a fit or a validation that is
    resumed from a checkpoint restores it.  Its metrics on the data that it was fitted on are not logged.

    All validation logits are kept on the CPU during an epoch, and are gathered from all processes.

    Args:
        calibrator: what is fitted, a new one each time; None for ``TemperatureScaling()``.
        metrics: names of functions of ``labelsmooth.metrics``.
        read: (what ``validation_step`` returned, batch) -> logits (N, K), labels (N,).  None for a ``validation_step``
            that returns {"logits": ..., "labels": ...}, or else for the module called with the first part of the
            batch, and labels as its second part.
        plot: draws the picture from a ``metrics.ReliabilityCurve``, such as ``labelsmooth.report.plot_reliability``;
            None for no picture.

    Attributes:
        calibrator: the fitted calibrator; None before the first validation epoch.

    Raises:
        AttributeError: an unknown metric.

    Example:
        >>> from labelsmooth.report import plot_reliability
        >>> calibration = CalibrationCallback(plot=plot_reliability)
        >>> # Trainer(callbacks=[calibration]).fit(module, train_loader, validation_loader)
        >>> # calibration.calibrator.predict_proba(logits)
    """

    def __init__(
        self,
        calibrator: Calibrator | None = None,
        metrics: Sequence[str] = METRICS,
        *,
        read: Read | None = None,
        plot: Callable[[metrics.ReliabilityCurve], Any] | None = None,
    ) -> None:
        self._unfitted = TemperatureScaling() if calibrator is None else calibrator
        self._metrics = {name: _metric(name) for name in metrics}
        self._read = read
        self._plot = plot
        self._batches: list[tuple[Tensor, Tensor]] = []
        self.calibrator: Calibrator | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last epoch."""
        self._batches.clear()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the logits and labels of the batch."""
        if trainer.sanity_checking:
            return
        if self._read is not None:
            logits, labels = self._read(outputs, batch)
        elif isinstance(outputs, Mapping) and {"logits", "labels"} <= outputs.keys():
            logits, labels = outputs["logits"], outputs["labels"]
        elif isinstance(batch, Sequence) and len(batch) == 2 and isinstance(batch[1], Tensor):
            logits, labels = pl_module(batch[0]), batch[1]
        else:
            raise TypeError(
                f"validation_step returned {type(outputs).__name__} for a batch of type {type(batch).__name__}; return "
                "{'logits': ..., 'labels': ...} from it, or give CalibrationCallback(read=...)."
            )
        self._batches.append((logits.detach().float().cpu(), labels.detach().cpu()))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics and the picture, and fit the calibrator."""
        if not self._batches:
            return
        logits, labels = _gathered([torch.cat(parts) for parts in zip(*self._batches, strict=True)])
        self._batches.clear()
        for name, metric in self._metrics.items():
            value = torch.as_tensor(float(metric(logits=logits, labels=labels)), device=pl_module.device)
            pl_module.log(f"calibration/{name}", value, sync_dist=trainer.world_size > 1)
        if self._plot is not None and trainer.is_global_zero:
            figure = self._plot(metrics.reliability_curve(logits=logits, labels=labels)).figure
            for logger in trainer.loggers:
                _log_picture(logger, figure, trainer.global_step)
        self.calibrator = type(self._unfitted)(**self._unfitted.get_params()).fit(logits, labels)

    def state_dict(self) -> dict[str, Any]:
        """The calibrator as the text of its file."""
        return {} if self.calibrator is None else {"calibrator": to_json(self.calibrator)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the calibrator from a checkpoint."""
        if text := state_dict.get("calibrator"):
            self.calibrator = from_json(text, "the checkpoint")


def _policies(module: torch.nn.Module) -> list[Any]:
    """The policies that change, without those that another one steps."""
    changing = [part for part in module.modules() if isinstance(part, Scheduled | Online)]
    inner = {id(policy.policy) for policy in changing if isinstance(policy, Scheduled)}
    return [policy for policy in changing if id(policy) not in inner]


def _metric(name: str) -> Callable[..., Any]:
    if name not in metrics.__all__:
        raise AttributeError(f"labelsmooth.metrics has no {name!r}; use names such as {', '.join(METRICS)}.")
    function: Callable[..., Any] = getattr(metrics, name)
    return function


def _gathered(tensors: list[Tensor]) -> list[Tensor]:
    """The rows of all processes."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return tensors
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, tensors)
    return [torch.cat(rows) for rows in zip(*parts, strict=True)]


def _log_picture(logger: Any, figure: Any, step: int) -> None:
    name = "calibration/reliability"
    if hasattr(logger.experiment, "add_figure"):  # TensorBoard
        logger.experiment.add_figure(name, figure, step)
    elif hasattr(logger, "log_image"):
        logger.log_image(name, [figure], step=step)
    elif logger.log_dir is not None:
        path = Path(logger.log_dir) / f"reliability-{step}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
