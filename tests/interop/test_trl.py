"""TRL's trainers with a fused head and with smoothed preferences, against its own losses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from labelsmooth import cross_entropy, smoothing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it imports
    pytest.importorskip("trl")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer, SFTConfig

    from labelsmooth.interop.fused_head import fuse_head
    from labelsmooth.interop.trl import SmoothedDPOTrainer, SmoothedSFTTrainer, preference_loss

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL warns of its own plans

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "the", "cat", "dog", "sat", "ran", "home", "far", "away"]
PAIRS = [("the cat", "sat home", "ran"), ("the dog", "ran far away", "sat the"), ("the", "cat sat", "dog dog ran away")]


def tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    special = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), initializer_range=0.5, **sizes, **special))


def arguments(kind: Any, folder: Path, **options: Any) -> Any:
    defaults = dict(per_device_train_batch_size=3, max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
    return kind(str(folder), bf16=False, gradient_checkpointing=False, disable_tqdm=True, **(defaults | options))


def pairs(confidence: list[float] | None = None) -> Dataset:
    columns = dict(zip(("prompt", "chosen", "rejected"), map(list, zip(*PAIRS, strict=True)), strict=True))
    return Dataset.from_dict(columns | ({} if confidence is None else {"confidence": confidence}))


def dpo(kind: Any, folder: Path, data: Dataset, **options: Any) -> Any:
    return kind(
        model(), model(1), args=arguments(DPOConfig, folder, **options), train_dataset=data,
        processing_class=tokenizer(),
    )  # fmt: skip


def loss_of(trainer: Any) -> torch.Tensor:
    batch = next(iter(trainer.get_train_dataloader()))
    return trainer.compute_loss(trainer.model, batch)


def pairwise_logit(trainer: Any) -> torch.Tensor:
    """beta times the difference of log-ratios, from the logits of both models."""
    batch = next(iter(trainer.get_train_dataloader()))
    tokens, mask = batch["input_ids"], batch["completion_mask"][:, 1:]
    sums = []
    for network in (trainer.model, trainer.ref_model):
        logits = network(tokens, attention_mask=batch["attention_mask"]).logits[:, :-1]
        chosen = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
        sums.append((chosen * mask).sum(1))
    better, worse = (sums[0] - sums[1]).chunk(2)
    return trainer.beta * (better - worse)


def test_robust_dpo_is_negative_smoothing(tmp_path: Path) -> None:
    trainer = dpo(DPOTrainer, tmp_path, pairs(), loss_type="robust", label_smoothing=0.2, beta=0.5)
    logit = pairwise_logit(trainer)
    assert logit.abs().max() > 0.1
    torch.testing.assert_close(preference_loss(logit, 0.2, robust=True), loss_of(trainer))


def test_conservative_dpo_is_smoothing(tmp_path: Path) -> None:
    # TRL has it in its loss of optimal transport, which for a batch of one pair is that of DPO.
    options = dict(loss_type="aot", label_smoothing=0.2, beta=0.5, per_device_train_batch_size=1)
    trainer = dpo(DPOTrainer, tmp_path, pairs(), **options)
    torch.testing.assert_close(preference_loss(pairwise_logit(trainer), 0.2), loss_of(trainer))


@pytest.mark.parametrize("loss_type", ["sigmoid", "robust"])
def test_the_trainer_takes_an_epsilon_and_confidences(loss_type: str, tmp_path: Path) -> None:
    robust, confidence = loss_type == "robust", [0.9, 1.0, 0.6]
    trainer = dpo(SmoothedDPOTrainer, tmp_path, pairs(), loss_type=loss_type, label_smoothing=0.2, beta=0.5)
    logit = pairwise_logit(trainer)
    torch.testing.assert_close(loss_of(trainer), preference_loss(logit, 0.2, robust=robust))
    options = dict(loss_type=loss_type, beta=0.5, precompute_ref_log_probs=robust)
    trainer = dpo(SmoothedDPOTrainer, tmp_path, pairs(confidence), **options)
    batch = next(iter(trainer.get_train_dataloader()))
    # Both trainers shuffle by the same seed, so that the pairs are in the same order.
    expected = preference_loss(logit, 1 - batch["confidence"], robust=robust)
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), expected)
    trainer.train()


def test_preferences_that_do_not_fit_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"confidence of a pair is 0\.4"):
        dpo(SmoothedDPOTrainer, tmp_path, pairs([0.4, 0.9, 0.9])).train()
    with pytest.raises(ValueError, match=r"holds 0\.5, which is outside \[0, 0\.5\)"):
        dpo(SmoothedDPOTrainer, tmp_path, pairs(), label_smoothing=0.5)
    with pytest.raises(ValueError, match="takes 'sigmoid'"):
        dpo(SmoothedDPOTrainer, tmp_path, pairs(), loss_type="ipo")
    with pytest.raises(ValueError, match=r"holds 1\.5"):
        preference_loss(torch.zeros(2), torch.tensor([0.1, 1.5]))
    with pytest.raises(ValueError, match=r"outside \[0, 0\.5\)"):
        preference_loss(torch.zeros(2), 0.5, robust=True)


def test_robust_loss_is_unbiased_and_conservative_has_its_minimum_at_the_rate() -> None:
    d = torch.linspace(-3, 3, 13, dtype=torch.float64)
    right, wrong = (preference_loss(sign * d, 0.3, robust=True, reduction="none") for sign in (1, -1))
    torch.testing.assert_close(0.7 * right + 0.3 * wrong, preference_loss(d, reduction="none"))
    d = torch.tensor([0.7, 0.6]).double().logit().requires_grad_()
    preference_loss(d, torch.tensor([0.3, 0.4])).backward()
    torch.testing.assert_close(d.grad, torch.zeros(2).double(), atol=1e-7, rtol=0)


def test_sft_with_a_fused_head(tmp_path: Path) -> None:
    policy = smoothing.Uniform(0.2, exclude=[0])
    fused, reference = model(), model()
    # Older Trainers count the first token too, which no logits predict; that of a prompt has no label.
    texts = Dataset.from_dict(
        {"prompt": ["the", "the dog", "the cat"], "completion": ["cat sat", "ran", "ran far away"]}
    )
    config = arguments(
        SFTConfig, tmp_path, learning_rate=0.1, optim="sgd", max_grad_norm=0.0, lr_scheduler_type="constant"
    )
    trainer = SmoothedSFTTrainer(
        fuse_head(fused, policy), config, train_dataset=texts, eval_dataset=texts, processing_class=tokenizer()
    )
    batch = next(iter(trainer.get_train_dataloader()))
    logits = reference(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].flatten(0, 1)
    labels = batch["labels"][:, 1:].flatten()
    cross_entropy(logits, labels, label_smoothing=policy).backward()
    trainer.train()
    for ours, theirs in zip(fused.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad, rtol=1e-4, atol=1e-6)
    plain = fused.eval()(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain.item(), rel=1e-4)
    with pytest.raises(TypeError, match="without a fused head"):
        SmoothedSFTTrainer(model(), config, train_dataset=texts, processing_class=tokenizer())
    config.label_smoothing_factor = 0.1
    with pytest.raises(TypeError, match="computes its own loss"):
        SmoothedSFTTrainer(fuse_head(model()), config, train_dataset=texts, processing_class=tokenizer())
