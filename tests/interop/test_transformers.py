"""The Trainer's loss, in the real Trainer and on tiny models: against one step with PyTorch's losses."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelsmooth import LabelSmoothingCrossEntropy, penalty, smoothing

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    pytest.importorskip("transformers")
    import transformers
    from transformers import Trainer, TrainingArguments

    from labelsmooth.interop.fused_head import fuse_head
    from labelsmooth.interop.transformers import make_loss

N, T, K = 6, 5, 7
SMALL = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
TEXT = dict(SMALL, vocab_size=K, max_position_embeddings=T, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)

Batch = dict[str, Tensor]


class Step(Trainer):  # type: ignore[misc]
    """The Trainer with plain gradient descent, in the order of the data."""

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        return self.optimizer

    def _get_train_sampler(self, *args: object) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def train(model: nn.Module, batch: Batch, loss: Any, folder: Path, resume: bool = False, **options: Any) -> Trainer:
    defaults = dict(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        label_names=["labels"],
    )
    rows = [{key: value[row] for key, value in batch.items()} for row in range(N)]
    callbacks = options.pop("callbacks", None)
    arguments = TrainingArguments(**(defaults | options))
    trainer = Step(model, arguments, train_dataset=rows, eval_dataset=rows, compute_loss_func=loss, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def random_tokens() -> Tensor:
    return torch.randint(1, K, (N, T), generator=torch.Generator().manual_seed(1))


def ragged(labels: Tensor) -> Tensor:
    """Labels of which the first examples have fewer than the last."""
    labels = labels.clone()
    for row in range(N):
        labels[row, 2 + row // 2 :] = -100
    return labels


def image() -> tuple[nn.Module, Batch, Callable[[Any], Tensor]]:
    config = transformers.ViTConfig(**SMALL, image_size=4, patch_size=2, num_labels=K, hidden_dropout_prob=0.0)
    labels = torch.arange(N) % K
    batch = {"pixel_values": torch.randn(N, 3, 4, 4), "labels": labels}
    return (
        transformers.ViTForImageClassification(config),
        batch,
        lambda out: F.cross_entropy(out.logits, labels, label_smoothing=0.1),
    )


def text() -> tuple[nn.Module, Batch, Callable[[Any], Tensor]]:
    """With soft labels."""
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**TEXT, num_labels=K))
    labels = torch.rand(N, K).softmax(-1)
    batch = {"input_ids": random_tokens(), "labels": labels}
    return model, batch, lambda out: F.cross_entropy(out.logits, labels, label_smoothing=0.1)


def tokens(head: str = "TokenClassification") -> tuple[nn.Module, Batch, Callable[[Any], Tensor]]:
    model = getattr(transformers, f"BertFor{head}")(transformers.BertConfig(**TEXT, num_labels=K))
    labels = ragged(random_tokens())
    batch = {"input_ids": random_tokens(), "labels": labels}
    return model, batch, lambda out: F.cross_entropy(out.logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)


def causal() -> tuple[nn.Module, Batch, Callable[[Any], Tensor]]:
    config = transformers.LlamaConfig(**SMALL, vocab_size=K, max_position_embeddings=T)
    labels = ragged(random_tokens())
    labels[:, 0] = -100  # not predicted, and counted by older Trainers

    def expected(out: Any) -> Tensor:
        return F.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=0.1)

    return transformers.LlamaForCausalLM(config), {"input_ids": random_tokens(), "labels": labels}, expected


def translation() -> tuple[nn.Module, Batch, Callable[[Any], Tensor]]:
    """With the decoder's inputs made from the labels, as DataCollatorForSeq2Seq(model=...) does."""
    config = transformers.T5Config(
        vocab_size=K, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, dropout_rate=0.0, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config)
    labels = ragged(random_tokens())
    inputs = model.prepare_decoder_input_ids_from_labels(labels)
    batch = {"input_ids": random_tokens(), "decoder_input_ids": inputs, "labels": labels}
    return model, batch, lambda out: F.cross_entropy(out.logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)


def tags() -> tuple[nn.Module, Batch, Callable[[Any], Tensor]]:
    config = transformers.BertConfig(**TEXT, num_labels=K, problem_type="multi_label_classification")
    labels = torch.randint(2, (N, K)).float()
    batch = {"input_ids": random_tokens(), "labels": labels}
    return (
        transformers.BertForSequenceClassification(config),
        batch,
        lambda out: F.binary_cross_entropy_with_logits(out.logits, labels * 0.9 + 0.05),
    )


