"""Hugging Face's Trainer: any smoothing, for language models and for classifiers, through its own argument."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # noqa: F401  (before transformers, which imports torchvision)

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.trainer_callback import TrainerCallback

from labelsmooth.loss import LabelSmoothingCrossEntropy, binary_cross_entropy_with_logits
from labelsmooth.target import Policy

__all__ = ["Task", "TrainerLoss", "make_loss"]

Task = Literal["classification", "causal", "multi_label", "question_answering"]
"""How the labels of a batch belong to the logits of a model."""

IGNORED = -100  # the Trainer counts the labels that are not -100, so no other value can be ignored
STATE = "label_smoothing.pt"  # the policy, beside the other files of a checkpoint


class TrainerLoss(TrainerCallback):  # type: ignore[misc]
    """What :func:`make_loss` makes: the Trainer's ``compute_loss_func``, and a callback that steps its policy.

    As a callback it steps the policy after each epoch, and keeps its state in the Trainer's checkpoints.  In a loop of
    your own call ``step()`` after each epoch.

    Args:
        criterion: (logits, labels) -> the sum of the losses; logits (N, K) or (N, K, T).
        task: as for :func:`make_loss`.
        policy: what is stepped, or None.
    """

    def __init__(self, criterion: nn.Module, task: Task, policy: Any = None) -> None:
        self.criterion = criterion
        self.task = task
        self.policy = policy
        self._stepped = False  # whether something will call step()

    def __call__(
        self, outputs: object, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The sum of the losses over ``num_items_in_batch``; see :func:`make_loss`."""
        if labels is None:
            raise TypeError(
                "the batch has no labels: the Trainer takes them from the key 'labels'. Name them so in the data set "
                "or the collator; for question answering give labels of shape (B, 2), the start and the end, and "
                "TrainingArguments(label_names=['labels'])."
            )
        logits, labels = self._aligned(outputs, labels)
        training = torch.is_grad_enabled()
        self.criterion.train(training).to(logits.device)
        if training and num_items_in_batch is not None:
            self._expect_steps()
        count = (labels != IGNORED).sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        if self.task != "multi_label" and labels.shape == logits.shape:  # every probability was counted as a label
            count = count / logits.shape[1]
        total: Tensor = self.criterion(logits, labels)
        return total / count.to(logits.device)

    def _aligned(self, outputs: object, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) or (N, K, T), and the labels that belong to them."""
        if self.task == "question_answering":
            start, end = _tensors(outputs, ("start_logits", "end_logits"))
            _check_shape(labels, start, (*start.shape[:-1], 2))
            logits, labels = torch.cat([start, end]), labels.t().reshape(-1)
        else:
            (logits,) = _tensors(outputs, ("logits",))
        labels = labels.to(logits.device)
        if not labels.is_floating_point():
            labels = labels.long()  # in a smaller type -100 would equal another label
        if self.task == "multi_label":
            _check_shape(labels, logits, logits.shape)
            return logits, labels
        if logits.shape[-1] == 1:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}, so there is one class and nothing to learn. Give the "
                'model num_labels=2 or more, or use task="multi_label" for a single yes or no.'
            )
        soft = labels.is_floating_point() and self.task == "classification"
        _check_shape(labels, logits, logits.shape if soft else logits.shape[:-1])
        if self.task == "causal":  # the labels move rather than the logits, which would be copied
            labels = F.pad(labels[..., 1:], (0, 1), value=IGNORED)
        return logits.movedim(-1, 1), labels.movedim(-1, 1) if soft else labels

    def step(self) -> None:
        """Step the policy, where it changes by the epoch (``smoothing.Online``, ``smoothing.Scheduled``)."""
        self._stepped = True
        if self._steps:
            self.policy.step()

    @property
    def _steps(self) -> bool:
        return callable(getattr(self.policy, "step", None))

    def _expect_steps(self) -> None:
        if self._steps and not self._stepped:
            self._stepped = True
            warnings.warn(
                f"nothing steps the policy {type(self.policy).__name__}, which changes by the epoch: give the Trainer "
                "callbacks=[loss] beside compute_loss_func=loss, or call loss.step() after each epoch.",
                stacklevel=3,
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the policy's state from the checkpoint of a resumed training."""
        self._stepped = True
        if not self._steps or state.global_step == 0:
            return
        saved = _checkpoint(args, state)
        if not saved.exists():
            raise FileNotFoundError(
                f"the training resumes at step {state.global_step}, but the policy {type(self.policy).__name__} has no "
                f"state there: {saved} does not exist. Copy it from the checkpoint that you resume from."
            )
        self.policy.load_state_dict(torch.load(saved, weights_only=True, map_location="cpu"))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Step the policy."""
        self.step()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the policy's state beside the checkpoint."""
        if self._steps and state.is_world_process_zero:
            torch.save(self.policy.state_dict(), _checkpoint(args, state))


