"""Smoothed cross-entropy with the classes, of logits or of a linear head, distributed over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor
from torch import distributed as dist

from labelsmooth.kernels.chunks import Head, Plan
from labelsmooth.kernels.reference import Divisor, Terms
from labelsmooth.kernels.sharded import sharded_linear_loss, sharded_row_losses
from labelsmooth.loss.arguments import Options, Reduction, has_probabilities, is_dtensor, product_dtype
from labelsmooth.loss.linear import HeadOptions
from labelsmooth.loss.targets import RowLosses, reduced_loss
from labelsmooth.target import Policy

if TYPE_CHECKING:
    from typing_extensions import Unpack


@overload
def vocab_parallel_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: Reduction = ...,
    label_smoothing: float | Tensor | Policy = ...,
    *,
    group: dist.ProcessGroup | None = ...,
    class_mask: Tensor | None = ...,
    z_loss: float = ...,
    return_nll: Literal[False] = ...,
) -> Tensor: ...


@overload
def vocab_parallel_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: Reduction = ...,
    label_smoothing: float | Tensor | Policy = ...,
    *,
    group: dist.ProcessGroup | None = ...,
    class_mask: Tensor | None = ...,
    z_loss: float = ...,
    return_nll: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def vocab_parallel_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor | Policy = 0.0,
    *,
    group: dist.ProcessGroup | None = None,
    class_mask: Tensor | None = None,
    z_loss: float = 0.0,
    return_nll: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Cross-entropy of logits whose classes are distributed over processes, smoothed over all classes.

    The unfused equal is ``cross_entropy(all_gather(input, dim=1), target, ...)``: the same loss on each process, and
    the gradient of its own classes.  The processes exchange five numbers per row and the sizes of their parts.

    Args:
        input: this process's logits [N, K_local], floating; the parts may differ in size.  Or a DTensor [N, K],
            sharded over its second dimension on a mesh of one dimension; the group is that of the mesh.
        target: labels in [0, K), shape (N,), the same on each process; or class probabilities [N, K].
        weight, label_smoothing, class_mask: over all K classes, the same on each process.
        ignore_index, reduction, z_loss, return_nll: as :func:`labelsmooth.cross_entropy` takes them.
        group: the processes; None for the default group.  Their ranks give the order of the parts.

    Returns:
        As :func:`labelsmooth.cross_entropy`, the same on each process.

    Raises:
        RuntimeError: no process group is initialised.
        IndexError, TypeError, ValueError: as :func:`labelsmooth.cross_entropy`.

    Example:
        >>> import torch
        >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> vocab_parallel_cross_entropy(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0]), label_smoothing=0.1)
        tensor(0.3365)
        >>> torch.distributed.destroy_process_group()

    Source: Shoeybi et al., "Megatron-LM", 2019, for the division of the vocabulary.
    """
    logits, group = _local(input, group, "input", 1)
    if logits.dim() != 2 or not logits.is_floating_point():
        raise ValueError(
            f"input has shape {tuple(logits.shape)} and dtype {logits.dtype}; give this process's logits, "
            "(N, K_local), floating."
        )
    first_class, num_classes = _place(logits.shape[1], logits.device, group)

    def losses(terms: Terms, divisor: Divisor) -> tuple[Tensor, Tensor | None]:
        by_row, nll = sharded_row_losses(logits, terms, first_class, group)
        return by_row if divisor is None else by_row.sum() / divisor, nll

    options = Options(weight, ignore_index, reduction, label_smoothing, class_mask, z_loss)
    return _of_all(losses, (logits.shape[0], num_classes), logits.dtype, target, options, return_nll)


class ShardedOptions(HeadOptions, total=False):
    ignore_index: int
    group: dist.ProcessGroup | None


@overload
def vocab_parallel_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    return_nll: Literal[False] = ...,
    **options: Unpack[ShardedOptions],
) -> Tensor: ...


@overload
def vocab_parallel_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    return_nll: Literal[True],
    **options: Unpack[ShardedOptions],
) -> tuple[Tensor, Tensor]: ...