def answers() -> tuple[nn.Module, Batch, Callable[[Any], Tensor]]:
    model = transformers.BertForQuestionAnswering(transformers.BertConfig(**TEXT))
    labels = torch.randint(T, (N, 2))

    def expected(out: Any) -> Tensor:
        starts, ends = labels.unbind(-1)
        start = F.cross_entropy(out.start_logits, starts, label_smoothing=0.1)
        return (start + F.cross_entropy(out.end_logits, ends, label_smoothing=0.1)) / 2

    return model, {"input_ids": random_tokens(), "labels": labels}, expected


MODELS = {
    "image": (image, "classification"),
    "text with soft labels": (text, "classification"),
    "token": (tokens, "classification"),
    "masked": (lambda: tokens("MaskedLM"), "classification"),
    "causal": (causal, "causal"),
    "sequence-to-sequence": (translation, "classification"),
    "multi-label": (tags, "multi_label"),
    "question answering": (answers, "question_answering"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_accumulated_batches_is_the_step_of_one_batch(name: str, tmp_path: Path) -> None:
    make, task = MODELS[name]
    model, batch, expected = make()
    reference = copy.deepcopy(model)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    loss = expected(reference(**inputs))
    loss.backward()
    trainer = train(model, batch, make_loss(0.1, task), tmp_path)  # type: ignore[arg-type]
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        gradient = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        torch.testing.assert_close(ours, theirs - 0.5 * gradient, rtol=1e-4, atol=1e-6)
    (log,) = [entry for entry in trainer.state.log_history if "train_loss" in entry]
    assert log["train_loss"] == pytest.approx(loss.item(), rel=1e-4)
    trainer.model.load_state_dict(reference.state_dict())
    evaluation = trainer.evaluate()["eval_loss"]  # of one batch: the mean over its labels
    assert evaluation == pytest.approx(loss.item(), rel=1e-4)


def test_a_fused_head_in_the_trainer(tmp_path: Path) -> None:
    model, batch, expected = causal()
    reference = copy.deepcopy(model)
    expected(reference(batch["input_ids"])).backward()
    trainer = train(fuse_head(model, 0.1), batch, None, tmp_path)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.5 * theirs.grad, rtol=1e-4, atol=1e-6)
    own = model.eval()(**batch).loss  # the plain cross-entropy
    assert trainer.evaluate()["eval_loss"] == pytest.approx(own.item(), rel=1e-4)


def test_a_model_that_returns_a_tuple(tmp_path: Path) -> None:
    model, batch, expected = answers()
    model.config.return_dict = False
    inputs = {"input_ids": batch["input_ids"]}
    right = expected(model(**inputs, return_dict=True))
    torch.testing.assert_close(make_loss(0.1, "question_answering")(model(**inputs), batch["labels"]), right)


def test_online_learns_from_training_batches_only_and_steps_by_the_epoch(tmp_path: Path) -> None:
    model, batch, _ = image()
    policy = smoothing.Online(K, 0.5)
    labels: list[int] = []
    observe = policy.observe
    policy.observe = lambda x, y, *rest: (labels.append(len(y)), observe(x, y, *rest))[1]  # type: ignore[method-assign]
    loss = make_loss(policy)
    options = dict(num_train_epochs=3, eval_strategy="epoch", per_device_eval_batch_size=5, callbacks=[loss])
    train(model, batch, loss, tmp_path, **options)
    assert labels == [2] * 9
    assert policy._sums.sum() == 0
    assert not torch.equal(policy.table, torch.full((K, K), 1 / K))


def test_a_schedule_goes_on_in_a_resumed_training(tmp_path: Path) -> None:
    model, batch, _ = image()

    def scheduled() -> smoothing.Scheduled:
        return smoothing.Scheduled(smoothing.Uniform(), smoothing.schedule.linear(0.4, 0.0, 4))

    loss = make_loss(scheduled())
    train(model, batch, loss, tmp_path, num_train_epochs=2, save_strategy="epoch", callbacks=[loss])
    assert loss.policy.count == 2
    resumed = make_loss(scheduled())
    train(model, batch, resumed, tmp_path, resume=True, num_train_epochs=3, callbacks=[resumed])
    assert resumed.policy.count == 3
    (tmp_path / "checkpoint-2" / "label_smoothing.pt").unlink()
    with pytest.raises(FileNotFoundError, match="resumes at step 2"):
        train(model, batch, resumed, tmp_path, resume=True, num_train_epochs=3, callbacks=[resumed])


def test_a_policy_that_nothing_steps_warns(tmp_path: Path) -> None:
    model, batch, _ = image()
    with pytest.warns(UserWarning, match=r"nothing steps the policy Online.*callbacks=\[loss\]"):
        train(model, batch, make_loss(smoothing.Online(K)), tmp_path)


def test_weights_penalty_mask_z_loss_and_epsilon_of_each_label() -> None:
    logits, labels = torch.randn(N, T, K), ragged(random_tokens())
    epsilon, weight, mask = torch.rand(N, T), torch.rand(K), torch.arange(K) > 0
    count = (labels != -100).sum()

    def given(**options: Any) -> Tensor:
        return make_loss(**options)({"logits": logits}, labels, count)

    def expected(**options: Any) -> Tensor:
        rows, flat = logits.flatten(0, 1), labels.flatten()
        return LabelSmoothingCrossEntropy(reduction="sum", **options)(rows, flat) / count

    torch.testing.assert_close(given(epsilon=epsilon), expected(epsilon=epsilon.flatten()))
    for options in (
        dict(epsilon=smoothing.Uniform(0.1, over="others"), weight=weight),
        dict(epsilon=0.1, class_mask=mask, z_loss=1e-2),
        dict(epsilon=0.1, penalty=penalty.margin),
    ):
        torch.testing.assert_close(given(**options), expected(**options))


def test_evaluation_without_smoothing() -> None:
    outputs, labels = {"logits": torch.randn(N, K)}, torch.arange(N)
    tags = torch.randint(2, (N, K))
    with torch.no_grad():
        plain = make_loss(0.1, smooth_in_eval=False)(outputs, labels)
        plain_tags = make_loss(0.1, "multi_label", smooth_in_eval=False)(outputs, tags)
    torch.testing.assert_close(plain, F.cross_entropy(outputs["logits"], labels))
    torch.testing.assert_close(plain_tags, F.binary_cross_entropy_with_logits(outputs["logits"], tags.float()))


def test_multi_label_weights_and_ignored_entries() -> None:
    logits, weight, pos_weight = torch.randn(N, K), torch.rand(K), torch.rand(K)
    labels = torch.randint(2, (N, K))
    labels[0, 1] = -100
    counted = labels != -100
    loss = make_loss((0.2, 0.0), "multi_label", weight=weight, pos_weight=pos_weight)({"logits": logits}, labels)
    targets = torch.where(labels == 1, 0.9, 0.0)
    rows = F.binary_cross_entropy_with_logits(logits, targets, weight, pos_weight=pos_weight, reduction="none")
    torch.testing.assert_close(loss, rows[counted].mean())


def test_it_can_be_pickled() -> None:
    outputs, labels = {"logits": torch.randn(N, K)}, torch.arange(N)
    for loss in (make_loss(0.1, weight=torch.rand(K)), make_loss(smoothing.Uniform(0.2))):
        assert torch.equal(pickle.loads(pickle.dumps(loss))(outputs, labels), loss(outputs, labels))


def test_labels_of_a_small_type_keep_their_class() -> None:
    """-100 in uint8 is 156, which is a class of its own here."""
    outputs, labels = SimpleNamespace(logits=torch.randn(2, 200)), torch.tensor([156, 3])
    loss = make_loss(0.1)
    torch.testing.assert_close(loss(outputs, labels.to(torch.uint8)), loss(outputs, labels))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(epsilon=1.5), ValueError, r"epsilon.*1\.5"),
        (dict(task="masked"), ValueError, "task='masked' is unknown"),
        (dict(task="multi_label", z_loss=0.1), ValueError, "belong to a softmax"),
        (dict(task="multi_label", epsilon=smoothing.Uniform()), TypeError, "policy Uniform"),
        (dict(task="multi_label", epsilon=1.5), ValueError, r"1\.5"),
        (dict(epsilon=(0.1, 0.2)), TypeError, "is a pair"),
        (dict(pos_weight=torch.ones(K)), ValueError, "pos_weight is for"),
        (dict(ignore_index=0), TypeError, "ignore_index"),  # the Trainer counts what is not -100
    ],
)
def test_arguments_that_do_not_fit_raise(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_loss(**options)


def test_labels_that_do_not_fit_raise() -> None:
    outputs, labels = {"logits": torch.randn(N, T, K)}, random_tokens()
    with pytest.raises(ValueError, match=r"labels have shape \(6, 4\).*takes labels of shape \(6, 5\)"):
        make_loss(0.1, "causal")(outputs, labels[:, 1:])
    with pytest.raises(ValueError, match=r"takes labels of shape \(6, 5\)"):
        make_loss(0.1, "causal")(outputs, torch.rand(N, T, K))
    with pytest.raises(TypeError, match="no 'start_logits'"):
        make_loss(0.1, "question_answering")(outputs, labels)
    with pytest.raises(TypeError, match=r"label_names=\['labels'\]"):
        make_loss(0.1)(outputs, None)
    with pytest.raises(ValueError, match="one class and nothing to learn"):
        make_loss(0.1)({"logits": torch.randn(N, 1)}, torch.zeros(N))