def _checkpoint(args: Any, state: Any) -> Path:
    """The file of the policy's state in the checkpoint of the current step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE


def make_loss(
    epsilon: float | Tensor | Policy | tuple[float, float] = 0.1,
    task: Task = "classification",
    *,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    class_mask: Tensor | None = None,
    z_loss: float = 0.0,
    penalty: Callable[..., Tensor] | Sequence[Callable[..., Tensor]] | None = None,
    smooth_in_eval: bool = True,
) -> TrainerLoss:
    """What ``transformers.Trainer(compute_loss_func=...)`` takes.

        loss = sum_i w_i * H(q_i, p_i) / num_items_in_batch

    with the smoothed targets q of the labels that are not -100.  The Trainer gives their number in all the batches that
    make one step, so accumulating gradients over batches of different lengths weighs every token alike; without it
    the sum is divided by the number in this batch.  Class weights do not change the divisor.  Leave
    ``TrainingArguments.label_smoothing_factor`` at 0.

    For a model whose class is not named ``...ForCausalLM``, such as ``GPT2LMHeadModel``, and for all in older versions,
    the Trainer counts the first label of a sequence too, which no logits predict, with any loss; set it to -100 for an
    exact mean.

    A policy that changes by the epoch (``smoothing.Online``, ``smoothing.Scheduled``) needs the loss among the
    Trainer's callbacks too: ``Trainer(compute_loss_func=loss, callbacks=[loss])``.  Online observes the batches of
    training alone: those with gradients enabled.

    Args:
        epsilon: in [0, 1]; a tensor in the shape of the labels; a policy from ``labelsmooth.smoothing``; for
            "multi_label" a number, a tensor that broadcasts to the logits, or a pair (for positives, for negatives).
        task: how labels belong to logits.

            - "classification": side by side, as for images, texts, tokens, masked and sequence-to-sequence language
              models.  Logits (B, K) or (B, T, K); labels (B,) or (B, T), or class probabilities in the shape of the
              logits.
            - "causal": a decoder-only language model, whose logits at position t predict the label at t + 1.
            - "multi_label": a yes or no for each class, by :func:`labelsmooth.binary_cross_entropy_with_logits`.
              Logits and labels (B, K).
            - "question_answering": the first and the last token of an answer.  Two logits (B, T); labels (B, 2).
        weight: [K] class weights, or None.
        pos_weight: for "multi_label", [K] weights of the positives, or None.
        class_mask, z_loss, penalty, smooth_in_eval: as for :class:`labelsmooth.LabelSmoothingCrossEntropy`; not for
            "multi_label", except ``smooth_in_eval``.  The Trainer evaluates without gradients, which is ``eval()``.

    Returns:
        A function (outputs, labels, num_items_in_batch=None) -> scalar that can be pickled.  ``outputs`` is what the
        model returns: a record or a dict with ``logits``, or a tuple that begins with them.

    Raises:
        TypeError, ValueError: an epsilon outside [0, 1], an unknown task or an argument that the task does not take,
            when made; labels that do not fit the logits, when called.

    Example:
        >>> import torch
        >>> loss = make_loss(0.1, "causal")
        >>> loss({"logits": torch.zeros(2, 5, 8)}, torch.randint(8, (2, 5)))
        tensor(2.0794)
        >>> # Trainer(model, arguments, train_dataset=data, compute_loss_func=loss)

    Source: the Trainer's documentation, on ``compute_loss_func`` and ``num_items_in_batch``.
    """
    if task not in get_args(Task):
        raise ValueError(f"task={task!r} is unknown; use one of {', '.join(map(repr, get_args(Task)))}.")
    if task == "multi_label":
        if class_mask is not None or z_loss or penalty is not None:
            raise ValueError(
                'class_mask, z_loss and penalty belong to a softmax, which task="multi_label" does not have; leave '
                "them out."
            )
        return TrainerLoss(_MultiLabelLoss(epsilon, weight, pos_weight, smooth_in_eval), task)
    if pos_weight is not None:
        raise ValueError(f'pos_weight is for task="multi_label" only, and task is {task!r}; use weight.')
    if isinstance(epsilon, tuple):
        raise TypeError(f'epsilon={epsilon} is a pair, which only task="multi_label" takes; give a number or a policy.')
    criterion = LabelSmoothingCrossEntropy(
        reduction="sum",
        epsilon=epsilon,
        weight=weight,
        ignore_index=IGNORED,
        class_mask=class_mask,
        z_loss=z_loss,
        penalty=penalty,
        smooth_in_eval=smooth_in_eval,
    )
    return TrainerLoss(criterion, task, epsilon)


class _MultiLabelLoss(nn.Module):
    """The sum of binary_cross_entropy_with_logits over the entries that count."""

    def __init__(
        self,
        epsilon: float | Tensor | Policy | tuple[float, float],
        weight: Tensor | None,
        pos_weight: Tensor | None,
        smooth_in_eval: bool,
    ) -> None:
        super().__init__()
        if callable(epsilon) and not isinstance(epsilon, Tensor):
            raise TypeError(
                f'epsilon is the policy {type(epsilon).__name__}, whose targets are for a softmax; task="multi_label" '
                "takes a number, a tensor, or a pair (for positives, for negatives)."
            )
        self.epsilon = epsilon
        self.smooth_in_eval = smooth_in_eval
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        nothing = torch.zeros(0 if not isinstance(epsilon, Tensor) else epsilon.shape)
        binary_cross_entropy_with_logits(nothing, nothing, label_smoothing=epsilon)  # checks it

    weight: Tensor | None
    pos_weight: Tensor | None

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        epsilon = self.epsilon if self.training or self.smooth_in_eval else 0.0
        if isinstance(epsilon, Tensor):
            epsilon = epsilon.to(logits.device)
        return binary_cross_entropy_with_logits(
            logits, labels, self.weight, "sum", self.pos_weight, epsilon, ignore_index=IGNORED
        )


def _tensors(outputs: object, names: tuple[str, ...]) -> list[Tensor]:
    """The named tensors of what a model returned."""
    if isinstance(outputs, tuple | list):
        return list(outputs[: len(names)])
    present = outputs if isinstance(outputs, Mapping) else vars(outputs)
    if missing := [name for name in names if name not in present]:
        raise TypeError(
            f"the model returned {', '.join(map(repr, present))} and no {missing[0]!r}. Choose the task that fits the "
            f"model: {', '.join(map(repr, get_args(Task)))}."
        )
    return [present[name] for name in names]


def _check_shape(labels: Tensor, logits: Tensor, expected: Sequence[int]) -> None:
    if labels.shape != torch.Size(expected):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}, and logits have shape "
            f"{tuple(logits.shape)}; this task takes labels of shape {tuple(expected)}."
        )
