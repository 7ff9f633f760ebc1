"""Language models of Hugging Face, trained without ever making the logits."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before transformers, which imports torchvision)

import inspect
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from labelsmooth.loss import linear_cross_entropy, vocab_parallel_linear_cross_entropy
from labelsmooth.loss.arguments import is_dtensor
from labelsmooth.loss.dtensor import placed
from labelsmooth.target import Policy, check_epsilon

__all__ = ["MODEL_TYPES", "fuse_head", "is_fused"]

Module = TypeVar("Module", bound=nn.Module)

# Of config.model_type.  Between their head and their loss these models cap the logits or add a bias, nothing else.
CAUSAL = ("gemma", "gemma2", "gemma3_text", "gpt2", "llama", "mistral", "opt", "phi", "qwen2", "qwen3")
SEQUENCE_TO_SEQUENCE = ("bart", "marian", "mbart", "mt5", "pegasus", "t5")
MODEL_TYPES = CAUSAL + SEQUENCE_TO_SEQUENCE


def fuse_head(model: Module, label_smoothing: float | Policy = 0.0, *, z_loss: float = 0.0) -> Module:
    """Make a language model train through :func:`labelsmooth.linear_cross_entropy`.

        loss = sum_t H(q_t, softmax(cap(W h_t + b))) / number of labels that are not -100

    of the next token in a decoder-only model, of the label at the same place in a sequence-to-sequence model.  The
    soft-cap of Gemma and the ``final_logits_bias`` of BART are in it.

    In ``train()`` a call with labels computes this a chunk of tokens at a time, so the logits (B, T, V) are never in
    memory, and returns ``logits=None``.  A call without labels, or in ``eval()``, is that of the unchanged model, with
    logits and the plain cross-entropy.  The loss divides by ``num_items_in_batch`` where it is given, as the Trainer
    gives it.

    Args:
        model: a model of transformers with a language-model head, of one of :data:`MODEL_TYPES`; changed in place.
            Fuse it before peft, FSDP2 or a trainer of TRL changes it.
        label_smoothing: epsilon in [0, 1], or a policy from ``labelsmooth.smoothing``.
        z_loss: as for :func:`labelsmooth.cross_entropy`.

    Returns:
        The model.

    Raises:
        TypeError: a head that is not a plain ``nn.Linear``, such as one with an adapter; also in a forward pass, where
            the head was replaced later.
        ValueError: a model of another type, or one that is fused already; an epsilon outside [0, 1].

    Example:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> model = fuse_head(LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)), 0.1)
        >>> tokens = torch.randint(16, (2, 5))
        >>> output = model.train()(tokens, labels=tokens)
        >>> output.logits is None
        True

    Source: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2025, for a loss without logits.
    """
    if not callable(label_smoothing):
        check_epsilon(label_smoothing, "label_smoothing")
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in MODEL_TYPES:
        raise ValueError(
            f"the model is of type {kind!r}; fuse_head takes {', '.join(MODEL_TYPES)}. For another model call "
            "labelsmooth.linear_cross_entropy with its last hidden states and the weight of its head."
        )
    head = getattr(model, "lm_head", None)
    if is_fused(model):
        raise ValueError("the model's head is fused already; load the model anew for another label_smoothing.")
    if type(head) is not nn.Linear:
        raise TypeError(
            f"the model's lm_head is a {type(head).__name__}; fuse_head takes an nn.Linear. Fuse the model before an "
            "adapter is added, and leave the adapter off lm_head."
        )
    head.__class__ = _Head  # the same parameters, tied or not, under the same names
    # In place of a hook, because some wrappers call forward() themselves.
    model.forward = _Forward(model, label_smoothing, z_loss)
    return model


def is_fused(model: object) -> bool:
    """Whether :func:`fuse_head` changed the model."""
    return isinstance(getattr(model, "lm_head", None), _Head)


class _Head(nn.Linear):
    """A head that can compute its loss, so that what shards or replaces its parameters does so around that too."""

    def forward(self, input: Tensor, targets: Tensor | None = None, **options: Any) -> Tensor:
        if targets is None:
            return F.linear(input, self.weight, self.bias)
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if weight.shape[0] != self.out_features:
            raise TypeError(
                f"the weight of lm_head has shape {tuple(weight.shape)} for {self.out_features} words, so this process "
                "holds a part of it. Divide the head by ColwiseParallel, or leave it whole."
            )
        loss = vocab_parallel_linear_cross_entropy if is_dtensor(weight) else linear_cross_entropy
        if (extra := options.pop("extra_bias")) is not None:
            extra = placed(extra, weight.device_mesh, weight.placements) if is_dtensor(weight) else extra
            bias = extra if bias is None else bias + extra
        total: Tensor = loss(input, weight, targets, linear_bias=bias, reduction="sum", **options)
        return total


def _is_tensor_parallel(head: nn.Module) -> bool:
    """Whether hooks would make a DTensor of the loss; those of FSDP gather the weight for it."""
    if not is_dtensor(getattr(head, "weight", None)):
        return False
    from torch.distributed.fsdp import FSDPModule

    return not isinstance(head, FSDPModule)


class _NoHead(nn.Module):
    """Stands in for the head while the model runs: keeps the hidden states, and returns the logits of no token."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, input: Tensor) -> Tensor:
        self.hidden = input
        return input.new_empty(*input.shape[:-2], 0, self.num_classes)


