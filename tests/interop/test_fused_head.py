"""A fused head in tiny language models of transformers: the same loss and gradients as with logits."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from processes import gloo, shards
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from labelsmooth import cross_entropy, smoothing

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    pytest.importorskip("transformers")
    import transformers

    from labelsmooth.interop.fused_head import MODEL_TYPES, SEQUENCE_TO_SEQUENCE, fuse_head

B, T, V = 2, 6, 11
SIZES = dict(
    vocab_size=V,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=16,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
GEMMA = dict(head_dim=4, attention_dropout=0.0, final_logit_softcapping=0.1)  # low, so that it changes the loss
BART = dict(
    d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, dropout=0.0,
    encoder_ffn_dim=8, decoder_ffn_dim=8, decoder_start_token_id=2, forced_eos_token_id=None,
)  # fmt: skip
T5 = dict(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, dropout_rate=0.0, decoder_start_token_id=0)
OTHER_SIZES: dict[str, dict[str, Any]] = {
    "gpt2": dict(n_embd=8, n_layer=2, n_head=2, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "opt": dict(ffn_dim=8, word_embed_proj_dim=8, dropout=0.0),
    "gemma": dict(head_dim=4),
    "gemma2": GEMMA | dict(query_pre_attn_scalar=4),
    "gemma3_text": GEMMA | dict(query_pre_attn_scalar=4),
    **dict.fromkeys(("bart", "marian", "mbart", "pegasus"), BART),
    **dict.fromkeys(("t5", "mt5"), T5),
}
OF_LLAMA = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


def make(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    left_out = {"opt": OF_LLAMA[1:2]}.get(kind, OF_LLAMA if kind in ("gpt2", *SEQUENCE_TO_SEQUENCE) else ())
    sizes = {key: value for key, value in SIZES.items() if key not in left_out}
    config = transformers.AutoConfig.for_model(kind, **(sizes | OTHER_SIZES.get(kind, {}) | options))
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    model = auto.from_config(config).train()
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(3, V, (B, T), generator=torch.Generator().manual_seed(1))
    labels = tokens.clone()
    labels[0, :3] = -100
    return tokens, labels


def expected(model: Any, **options: Any) -> torch.Tensor:
    tokens, labels = batch()
    if model.config.is_encoder_decoder:
        inputs = model.prepare_decoder_input_ids_from_labels(labels)
        return cross_entropy(model(tokens, decoder_input_ids=inputs).logits.flatten(0, 1), labels.flatten(), **options)
    logits = model(tokens).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), **options)


def assert_same_step(ours: Any, theirs: Any, options: dict[str, Any], **given: Any) -> None:
    tokens, labels = batch()
    output = ours(tokens, labels=labels, **given)
    loss = expected(theirs, **options)
    assert output.logits is None
    torch.testing.assert_close(output.loss, loss)
    output.loss.backward()
    loss.backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert a.requires_grad == b.requires_grad
        torch.testing.assert_close(a.grad, b.grad, msg=lambda text, name=name: f"{name}: {text}", rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_the_loss_and_gradients_are_those_with_logits(kind: str) -> None:
    model = make(kind)
    reference = copy.deepcopy(model)
    options = dict(label_smoothing=0.1, z_loss=1e-2)
    assert_same_step(fuse_head(model, **options), reference, options)
    record, values = (model(*batch()[:1], labels=batch()[1], return_dict=kept) for kept in (True, False))
    torch.testing.assert_close(values[0], record.loss)
    assert len(values) == len(record.to_tuple())


@pytest.mark.parametrize("tied", [True, False])
def test_tied_heads_policies_and_gradient_checkpointing(tied: bool) -> None:
    model = make("llama", tie_word_embeddings=tied)
    reference = copy.deepcopy(model)
    policy = smoothing.Uniform(0.2, over="others", exclude=[0])
    fused = pickle.loads(pickle.dumps(fuse_head(model, policy)))
    assert fused.state_dict().keys() == reference.state_dict().keys()
    # The second is the name in older versions.
    getattr(fused, "activation_checkpointing_enable", fused.gradient_checkpointing_enable)()
    assert_same_step(fused, reference, dict(label_smoothing=policy))


def test_in_bfloat16_the_loss_is_no_further_off_than_with_logits() -> None:
    model = make("gemma2").bfloat16()
    tokens, labels = batch()
    exact = expected(copy.deepcopy(model).float(), label_smoothing=0.1)
    theirs = expected(copy.deepcopy(model), label_smoothing=0.1)
    ours = fuse_head(model, 0.1)(tokens, labels=labels).loss
    assert ours.dtype == torch.float32
    assert abs(ours - exact) <= abs(theirs.float() - exact) + 1e-3
    ours.backward()
    assert model.lm_head.weight.grad.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks transformers
@pytest.mark.parametrize("options", [{}, dict(modules_to_save=["lm_head"])], ids=["frozen head", "trained head"])
def test_with_adapters_of_peft(options: dict[str, Any]) -> None:
    peft = pytest.importorskip("peft")
    models = [make("llama"), make("llama")]
    fuse_head(models[0], 0.1)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **options)
    for model in models:
        torch.manual_seed(1)
        peft.get_peft_model(model, config)
    assert_same_step(*models, dict(label_smoothing=0.1))
    adapted = [name for name, parameter in models[0].named_parameters() if parameter.grad is not None]
    assert any("lora_A" in name for name in adapted)
    assert any("lm_head" in name for name in adapted) == bool(options)
    on_the_head = peft.get_peft_model(fuse_head(make("llama")), peft.LoraConfig(r=2, target_modules=["lm_head"]))
    tokens, labels = batch()
    with pytest.raises(TypeError, match="leave adapters off lm_head"):
        on_the_head(tokens, labels=labels)


def test_the_trainers_count_divides() -> None:
    model = make("llama")
    reference = copy.deepcopy(model)
    fuse_head(model, 0.1)
    tokens, labels = batch()
    for count in (torch.tensor(20), 20):
        loss = model(tokens, labels=labels, num_items_in_batch=count).loss
        torch.testing.assert_close(loss, expected(reference, label_smoothing=0.1, reduction="sum") / 20)


def test_evaluation_and_calls_without_labels_are_as_before() -> None:
    model = make("gpt2")
    reference = copy.deepcopy(model)
    fuse_head(model, 0.1)
    tokens, labels = batch()
    torch.testing.assert_close(model(tokens).logits, reference(tokens).logits)
    ours, theirs = (m.eval()(tokens, labels=labels) for m in (model, reference))
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.loss, theirs.loss)
    rows = theirs.logits[:, :-1].flatten(0, 1)
    torch.testing.assert_close(ours.loss, F.cross_entropy(rows, labels[:, 1:].flatten()))
    with pytest.raises(IndexError):
        model.train()(tokens, labels=labels + V)
    assert model(tokens).logits is not None  # an error leaves the head as it was


def test_the_logits_are_not_made() -> None:
    """Nothing that the graph keeps has the size of the logits."""
    model = fuse_head(make("llama", vocab_size=5000), 0.1)
    tokens = torch.randint(5000, (4, 64))
    largest = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            largest.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(tokens, labels=tokens).loss.backward()
    assert max(largest) < tokens.numel() * 5000 / 2


def _process(rank: int, size: int, rendezvous: str) -> None:
    """One row of the batch on each process: the gradient is the mean of both."""
    tokens, labels = batch()
    with gloo(rank, size, rendezvous):
        reference = make("llama")
        losses = [reference(tokens[row : row + 1], labels=labels[row : row + 1]).loss for row in range(size)]
        sum(losses).div(size).backward()
        mesh = init_device_mesh("cpu", (size,))
        for wrap in (
            DistributedDataParallel,
            lambda model: fully_shard(model, mesh=mesh),
            lambda model: fully_shard(model, mesh=mesh) if fully_shard(model.lm_head, mesh=mesh) else None,
        ):
            model = wrap(fuse_head(make("llama")))
            loss = model(tokens[rank : rank + 1], labels=labels[rank : rank + 1]).loss
            torch.testing.assert_close(loss, losses[rank])
            loss.backward()
            for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
                gradient = ours.grad.full_tensor() if hasattr(ours.grad, "full_tensor") else ours.grad
                torch.testing.assert_close(gradient, theirs.grad, rtol=1e-4, atol=1e-6)
        for kind in ("gemma2", "bart"):  # a head divided by its words, 11 over two processes
            reference, model = make(kind, tie_word_embeddings=False), make(kind, tie_word_embeddings=False)
            parallelize_module(fuse_head(model, 0.1), mesh, {"lm_head": ColwiseParallel(use_local_output=False)})
            loss = model(tokens, labels=labels).loss
            expected_loss = expected(reference, label_smoothing=0.1)
            torch.testing.assert_close(loss, expected_loss)
            loss.backward()
            expected_loss.backward()
            for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
                gradient = ours.grad.full_tensor() if hasattr(ours.grad, "full_tensor") else ours.grad
                torch.testing.assert_close(gradient, theirs.grad, rtol=1e-4, atol=1e-6)


@shards
def test_on_two_processes_with_whole_and_with_sharded_parameters(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, args=(2, str(tmp_path / "rendezvous")), nprocs=2)


def test_models_that_cannot_be_fused_raise() -> None:
    with pytest.raises(ValueError, match="fused already"):
        fuse_head(fuse_head(make("llama")))
    with pytest.raises(ValueError, match="type 'bert'"):
        fuse_head(transformers.BertLMHeadModel(transformers.BertConfig(**SIZES)))
    model = fuse_head(make("llama"))
    model.resize_token_embeddings(V + 1)
    with pytest.raises(TypeError, match="after the vocabulary has its final size"):
        model(*batch()[:1], labels=batch()[1])
    model = make("llama")
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(TypeError, match="lm_head is a Sequential"):
        fuse_head(model)
    with pytest.raises(ValueError, match=r"label_smoothing=1\.5"):
        fuse_head(make("llama"), 1.5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_one_graph() -> None:
    model = fuse_head(make("gemma2"), 0.1)
    tokens, labels = batch()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens, labels=labels).loss, model(tokens, labels=labels).loss)
