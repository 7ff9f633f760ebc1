"""Language models of Hugging Face, trained without ever making the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

import labelsmooth._torchvision  # noqa: F401  (before transformers, which imports torchvision)

# isort: split
from labelsmooth.loss import linear_cross_entropy
from labelsmooth.target import Policy, check_epsilon

__all__ = ["MODEL_TYPES", "fuse_head"]

Module = TypeVar("Module", bound=nn.Module)

# Of config.model_type.  Between their head and their loss these models do nothing to the logits.
MODEL_TYPES = ("gpt2", "llama", "mistral", "opt", "phi", "qwen2", "qwen3")


def fuse_head(model: Module, label_smoothing: float | Policy = 0.0, *, z_loss: float = 0.0) -> Module:
    """Make a causal language model train through :func:`labelsmooth.linear_cross_entropy`.

        loss = sum_t H(q_t, softmax(W h_(t-1) + b)) / number of labels that are not -100

    In ``train()`` a call with labels computes this a chunk of tokens at a time, so the logits (B, T, V) are never in
    memory, and returns ``logits=None``.  A call without labels, or in ``eval()``, is that of the unchanged model, with
    logits and the plain cross-entropy.  The loss divides by ``num_items_in_batch`` where it is given, as the Trainer
    gives it.

    Args:
        model: a model of transformers with a language-model head, of one of :data:`MODEL_TYPES`; changed in place.
        label_smoothing: epsilon in [0, 1], or a policy from ``labelsmooth.smoothing``.
        z_loss: as for :func:`labelsmooth.cross_entropy`.

    Returns:
        The model.

    Raises:
        TypeError: a head that is not a plain ``nn.Linear``, such as one with an adapter.
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
    if isinstance(head, _Head):
        raise ValueError("the model's head is fused already; load the model anew for another label_smoothing.")
    if type(head) is not nn.Linear:
        raise TypeError(
            f"the model's lm_head is a {type(head).__name__}; fuse_head takes an nn.Linear. Fuse the model before an "
            "adapter is added, and leave the adapter off lm_head."
        )
    head.__class__ = _Head  # the same parameters, tied or not, under the same names
    fused: Any = model  # whose attributes nn.Module does not declare
    fused.loss_function = _Loss(fused.lm_head, fused.loss_function, label_smoothing, z_loss)
    model.register_forward_pre_hook(_before, with_kwargs=True)
    model.register_forward_hook(_after, always_call=True)
    return model


class _Head(nn.Linear):
    """A head that hands its input on while the loss does its work."""

    bypassed = False

    def forward(self, input: Tensor) -> Tensor:
        return input if self.bypassed else super().forward(input)


class _Loss:
    """A model's ``loss_function``: of hidden states while the head is bypassed, else the model's own of logits."""

    def __init__(self, head: _Head, of_logits: Callable[..., Tensor], smoothing: float | Policy, z_loss: float) -> None:
        self.head = head
        self.of_logits = of_logits
        self.smoothing = smoothing
        self.z_loss = z_loss

    def __call__(self, logits: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.head.bypassed:
            return self.of_logits(logits, labels, *args, **kwargs)
        hidden, weight = logits, self.head.weight
        if type(weight.data) is not Tensor:
            raise TypeError(
                f"the weight of lm_head is a {type(weight).__name__}, of which this process holds a part. Leave "
                "lm_head to the fully_shard call of the whole model, which gathers it for the forward pass."
            )
        targets = kwargs.get("shift_labels")
        if targets is None:
            targets = F.pad(labels[..., 1:], (0, 1), value=-100)
        targets = targets.to(hidden.device)
        count = kwargs.get("num_items_in_batch")
        total = linear_cross_entropy(
            hidden.flatten(0, -2),
            weight,
            targets.flatten(),
            linear_bias=self.head.bias,
            reduction="sum",
            label_smoothing=self.smoothing,
            z_loss=self.z_loss,
        )
        if count is None:
            count = (targets != -100).sum()
        return total / (count.to(total.device) if isinstance(count, Tensor) else count)


def _before(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    model.lm_head.bypassed = model.training and kwargs.get("labels") is not None


def _after(model: Any, args: tuple[Any, ...], output: Any) -> Any:
    """Hidden states stand where the logits would; take them out."""
    if not model.lm_head.bypassed:
        return output
    model.lm_head.bypassed = False
    if isinstance(output, tuple):
        return output[:1] + output[2:]
    return output if output is None else type(output)(**{k: v for k, v in output.items() if k != "logits"})
