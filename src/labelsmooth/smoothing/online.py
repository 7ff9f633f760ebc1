"""Online label smoothing: each class is smoothed towards the model's own mean prediction in the last epoch."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from labelsmooth.smoothing.base import Smoothing, smoothed, table_dtype
from labelsmooth.target import Target

CHUNK = 1 << 17  # logits in one step of observe: 1 MB of float64 probabilities


class Online(Smoothing):
    """Move epsilon of the label's probability to the mean prediction for its class in the last epoch.

        q = (1 - epsilon) * onehot(y) + epsilon * S[y]
        S[y] = mean of softmax(z_i) over last epoch's correctly classified rows i of class y

    ``1 - epsilon`` is the paper's alpha.  S starts uniform, and the row of a class without a correct prediction
    becomes uniform again.

    :class:`labelsmooth.LabelSmoothingCrossEntropy` calls :meth:`observe` on every training batch; with
    :func:`labelsmooth.cross_entropy`, call it yourself.  Call :meth:`step` at the end of every epoch (in Lightning,
    in ``on_train_epoch_end``): under ``torch.distributed`` it sums over the processes, so every process must call it.
    The state_dict holds S and the running sums.

    Args:
        num_classes: K.
        epsilon: in [0, 1].

    Raises:
        TypeError, ValueError: an epsilon that is not a number in [0, 1], or K below 1.

    Example:
        >>> import torch
        >>> policy = Online(num_classes=3, epsilon=0.5)
        >>> logits = torch.tensor([[3.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
        >>> policy.observe(logits, torch.tensor([0, 2]))  # the second row is wrong and does not count
        >>> policy.step()
        >>> policy.table
        tensor([[0.7054, 0.2595, 0.0351],
                [0.3333, 0.3333, 0.3333],
                [0.3333, 0.3333, 0.3333]])

    Source: Zhang et al., "Delving Deep into Label Smoothing", 2021.
    """

    table: Tensor

    def __init__(self, num_classes: int, epsilon: float = 0.5) -> None:
        super().__init__(epsilon)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int | Integral) or num_classes < 1:
            raise ValueError(f"num_classes={num_classes!r} must be an integer of at least 1.")
        table = torch.full((num_classes, num_classes), 1.0 / num_classes, dtype=table_dtype(), device="cpu")
        self.register_buffer("table", table)
        # Not a buffer: DistributedDataParallel copies the buffers of rank 0 over those of the others at every
        # forward, and the other ranks would lose their sums.
        self._sums = torch.zeros(num_classes, num_classes, dtype=torch.float64, device="cpu")

    def forward(self, labels: Tensor, num_classes: int) -> Target:
        """The targets of [N] labels (-1: does not count) or of [N, K] probabilities."""
        self._check_classes(num_classes)
        return smoothed(labels, num_classes, self._current_epsilon(), self.table)

    @torch.no_grad()
    def observe(self, logits: Tensor, target: Tensor, ignore_index: int = -100) -> None:
        """Add the predictions of the correctly classified rows to their classes' sums.

        Args:
            logits: (K,), (N, K) or (N, K, d1, ...).
            target: labels (), (N,) or (N, d1, ...).
            ignore_index: labels with this value do not count.

        Raises:
            TypeError: class probabilities or a mixture, whose rows have no single class.
            ValueError: logits for another number of classes.
            RuntimeError: inside of a transform of ``torch.func``.
        """
        if not isinstance(target, Tensor) or target.is_floating_point():
            raise TypeError(
                "Online learns the mean prediction of each class from labels, and this target is a mixture or class "
                "probabilities. Call observe with labels, or use another policy with mixup."
            )
        if logits.dim() == 1:
            logits, target = logits[None], target.reshape(1)
        num_classes = logits.shape[1]
        self._check_classes(num_classes)
        if self.table.device != logits.device:
            self.to(logits.device)
        # A few examples at a time: the probabilities of all would be a table as large as the logits.
        examples = max(1, CHUNK * len(logits) // max(logits.numel(), 1))
        for z, y in zip(torch.split(logits.detach(), examples), torch.split(target, examples), strict=True):
            rows, labels = z.movedim(1, -1).reshape(-1, num_classes), y.reshape(-1).long()
            correct = (rows.argmax(-1) == labels) & (labels != ignore_index)
            # Weighted by 0 rather than left out: which rows are correct stays on the device, and nothing waits for
            # it.  Rows that do not count may hold anything, hence where() and not a product.
            p = rows.softmax(-1, dtype=torch.float64).masked_fill_(~correct[:, None], 0.0)
            try:
                self._sums.index_add_(0, torch.where(correct, labels, 0), p)
            except RuntimeError as error:
                raise RuntimeError(
                    "Online adds up predictions in place, which torch.func, vmap and tracing do not allow. Call the "
                    "loss in eval() there, and policy.observe(logits, labels) outside of the transform."
                ) from error

    @torch.no_grad()
    def step(self) -> None:
        """End an epoch: S becomes its mean predictions over all processes, and the sums are set to 0."""
        sums = self._sums.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        total = sums.sum(-1, keepdim=True)
        uniform = torch.full_like(sums, 1.0 / len(sums))
        self.table.copy_(torch.where(total > 0, sums / total, uniform))
        self._sums.zero_()

    def _check_classes(self, num_classes: int) -> None:
        if num_classes != len(self.table):
            raise ValueError(
                f"Online was made for num_classes={len(self.table)}, but the input has {num_classes} classes."
            )

    def get_extra_state(self) -> Tensor:
        """This process's sums of the current epoch, so that a resumed epoch loses nothing."""
        return self._sums.clone()

    def set_extra_state(self, state: Tensor) -> None:
        self._sums.copy_(state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        module = super()._apply(fn, recurse)
        self._sums = self._sums.to(self.table.device)  # follows .to(device), but keeps its float64
        return module

    def extra_repr(self) -> str:
        return f"num_classes={len(self.table)}, {super().extra_repr()}"
