"""A training step of a language model with a fused head, beside the same model with its logits: peak memory and time.

    python bench/fused_head.py [--quick] [--threads 1]

The model is a small Llama with the vocabulary of a real one, so that the head weighs as much as it does there.
"""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before transformers, which imports torchvision)

import copy
from functools import partial

import torch
from harness import installed, interleaved, let_peers_import, options, peak_bytes, ratio, write
from transformers import LlamaConfig, LlamaForCausalLM

from labelsmooth.interop.fused_head import fuse_head

let_peers_import()

VOCABULARY, BATCH, TOKENS, WIDTH = 32_000, 4, 512, 256


def step(model: LlamaForCausalLM, tokens: torch.Tensor) -> None:
    model.zero_grad()
    model(tokens, labels=tokens).loss.backward()


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        use_cache=False,
    )
    plain = LlamaForCausalLM(config).train()
    fused = fuse_head(copy.deepcopy(plain))
    tokens = torch.randint(VOCABULARY, (BATCH, TOKENS))
    calls = {"with logits": partial(step, plain, tokens), "fused head": partial(step, fused, tokens)}
    times = interleaved(calls, repeats=3 if chosen.quick else 9)
    rows = [
        {"case": name, "peak_bytes": peak_bytes(call), "seconds": times[name]["median"]} for name, call in calls.items()
    ]
    print(f"Llama, {BATCH} x {TOKENS} tokens, width {WIDTH}, vocabulary {VOCABULARY}, float32: forward and backward")
    for row in rows:
        print(f"{row['case']:12} {row['peak_bytes'] / 2**20:8.0f} MiB {row['seconds']:8.3f} s")
    print(f"time, fused over logits: {ratio(times, 'fused head', 'with logits'):.2f}")
    write("fused_head", versions=installed(["torch", "transformers"]), rows=rows)


if __name__ == "__main__":
    main()