def vocab_parallel_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
    label_smoothing: float | Tensor | Policy = 0.0,
    group: dist.ProcessGroup | None = None,
    class_mask: Tensor | None = None,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    return_nll: bool = False,
    chunk_size: int | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The same for a linear head whose rows, one for each class, are distributed over processes.

    The unfused equal is :func:`vocab_parallel_cross_entropy` of ``linear(input, linear_weight, linear_bias)``.  The
    local logits exist for ``chunk_size`` rows at a time; each chunk exchanges its five numbers per row.

    Args:
        input: features [N, D], the same on each process; their gradient is summed over the processes.  A DTensor is
            gathered.
        linear_weight: this process's [K_local, D], or a DTensor [K, D] sharded over its first dimension.
        linear_bias: this process's [K_local], or a DTensor [K] sharded likewise, or None.
        logit_softcap, chunk_size: as for :func:`labelsmooth.linear_cross_entropy`.

    The other arguments, what is returned and what is raised are those of :func:`vocab_parallel_cross_entropy`.
    """
    part, group = _local(linear_weight, group, "linear_weight", 0)
    bias = None if linear_bias is None else _local(linear_bias, group, "linear_bias", 0)[0]
    features = _full(input)
    if features.dim() != 2 or part.dim() != 2 or features.shape[1] != part.shape[1]:
        raise ValueError(
            f"input has shape {tuple(features.shape)} and this process's linear_weight {tuple(part.shape)}; give "
            "features (N, D) and a head (K_local, D)."
        )
    if bias is not None and bias.shape != part.shape[:1]:
        raise ValueError(
            f"linear_bias has shape {tuple(bias.shape)}; give one for each of this process's {part.shape[0]} classes."
        )
    dtype = product_dtype(features)
    first_class, num_classes = _place(part.shape[0], part.device, group)
    head = Head(part, bias, part.shape[0], logit_softcap)

    def losses(terms: Terms, divisor: Divisor) -> tuple[Tensor, Tensor | None]:
        return sharded_linear_loss(
            features, head, terms, divisor, Plan(chunk_size, dtype, return_nll), first_class, group
        )

    options = Options(weight, ignore_index, reduction, label_smoothing, class_mask, z_loss)
    return _of_all(losses, (features.shape[0], num_classes), dtype, target, options, return_nll)


def _of_all(
    losses: RowLosses, shape: tuple[int, int], dtype: torch.dtype, target: Tensor, options: Options, return_nll: bool
) -> Tensor | tuple[Tensor, Tensor]:
    """The loss of a target over the classes of all processes; ``shape`` is (N, K) of all classes."""
    target, label_shape = _full(target), torch.Size(shape[:1])
    if not has_probabilities(target, label_shape, torch.Size(shape), shape[1]):
        target = target.long()
    return reduced_loss(losses, target, shape, label_shape, dtype, options, return_nll)


def _local(
    tensor: Tensor, group: dist.ProcessGroup | None, name: str, dim: int
) -> tuple[Tensor, dist.ProcessGroup | None]:
    """This process's part, and the group of the parts."""
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            "no process group is initialised; call torch.distributed.init_process_group first, or use "
            "labelsmooth.cross_entropy, which needs none."
        )
    if not is_dtensor(tensor):
        return tensor, group
    from torch.distributed.tensor import Shard

    if len(tensor.placements) != 1 or not tensor.placements[0].is_shard(dim):
        raise ValueError(
            f"{name} is a DTensor placed as {tuple(tensor.placements)}; shard it over its classes, (Shard({dim}),), on "
            "a mesh of one dimension."
        )
    return tensor.to_local(grad_placements=[Shard(dim)]), tensor.device_mesh.get_group()


def _full(tensor: Tensor) -> Tensor:
    """A replicated DTensor as a plain tensor."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor


def _place(local: int, device: torch.device, group: dist.ProcessGroup | None) -> tuple[int, int]:
    """The first class of this process, and the number of classes of all."""
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, torch.full((1,), local, dtype=torch.int64, device=device), group=group)
    counts = [int(size) for size in sizes]
    return sum(counts[: dist.get_rank(group)]), sum(counts)
