"""The recipe as a LightningModule: AdamW, a one-cycle schedule, and for a pretrained body the usual care."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before Lightning)

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelsmooth.data.batches import balanced_draw, evaluation_batch_size
from labelsmooth.data.dataset import Dataset
from labelsmooth.data.photos import short_side
from labelsmooth.data.split import Split, stopping_half
from labelsmooth.errors import UserError
from labelsmooth.loss import LabelSmoothingCrossEntropy, cross_entropy
from labelsmooth.metrics import ece
from labelsmooth.penalty.registry import PENALTIES
from labelsmooth.progress import Progress
from labelsmooth.smoothing import mix
from labelsmooth.smoothing.registry import POLICIES
from labelsmooth.training.distil import DistillationLoss
from labelsmooth.training.head import Suspect, features_of, fit_head, suspected_labels
from labelsmooth.training.network import Network, logits_of
from labelsmooth.training.sharding import local, shard
from labelsmooth.training.spec import RunSpec

# A new head on a pretrained body that was not fitted first learns at this multiple of the body's rate, since the body's
# features are good already.
NEW_HEAD_RATE = 100.0

# Batches between checks that the loss is finite on a GPU, where each check waits for the device.
CHECK_EVERY = 50

CURVES = ("train_loss", "train_nll", "validation_nll", "validation_error", "validation_ece")


class Diverged(UserError):
    """The training loss is no finite number."""


class Classifier(LightningModule):
    """Trains ``network``; ``final`` is what predicts, its running average where the recipe keeps one.

    Random numbers of an epoch follow from (seed, epoch), and the batches do too, so a training that goes on from the
    end of an epoch ends as if it had never stopped.
    """

    def __init__(
        self, network: Network, spec: RunSpec, criterion: nn.Module, data: Dataset, split: Split, progress: Progress
    ) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.criterion = criterion
        self.history: dict[str, list[float | None]] = {name: [] for name in CURVES}
        self._data, self._split, self._progress = data, split, progress
        self.find_suspects = False  # whether fit_head looks for mislabelled examples
        self.suspects: list[Suspect] = []  # by their index in the training part
        # The outputs of the whole validation part by the last epoch's network, if in float32.
        self.validated: tuple[Tensor, Tensor | None] | None = None
        self._averaged: AveragedModel | None = None
        if spec.ema:
            self._averaged = AveragedModel(network, multi_avg_fn=_running_average(spec.ema), use_buffers=True)
            self._averaged.requires_grad_(False)

    def configure_model(self) -> None:
        """Lightning's place to shard the network, where that is the strategy."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            assert self.device_mesh is not None
            for network in (self.network, self.final):
                if not isinstance(network, FSDPModule):  # as the second is, where both are one
                    shard(network, self.device_mesh["data_parallel"])

    @property
    def final(self) -> nn.Module:
        return self.network if self._averaged is None else self._averaged.module

    def logits(self, members: Any) -> Tensor:
        """The final network's logits of examples, [N, K]."""
        return self._logits_of(self.final, members)

    def outputs(self, members: Any) -> tuple[Tensor, Tensor | None]:
        """The final network's logits [N, K] and features [N, D]; no features with several processes."""
        if torch.distributed.is_initialized():
            return self.logits(members), None
        head: Any = self.final.head
        return features_of(head, lambda: self.logits(members))

    def _logits_of(self, network: nn.Module, members: Any, progress: Progress | None = None) -> Tensor:
        batch_size = evaluation_batch_size(self.crop, next(network.parameters()).device, self.spec.batch_size)
        return logits_of(network, self._data, members, self.crop, batch_size, progress)

    @property
    def crop(self) -> int | None:
        """The side of the square that is evaluated of a photo: its whole short side, so that little is cut off, where
        the network takes images of any size."""
        if not self._data.photos:
            return None
        return self.spec.size if self.network.fixed_size else short_side(self.spec.size)

    def training_step(self, batch: tuple[Tensor, Any], index: int) -> Tensor:
        images, target = batch
        if alpha := self.spec.settings.mixup:
            images, target = _mixed(images.float(), target, alpha)
        # In float32, as in validation, so that the row kernel is compiled for one dtype.
        logits = self.network(images).float()
        loss: Tensor = self.criterion(logits, target)
        labels = target[0] if self.spec.distillation else target  # a student's come with its teacher's logits
        nll = cross_entropy(logits.detach(), labels)
        self.log_dict(
            {"train_loss": loss.detach(), "train_nll": nll},
            on_step=False,
            on_epoch=True,
            batch_size=len(images),
            sync_dist=True,
        )
        if loss.device.type == "cpu" or index % CHECK_EVERY == 0:
            self._check_finite(loss.detach())
        return loss

    def _check_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise Diverged(
                f"The training loss became {float(loss)} in epoch {self.current_epoch + 1}: the learning rate "
                f"{self.spec.learning_rate} is too high for this data. Give a lower one with --lr."
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)
        self._progress.batch(batch_idx + 1, int(self.trainer.num_training_batches))

    @property
    def head_epochs(self) -> int:
        """How many of the run's epochs are spent on the new head alone, fitted by :meth:`fit_head`."""
        possible = self.network.pretrained and isinstance(self.network.head, nn.Linear)
        return min(self.spec.freeze_epochs, self.spec.epochs) if possible else 0

    def fit_head(self) -> None:
        """Fit a pretrained network's new head to its features; the first entry of the curves."""
        head: Any = self.network.head
        members = self._split.train
        _, features = features_of(head, lambda: self._logits_of(self.network, members, self._progress))
        assert features is not None
        labels = torch.from_numpy(self._data.targets[members])
        if self.find_suspects and not labels.is_floating_point():
            self.suspects = suspected_labels(features, labels, head.out_features)
        if self.spec.settings.balance == "sampling":
            rng = np.random.default_rng(self.spec.seed)
            drawn = torch.from_numpy(balanced_draw(self._data.labels[members], len(members), rng))
            features, labels = features[drawn], labels[drawn]
        target: Any = labels
        if self._data.teacher is not None:
            target = labels, torch.from_numpy(self._data.teacher[members])
        loss = fit_head(head, features, target, self.criterion)
        if self._averaged is not None:
            self._averaged.module.load_state_dict(self.network.state_dict())
        logits = head(features.to(head.weight.device)).detach().cpu().float()
        self._remember({"train_loss": loss, "train_nll": cross_entropy(logits, labels), **self._validate()})

    def on_train_epoch_start(self) -> None:
        torch.manual_seed((self.spec.seed << 20) + self.current_epoch)
        if self.network.pretrained:
            # Batch-norm statistics stay the pretrained ones: a few small batches would replace them by worse.
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def on_train_epoch_end(self) -> None:
        self._check_finite(self.trainer.callback_metrics["train_loss"])  # of the batches that were not checked
        if callable(step := getattr(getattr(self.criterion, "epsilon", None), "step", None)):  # schedules, and Online
            step()
        with self.trainer.precision_plugin.val_step_context():
            validated = self._validate()
        self.log_dict(validated)
        self._remember(self.trainer.callback_metrics)

    def _validate(self) -> dict[str, Tensor]:
        members = self._split.validation
        if not len(members):
            return {}
        if self.spec.settings.patience:
            members = members[stopping_half(self._data.labels[members])]
        labels = torch.from_numpy(self._data.labels[members])
        logits, features = self.outputs(members)
        whole = not self.spec.settings.patience and not torch.is_autocast_enabled(self.device.type)
        self.validated = (logits, features) if whole else None
        wrong = (logits.argmax(-1) != labels).float().mean()
        calibration_error = torch.as_tensor(ece(logits.double().softmax(-1), labels))
        return {
            "validation_nll": cross_entropy(logits, labels),
            "validation_error": wrong,
            "validation_ece": calibration_error,
        }

    def _remember(self, values: Mapping[str, Any]) -> None:
        for name, curve in self.history.items():
            curve.append(float(values[name]) if name in values else None)
        done = len(self.history["train_loss"])
        known = {name: curve[-1] for name, curve in self.history.items()}
        self._progress.epoch(done, self.spec.epochs)
        self._progress.scores(done, self.spec.epochs, {k: v for k, v in known.items() if v is not None})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        checkpoint["suspects"] = [tuple(suspect) for suspect in self.suspects]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self._progress.epoch(len(self.history["train_loss"]), self.spec.epochs)
        self.suspects = [Suspect(*suspect) for suspect in checkpoint["suspects"]]

    def on_train_start(self) -> None:
        if self._averaged is not None:  # its count is read in every step: on a GPU that would wait for the device
            self._averaged.n_averaged = self._averaged.n_averaged.cpu()
        # After a restart the loggers' files begin with the epochs that are done.
        for epoch in range(self.head_epochs, len(self.history["train_loss"])):
            row = {name: value for name, values in self.history.items() if (value := values[epoch]) is not None}
            for logger in self.loggers:
                logger.log_metrics(row, step=epoch)

    def configure_optimizers(self) -> Any:
        head = {id(parameter) for parameter in self.network.head.parameters()}
        new_head = self.network.pretrained and not self.head_epochs
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            fast = new_head and id(parameter) in head
            groups.setdefault((fast, parameter.dim() > 1), []).append(parameter)
        decay, rate = self.spec.settings.weight_decay, self.spec.learning_rate
        optimizer = torch.optim.AdamW(
            [
                {"params": group, "weight_decay": decay if wide else 0.0, "multiple": NEW_HEAD_RATE if fast else 1.0}
                for (fast, wide), group in groups.items()
            ],
            lr=rate,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[rate * group["multiple"] for group in optimizer.param_groups],
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _running_average(decay: float) -> Callable[..., None]:
    """w <- decay * w + (1 - decay) * w_new; each process of its own share, where the weights are sharded."""
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return lambda means, news, count: update([local(t) for t in means], [local(t) for t in news], count)


def make_criterion(spec: RunSpec, num_classes: int, labels: Tensor) -> nn.Module:
    """The training loss: cross-entropy smoothed by a policy or with a penalty, a loss in its place, or a student's."""
    settings = spec.settings
    if spec.distillation:
        return DistillationLoss(spec.distillation.temperature, spec.distillation.weight)
    if settings.penalty:
        return PENALTIES[settings.penalty].criterion(settings.strength, settings.epsilon)
    weight = None
    if settings.balance == "weights":
        weight = len(labels) / (num_classes * labels.bincount(minlength=num_classes).clamp(min=1))
    if settings.epsilon == 0:
        return LabelSmoothingCrossEntropy(0.0, weight=weight, weight_by="label")
    policy = POLICIES[settings.smoothing].make(settings.epsilon, num_classes, labels, spec.epochs)
    return LabelSmoothingCrossEntropy(policy, weight=weight, weight_by="label")


def _mixed(images: Tensor, labels: Tensor, alpha: float) -> tuple[Tensor, Any]:
    """Mixup: each image with another of the batch, the target their two labels."""
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(labels), device=labels.device)
    images = share * images + (1 - share) * images[other]
    if labels.is_floating_point():
        return images, share * labels + (1 - share) * labels[other]
    return images, mix(labels, labels[other], share)
