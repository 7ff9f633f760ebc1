"""The recipe as a LightningModule: AdamW, a one-cycle schedule, and for a pretrained body the usual care."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelsmooth.loss import LabelSmoothingCrossEntropy, cross_entropy
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.smoothing import mix
from labelsmooth.smoothing.registry import POLICIES
from labelsmooth.study.config import RunSpec
from labelsmooth.study.data.dataset import Dataset
from labelsmooth.study.data.split import Split
from labelsmooth.study.errors import StudyError
from labelsmooth.study.training.logits import logits_of
from labelsmooth.study.training.network import Network

__all__ = ["Classifier", "make_criterion"]

# A pretrained body learns at this fraction of the head's rate: its features are good already, and a new head's first
# gradients would wash them out.
BODY_RATE = 0.03

CURVES = ("train_loss", "train_nll", "validation_nll", "validation_error")


class Classifier(LightningModule):
    """Trains ``network``; ``final`` is what predicts, its running average where the recipe keeps one.

    Random numbers of an epoch follow from (seed, epoch), and the batches do too, so a training that goes on from the
    end of an epoch ends as if it had never stopped.
    """

    def __init__(
        self, network: Network, spec: RunSpec, criterion: LabelSmoothingCrossEntropy, data: Dataset, split: Split
    ) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.criterion = criterion
        self.history: dict[str, list[float | None]] = {name: [] for name in CURVES}
        self._data, self._split = data, split
        self._averaged: AveragedModel | None = None
        if spec.ema:
            average = get_ema_multi_avg_fn(spec.ema)  # type: ignore[no-untyped-call]
            self._averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
            self._averaged.requires_grad_(False)

    @property
    def final(self) -> nn.Module:
        return self.network if self._averaged is None else self._averaged.module

    def logits(self, members: Any) -> Tensor:
        """The final network's logits of examples, [N, K]."""
        spec = self.spec
        return logits_of(
            self.final, self._data, members, spec.size if self._data.photos else None, evaluation_batch(spec)
        )

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        target: Any = labels
        if alpha := self.spec.settings.mixup:
            images, target = _mixed(images.float(), labels, alpha)
        logits = self.network(images)
        loss: Tensor = self.criterion(logits, target)
        nll = cross_entropy(logits.detach(), target)
        self.log_dict(
            {"train_loss": loss.detach(), "train_nll": nll},
            on_step=False,
            on_epoch=True,
            batch_size=len(labels),
            sync_dist=True,
        )
        if not torch.isfinite(loss):
            raise StudyError(
                f"The training loss became {float(loss.detach())} in epoch {self.current_epoch + 1}: the learning rate "
                f"{self.spec.learning_rate} is too high for this data. Give a lower one with --lr."
            )
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed((self.spec.seed << 20) + self.current_epoch)
        if not self.network.pretrained:
            return
        # At first the new head alone is trained; batch-norm statistics stay the pretrained ones throughout, since
        # a few small batches would replace them by worse.
        frozen = self.current_epoch < min(self.spec.freeze_epochs, self.spec.epochs - 1)
        for parameter in self.network.parameters():
            parameter.requires_grad_(self.network.is_head(parameter) or not frozen)
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def on_train_epoch_end(self) -> None:
        if callable(step := getattr(self.criterion.epsilon, "step", None)):  # schedules, and Online
            step()
        members = self._split.validation
        if len(members):
            labels = torch.from_numpy(self._data.labels[members])
            with self.trainer.precision_plugin.val_step_context():
                logits = self.logits(members)
            wrong = (logits.argmax(-1) != labels).float().mean()
            self.log_dict({"validation_nll": cross_entropy(logits, labels), "validation_error": wrong})
        for name, values in self.history.items():
            value = self.trainer.callback_metrics.get(name)
            values.append(None if value is None else float(value))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]

    def on_train_start(self) -> None:
        # After a restart the loggers' files begin with the epochs that are done.
        for epoch in range(len(self.history["train_loss"])):
            row = {name: value for name, values in self.history.items() if (value := values[epoch]) is not None}
            for logger in self.loggers:
                logger.log_metrics({**row, "epoch": epoch}, step=epoch)

    def configure_optimizers(self) -> Any:
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            slow = self.network.pretrained and not self.network.is_head(parameter)
            groups.setdefault((slow, parameter.dim() > 1), []).append(parameter)
        decay, rate = self.spec.settings.weight_decay, self.spec.learning_rate
        optimizer = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay if wide else 0.0} for (_, wide), group in groups.items()],
            lr=rate,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[rate * (BODY_RATE if slow else 1.0) for slow, _ in groups],
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def evaluation_batch(spec: RunSpec) -> int:
    """Without gradients there is room for more examples at a time."""
    return max(spec.batch_size, 128)


def make_criterion(spec: RunSpec, num_classes: int, labels: Tensor) -> LabelSmoothingCrossEntropy:
    """The training loss: cross-entropy smoothed by a policy, or with a penalty."""
    settings = spec.settings
    if settings.penalty:
        penalty = PENALTIES[settings.penalty].make(settings.strength)
        return LabelSmoothingCrossEntropy(settings.epsilon, penalty=penalty)
    if settings.epsilon == 0:
        return LabelSmoothingCrossEntropy(0.0)
    policy = POLICIES[settings.smoothing].make(settings.epsilon, num_classes, labels, spec.epochs)
    return LabelSmoothingCrossEntropy(policy)


def _mixed(images: Tensor, labels: Tensor, alpha: float) -> tuple[Tensor, Any]:
    """Mixup: each image with another of the batch, the target their two labels."""
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(labels), device=labels.device)
    return share * images + (1 - share) * images[other], mix(labels, labels[other], share)