class _Forward:
    """A model's ``forward``: with labels in training the loss without logits, else the model's own."""

    def __init__(self, model: Any, smoothing: float | Policy, z_loss: float) -> None:
        self.model = model
        self.of_model = model.forward
        self.smoothing = smoothing
        self.z_loss = z_loss

    @property
    def __signature__(self) -> inspect.Signature:  # the Trainer and generate() read it
        return inspect.signature(self.of_model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.__signature__.bind(*args, **kwargs)
        labels = call.arguments.get("labels")
        if labels is None or not self.model.training:
            return self.of_model(*args, **kwargs)
        call.arguments["labels"] = None
        targets = kwargs.get("shift_labels")
        if self.model.config.is_encoder_decoder:
            targets = labels
            call.arguments["use_cache"] = False
            if call.arguments.get("decoder_input_ids") is None and call.arguments.get("decoder_inputs_embeds") is None:
                call.arguments["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels)
        elif targets is None:
            targets = F.pad(labels[..., 1:], (0, 1), value=-100)
        output, hidden = self._without_head(call)
        loss = self._loss(hidden, targets.to(hidden.device), kwargs.get("num_items_in_batch"))
        if isinstance(output, tuple):
            return loss, *output[1:]
        return type(output)(**{name: value for name, value in output.items() if name != "logits"} | {"loss": loss})

    def _without_head(self, call: inspect.BoundArguments) -> tuple[Any, Tensor]:
        """The model's output with the logits of no token, and the hidden states that the head would take."""
        head = self.model.lm_head
        if not isinstance(getattr(head, "original_module", head), _Head):  # peft's modules_to_save has two of them
            raise TypeError(
                f"lm_head is now a {type(head).__name__}; call fuse_head after the vocabulary has its final size, and "
                "leave adapters off lm_head (modules_to_save=['lm_head'] trains all of it)."
            )
        self.model.lm_head = stand_in = _NoHead(getattr(head, "original_module", head).out_features)
        try:
            return self.of_model(*call.args, **call.kwargs), stand_in.hidden
        finally:
            self.model.lm_head = head

    def _loss(self, hidden: Tensor, targets: Tensor, count: Tensor | int | None) -> Tensor:
        bias = getattr(self.model, "final_logits_bias", None)
        head = self.model.lm_head
        total: Tensor = (head.forward if _is_tensor_parallel(head) else head)(
            hidden.flatten(0, -2),
            targets=targets.flatten(),
            extra_bias=None if bias is None else bias.flatten(),
            label_smoothing=self.smoothing,
            z_loss=self.z_loss,
            logit_softcap=getattr(self.model.config, "final_logit_softcapping", None),
        )
        if count is None:
            count = (targets != -100).sum()
        return total / (count.to(total.device) if isinstance(count, Tensor) else count)
