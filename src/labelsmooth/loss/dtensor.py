"""The loss of a DTensor: of this process's part, divided by rows or by classes, and reduced over the mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labelsmooth.kernels.reference import as_matrix
from labelsmooth.loss.arguments import Options, as_blocks, check_reduction, is_dtensor
from labelsmooth.loss.by_row import class_dimension
from labelsmooth.loss.vocab_parallel import vocab_parallel_cross_entropy

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement


def dtensor_cross_entropy(
    input: Any, target: Tensor, options: Options, return_nll: bool, of_all_classes: Callable[..., Any]
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`labelsmooth.cross_entropy` of all logits, from the part of them that is on this process.

    Where the classes are divided, :func:`vocab_parallel_cross_entropy` in the group of that mesh dimension; where the
    rows are, the sum over those mesh dimensions.

    Args:
        input: a DTensor in one of the shapes of :func:`labelsmooth.cross_entropy`.
        target: as for it, of all rows and the same on each process; or a DTensor.
        of_all_classes: ``cross_entropy`` itself, for rows with all their classes.
    """
    check_reduction(options.reduction)
    by_row, mesh_dim_of_classes = _layout(input)
    of_labels = _of_labels(by_row)
    label_shape = _label_shape(input)
    if target.shape not in (label_shape, input.shape):
        raise ValueError(
            f"target has shape {tuple(target.shape)}, and input is a DTensor of shape {tuple(input.shape)}; give the "
            f"labels of all its rows, {tuple(label_shape)}, the same on each process, or a DTensor of them."
        )
    if not target.is_floating_point():
        target = target.long()

    def part(tensor: Tensor) -> Tensor:
        """This process's part of a tensor with an entry for each row or for each logit, as rows."""
        if tensor.shape == input.shape:
            return as_matrix(as_blocks(placed(tensor, input.device_mesh, by_row).to_local()))
        return placed(tensor, input.device_mesh, of_labels).to_local().reshape(-1)

    logits = input.to_local(grad_placements=input.placements)
    rows = as_matrix(as_blocks(logits))
    y, smoothing, mask = part(target), options.label_smoothing, options.class_mask
    if isinstance(smoothing, Tensor) and smoothing.shape == label_shape:
        smoothing = part(smoothing)
    if mask is not None and mask.shape == input.shape:
        mask = part(mask)
    rows_divided = any(placement.is_shard() for placement in by_row)
    reduction = "sum" if rows_divided and options.reduction == "mean" else options.reduction
    keywords: dict[str, Any] = {"class_mask": mask, "z_loss": options.z_loss, "return_nll": return_nll}
    if mesh_dim_of_classes is None:
        loss, keywords["check"] = of_all_classes, options.check
    else:
        loss, keywords["group"] = vocab_parallel_cross_entropy, input.device_mesh.get_group(mesh_dim_of_classes)
    result = loss(rows, y, options.weight, options.ignore_index, reduction, smoothing, **keywords)
    losses: tuple[Tensor, ...] = result if return_nll else (result,)
    if options.reduction == "none":
        losses = tuple(_as_dtensor(value.reshape(_label_shape(logits)), input, of_labels) for value in losses)
    elif rows_divided:
        *sums, count = _summed(torch.stack([*losses, _count(y, options).to(losses[0].dtype)]), input, by_row)
        losses = tuple(value / count if options.reduction == "mean" else value for value in sums)
    return (losses[0], losses[1].detach()) if return_nll else losses[0]


def _layout(input: DTensor) -> tuple[list[Placement], int | None]:
    """The placements of whole rows, and the mesh dimension that divides the classes.

    Raises:
        ValueError: a placement that is neither replicated nor sharded, or classes divided twice.
    """
    from torch.distributed.tensor import Replicate, Shard

    class_dim = class_dimension(input)
    kinds = [type(placement) for placement in input.placements]
    by_class = [i for i, placement in enumerate(input.placements) if placement.is_shard(class_dim)]
    if len(by_class) > 1 or not set(kinds) <= {Replicate, Shard}:
        raise ValueError(
            f"input is a DTensor placed as {tuple(input.placements)}; its rows and classes may be replicated or "
            "sharded, the classes over at most one dimension of the mesh. Use input.redistribute(placements=...) first."
        )
    rows = [Replicate() if i in by_class else placement for i, placement in enumerate(input.placements)]
    return rows, by_class[0] if by_class else None


def _of_labels(by_row: list[Placement]) -> list[Placement]:
    """The placements of the labels, which have no dimension of classes."""
    from torch.distributed.tensor import Shard

    return [Shard(p.dim - 1) if isinstance(p, Shard) and p.dim > 1 else p for p in by_row]


def _label_shape(logits: Tensor) -> torch.Size:
    return torch.Size(logits.shape[:1] + logits.shape[2:] if logits.dim() > 1 else ())


def placed(tensor: Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> DTensor:
    """A DTensor with these placements; a plain tensor is the same on each process."""
    from torch.distributed.tensor import DTensor, Replicate

    if not is_dtensor(tensor):
        tensor = DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return tensor.redistribute(placements=placements)


def _as_dtensor(losses: Tensor, input: DTensor, placements: list[Placement]) -> Tensor:
    """Unreduced losses of this process's rows as those of all; a plain tensor where every process has all rows."""
    from torch.distributed.tensor import DTensor

    if not any(placement.is_shard() for placement in placements):
        return losses
    shape = _label_shape(input)
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(losses, input.device_mesh, placements, run_check=False, shape=shape, stride=stride)


def _summed(values: Tensor, input: DTensor, by_row: list[Placement]) -> Tensor:
    """The values summed over the mesh dimensions that divide the rows; the gradient of each part is that of the sum."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    placements = [Partial() if placement.is_shard() else Replicate() for placement in by_row]
    return DTensor.from_local(values, input.device_mesh, placements, run_check=False).full_tensor()


def _count(labels: Tensor, options: Options) -> Tensor:
    """What the mean divides by, of this process's rows: PyTorch's number of labels, or the sum of their weights."""
    if labels.is_floating_point():
        return torch.tensor(labels.shape[0], device=labels.device)
    counted = labels != options.ignore_index
    if options.weight is None:
        return counted.sum()
    return torch.where(counted, options.weight[labels.clamp(0, len(options.weight) - 1)], 0.0).sum()
