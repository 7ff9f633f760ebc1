"""A small language model, fine-tuned on text with and without label smoothing: is the next token's confidence right?

    python examples/language_model.py            # about three minutes on one CPU core
    python examples/language_model.py --quick    # fewer steps, the same path

The text needs no network: the docstrings of Python's standard library to start from, then those of NumPy.  Both models
start from the same weights and see the same batches; all that differs is epsilon.  Nothing ever holds the logits of a
training batch (fuse_head).  A held-out docstring is one example of the metrics, so the intervals allow for the tokens
of a text being alike.  Needs pip install labelsmooth transformers accelerate.
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (for PyPI's torchvision beside a CPU build of PyTorch)

import argparse
import copy
import importlib
import inspect
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

from labelsmooth import metrics
from labelsmooth.calibrate import TemperatureScaling
from labelsmooth.interop.fused_head import fuse_head

STANDARD_LIBRARY = (
    "argparse asyncio base64 calendar collections csv datetime decimal difflib functools heapq html inspect ipaddress "
    "itertools json logging math os pathlib pickle random re shutil socket statistics string subprocess tarfile "
    "tempfile textwrap threading turtle typing unittest uuid warnings zipfile"
)
VOCABULARY, LENGTH, PAD = 512, 48, 0
Windows = list[dict[str, list[int]]]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    chosen = _options(arguments)
    set_seed(chosen.seed)
    general, special = texts(STANDARD_LIBRARY.split()), texts(["numpy"])
    random.Random(chosen.seed).shuffle(special)
    held_out, special = special[: len(special) // 2], special[len(special) // 2 :]
    tokenizer = train_tokenizer(general)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=LENGTH,
            pad_token_id=PAD,
        )
    )
    print(f"{len(general)} docstrings to start from, {len(special)} to fine-tune on, {len(held_out)} held out")
    model.load_state_dict(train(model, windows(tokenizer, general), chosen.start_steps, 0.0, chosen.seed))
    data = windows(tokenizer, special)
    first = [windows(tokenizer, [text])[0] for text in held_out]
    labels = torch.tensor([row["labels"] for row in first])[:, 1:]
    calibration, test = slice(0, None, 2), slice(1, None, 2)  # of the held-out texts
    scores = {}
    for epsilon in (0.0, chosen.epsilon):
        weights = train(model, data, chosen.steps, epsilon, chosen.seed)
        tuned = LlamaForCausalLM(model.config)
        tuned.load_state_dict(weights)
        scores[epsilon] = logits_of(tuned.eval(), torch.tensor([row["input_ids"] for row in first]))
    measured = {epsilon: measure(logits, labels, calibration, test) for epsilon, logits in scores.items()}
    show(measured)
    plain, smoothed = (logits[test] for logits in scores.values())
    difference = metrics.compare("nll", smoothed, plain, labels[test], scores="logits", ignore_index=-100)
    print(f"NLL with smoothing less NLL without: {difference.value:.4f} [{difference.low:.4f}, {difference.high:.4f}]")
    record = {"epsilon": chosen.epsilon, "measured": list(measured.values()), "nll_difference": vars(difference)}
    if chosen.out:
        chosen.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
    return record


def texts(modules: Sequence[str]) -> list[str]:
    """The docstrings of what the modules contain, each once."""
    chosen: dict[str, None] = {}
    for name in modules:
        module = importlib.import_module(name)
        for value in map(vars(module).get, dir(module)):
            members = list(vars(value).values()) if inspect.isclass(value) else []
            for documented in filter(callable, [value, *members]):
                text = inspect.getdoc(documented)
                if text and len(text) > 200:
                    chosen[text] = None
    return list(chosen)


def train_tokenizer(of: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(of, trainer)
    return tokenizer


def windows(tokenizer: Tokenizer, of: Sequence[str]) -> Windows:
    """Texts as pieces of LENGTH tokens, the last one padded; padding does not count."""
    pieces = []
    for encoding in tokenizer.encode_batch(list(of)):
        for start in range(0, len(encoding.ids), LENGTH):
            tokens = encoding.ids[start : start + LENGTH]
            padding = LENGTH - len(tokens)
            pieces.append({"input_ids": tokens + [PAD] * padding, "labels": tokens + [-100] * padding})
    return pieces


def train(model: LlamaForCausalLM, data: Windows, steps: int, epsilon: float, seed: int) -> dict[str, Tensor]:
    """The weights of a copy of the model after some steps."""
    fused = fuse_head(copy.deepcopy(model), label_smoothing=epsilon)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=16,
            learning_rate=2e-3,
            warmup_steps=steps // 10,
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        Trainer(fused, arguments, train_dataset=data).train()
    return {name: value.cpu() for name, value in fused.state_dict().items()}


@torch.no_grad()
def logits_of(model: LlamaForCausalLM, tokens: Tensor) -> Tensor:
    """(texts, V, T - 1): of the second token to the last one."""
    return torch.cat([model(part).logits[:, :-1].transpose(1, 2) for part in tokens.split(64)])


def measure(logits: Tensor, labels: Tensor, calibration: slice, test: slice) -> dict[str, dict[str, metrics.Estimate]]:
    """Metrics of the test texts, before and after a temperature that the calibration texts gave."""
    counted = labels[calibration] != -100
    temperature = TemperatureScaling().fit(logits[calibration].transpose(1, 2)[counted], labels[calibration][counted])
    measured = {}
    for name, scores in (("as trained", logits[test]), ("calibrated", logits[test] / temperature.temperature_)):
        given: dict[str, Any] = {"labels": labels[test], "logits": scores, "ignore_index": -100, "interval": 0.95}
        measured[name] = {
            "error": metrics.error(**given),
            "NLL": metrics.nll(**given),
            "ECE": metrics.ece(**given),
            "confidence gap": metrics.confidence_gap(**given),
        }
    return measured


def show(measured: dict[float, dict[str, dict[str, metrics.Estimate]]]) -> None:
    names = list(next(iter(measured.values()))["as trained"])
    print(f"{'epsilon':8}{'':12}" + "".join(f"{name:28}" for name in names))
    for epsilon, kinds in measured.items():
        for kind, estimates in kinds.items():
            print(f"{epsilon:<8}{kind:12}" + "".join(f"{estimate!s:28}" for estimate in estimates.values()))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--start-steps", type=int, default=400, help="on the first texts, from random weights")
    parser.add_argument("--steps", type=int, default=500, help="of fine-tuning")
    parser.add_argument("--quick", action="store_true", help="10 and 20 steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.start_steps, chosen.steps = 10, 20
    return chosen


if __name__ == "__main__":
    main()
