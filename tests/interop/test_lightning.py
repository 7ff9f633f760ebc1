"""Lightning's callbacks in a module of someone else's: schedules, Online, calibration in checkpoints and loggers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

import labelsmooth.interop.lightning as interop
from labelsmooth import LabelSmoothingCrossEntropy, metrics, smoothing
from labelsmooth.calibrate import VectorScaling
from labelsmooth.report import plot_reliability

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.*(does not have many workers|no `val_dataloader`|callbacks used to create):UserWarning"
    ),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # of Lightning with this PyTorch
]
K = 3


class Module(LightningModule):
    """Someone's module, which returns nothing from validation_step."""

    def __init__(self, policy: Any = 0.1) -> None:
        super().__init__()
        self.network = nn.Linear(4, K)
        self.criterion = LabelSmoothingCrossEntropy(policy)
        self.epsilons: list[Any] = []

    def forward(self, features: Tensor) -> Tensor:
        return self.network(features)

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.epsilons.append(getattr(self.criterion.epsilon, "epsilon", None))
        return self.criterion(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, _: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def loader(rows: int = 24, batch: int = 8) -> torch.utils.data.DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 4, generator=generator)
    labels = (features[:, :K] + torch.randn(rows, K, generator=generator)).argmax(1)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(features, labels), batch_size=batch)


def trainer(folder: Path, callbacks: list[Any], **options: Any) -> Trainer:
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", log_every_n_steps=1)
    options = dict(enable_checkpointing=False) | options
    return Trainer(default_root_dir=folder, callbacks=callbacks, **(quiet | dict(logger=False, max_epochs=3) | options))


@pytest.mark.parametrize(
    ("interval", "expected"), [("epoch", [0.4] * 3 + [0.3] * 3), ("step", [0.4, 0.3, 0.2, 0.1, 0.0, 0.0])]
)
def test_a_schedule_is_stepped_and_goes_on_in_a_resumed_training(
    interval: Any, expected: list[float], tmp_path: Path
) -> None:
    def module() -> Module:
        return Module(smoothing.Scheduled(smoothing.Uniform(), smoothing.schedule.linear(0.4, 0.0, 4)))

    first, logger = module(), CSVLogger(tmp_path)
    fit = trainer(tmp_path, [interop.SmoothingCallback(interval)], max_epochs=2, logger=logger)
    fit.fit(first, loader())
    assert first.epsilons == pytest.approx(expected)
    assert float(fit.callback_metrics["epsilon"]) == pytest.approx(expected[-1])
    fit.save_checkpoint(tmp_path / "last.ckpt")
    resumed = module()
    trainer(tmp_path, [interop.SmoothingCallback(interval)]).fit(resumed, loader(), ckpt_path=tmp_path / "last.ckpt")
    assert resumed.epsilons == pytest.approx([0.2] * 3 if interval == "epoch" else [0.0] * 3)


def test_online_in_a_schedule_is_stepped_once_an_epoch(tmp_path: Path) -> None:
    online = smoothing.Online(K, 0.5)
    steps: list[int] = []
    step = online.step
    online.step = lambda: (steps.append(1), step())[1]  # type: ignore[method-assign]
    policy = smoothing.Scheduled(online, smoothing.schedule.constant(0.5))
    trainer(tmp_path, [interop.SmoothingCallback()], max_epochs=2).fit(Module(policy), loader())
    assert len(steps) == 2
    with pytest.raises(ValueError, match="learns over an epoch"):
        trainer(tmp_path, [interop.SmoothingCallback("step")]).fit(Module(smoothing.Online(K)), loader())
    with pytest.raises(ValueError, match="interval='batch'"):
        interop.SmoothingCallback("batch")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="Module has no policy that changes"):
        trainer(tmp_path, [interop.SmoothingCallback()], max_epochs=1).fit(Module(), loader())


def test_calibration_is_measured_logged_and_kept_in_the_checkpoint(tmp_path: Path) -> None:
    module, callback = Module(), interop.CalibrationCallback(VectorScaling(), plot=plot_reliability)
    loggers = [TensorBoardLogger(tmp_path / "board"), CSVLogger(tmp_path / "table")]
    fit = trainer(tmp_path, [callback], logger=loggers, max_epochs=2, enable_checkpointing=True)
    validation = loader(rows=30, batch=7)
    fit.fit(module, loader(), validation)
    logits, labels = module(validation.dataset.tensors[0]).detach(), validation.dataset.tensors[1]
    for name in interop.METRICS:
        expected = getattr(metrics, name)(logits=logits, labels=labels)
        assert float(fit.callback_metrics[f"calibration/{name}"]) == pytest.approx(float(expected), rel=1e-5)
    assert len(list(Path(loggers[1].log_dir).glob("reliability-*.svg"))) == 2
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(loggers[0].log_dir, size_guidance={"images": 0}).Reload()
    assert len(board.Images("calibration/reliability")) == 2
    assert callback.calibrator is not None
    torch.testing.assert_close(
        callback.calibrator.predict_proba(logits), VectorScaling().fit(logits, labels).predict_proba(logits)
    )
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    restored = interop.CalibrationCallback(VectorScaling())
    resumed = trainer(tmp_path, [restored], max_epochs=2)
    resumed.fit(copy.deepcopy(module), loader(), validation, ckpt_path=checkpoint, weights_only=True)
    torch.testing.assert_close(restored.calibrator.predict_proba(logits), callback.calibrator.predict_proba(logits))


def test_where_the_logits_come_from(tmp_path: Path) -> None:
    class Returning(Module):
        def validation_step(self, batch: Any, _: int) -> Any:
            return {"logits": 2 * self(batch[0]), "labels": batch[1]}

    class Named(Module):
        def validation_step(self, batch: Any, _: int) -> Any:
            return self(batch["x"])

    rows = [{"x": x, "y": y} for x, y in loader().dataset]
    named = torch.utils.data.DataLoader(rows, batch_size=8)
    with pytest.raises(TypeError, match=r"return \{'logits'"):
        trainer(tmp_path, [interop.CalibrationCallback()]).validate(Named(), named)
    read = interop.CalibrationCallback(metrics=["nll"], read=lambda outputs, batch: (outputs, batch["y"]))
    module = Named()
    (values,) = trainer(tmp_path, [read]).validate(module, named, verbose=False)
    features, labels = loader().dataset.tensors
    logits = module(features).detach()
    assert values["calibration/nll"] == pytest.approx(float(metrics.nll(logits=logits, labels=labels)), rel=1e-5)
    module = Returning()
    (values,) = trainer(tmp_path, [interop.CalibrationCallback()]).validate(module, loader(), verbose=False)
    logits = 2 * module(features).detach()
    assert values["calibration/nll"] == pytest.approx(float(metrics.nll(logits=logits, labels=labels)), rel=1e-5)
    with pytest.raises(AttributeError, match="no 'acuracy'"):
        interop.CalibrationCallback(metrics=["acuracy"])


def test_a_mixture_in_a_batch_moves_between_devices() -> None:
    mixture = smoothing.mix(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.3, 0.6]))
    images, moved = move_data_to_device((torch.zeros(2), {"target": mixture}), "meta")
    moved = moved["target"]
    assert {images.device.type, moved.a.device.type, moved.b.device.type, moved.lam.device.type} == {"meta"}
