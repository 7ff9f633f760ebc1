"""All uses of PyTorch's private interface, each with a replacement for a PyTorch that lacks the name.

The replacements are always correct and may be slower: a copy where none was needed, or PyTorch operators in place of a
fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._device import DeviceContext

__all__ = [
    "is_batched",
    "is_intercepted",
    "keeps_graph",
    "overlaps_itself",
    "saved_tensors",
]


def _find(path: str, replacement: Callable[..., Any]) -> Callable[..., Any]:
    value: Any = torch
    for name in path.split("."):
        value = getattr(value, name, None)
    return replacement if value is None else value


def _yes(*_: object) -> bool:
    return True


# Whether the backward pass that runs now keeps its graph.  If not, a saved buffer may be returned without a copy.
keeps_graph: Callable[[], bool] = _find("_C._autograd._get_current_graph_task_keep_graph", _yes)
_has_transforms: Callable[[], bool] = _find("_C._are_functorch_transforms_active", _yes)
_is_batched: Callable[[Tensor], bool] = _find("_C._functorch.is_legacy_batchedtensor", _yes)
_tracing_state: Callable[[], object] = _find("_C._get_tracing_state", _yes)
_dispatch_modes: Callable[[], int] = _find("_C._len_torch_dispatch_stack", _yes)
_function_modes: Callable[[], int] = _find("_C._len_torch_function_stack", _yes)
_function_mode: Callable[[int], object] = _yes if _function_modes is _yes else _find("_C._get_function_stack_at", _yes)
_internal_overlap: Callable[[Tensor], int] = _find("_debug_has_internal_overlap", lambda t: not t.is_contiguous())


def is_intercepted() -> bool:
    """Whether operators are recorded or replaced: by torch.func, forward-mode differentiation, tracing, or a mode.

    A kernel that reads memory directly would be invisible to them.  A default device is a mode too, but it only
    affects where tensors are made.
    """
    return (
        _has_transforms()
        or getattr(torch.autograd.forward_ad, "_current_level", 0) >= 0
        or _tracing_state() is not None
        or _dispatch_modes() > 0
        or (_function_modes() > 0 and not all(_is_device(i) for i in range(_function_modes())))
    )


def _is_device(i: int) -> bool:
    return isinstance(_function_mode(i), DeviceContext)


def is_batched(upstream: Tensor) -> bool:
    """Whether a gradient has a hidden dimension, as in torch.func or with ``is_grads_batched=True``."""
    return _has_transforms() or _is_batched(upstream)


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two entries may share memory, as in an expanded tensor."""
    return bool(_internal_overlap(tensor))


def saved_tensors(ctx: Any, *places: int) -> list[Any]:
    """Some of the tensors, or None, that a Function saved for its backward pass.

    ``ctx.saved_tensors`` checks all of them for changes in place, this those at the places alone, so a change does not
    stop a backward pass that does not need the changed tensor.  The replacement is stricter: it checks all.

    Raises:
        RuntimeError: one was changed in place, or the backward pass has run already.
    """
    saved: Any = ctx._raw_saved_tensors if _CAN_UNPACK and isinstance(ctx, BackwardCFunction) else None
    if not saved:
        saved = ctx.saved_tensors
        return [saved[place] for place in places]
    return [saved[place].unpack() for place in places]


_CAN_UNPACK = hasattr(BackwardCFunction, "_raw_saved_tensors") and hasattr(
    getattr(torch._C._autograd, "SavedTensor", None), "unpack"
)
