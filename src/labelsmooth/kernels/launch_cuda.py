"""Tensors to the CUDA kernel: which form of it runs for a number of classes, and launches with as little Python as
possible.

Nothing here waits for the device or copies from the host, so a step can be captured in a CUDA graph.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.kernels import rows_triton as kernel
from labelsmooth.kernels.compiling import announced
from labelsmooth.kernels.reference import accumulation_dtype, as_matrix, row_factor
from labelsmooth.target import Target

__all__ = ["Form", "few", "form_of", "run", "scale", "survey"]

NUMBER, ONE, EACH = (kind.value for kind in (kernel.NUMBER, kernel.ONE, kernel.EACH))
UNIFORM, PRIOR, BY_LABEL, ROWS_OF = (
    base.value for base in (kernel.UNIFORM, kernel.PRIOR, kernel.BY_LABEL, kernel.ROWS_OF)
)
UNDIVIDED, LABELS, PARTS = (count.value for count in (kernel.UNDIVIDED, kernel.LABELS, kernel.PARTS))
ALONE, PUBLISH, FINISH, WAIT, LAST = (
    half.value for half in (kernel.ALONE, kernel.PUBLISH, kernel.FINISH, kernel.WAIT, kernel.LAST)
)
COUNT_LANES: int = kernel.COUNT_LANES.value
SURVEY_BLOCK = 4096  # labels of a program


# --- which form -----------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A program reads ``rows`` rows of at most ``block`` classes, or, if ``group`` > 1, ``block`` classes of one."""

    block: int
    group: int
    rows: int
    warps: int
    registers: int | None = None  # of a thread, at most


class Measured(NamedTuple):
    """Up to this many classes: rows in one program (resident), or groups of programs of this many classes."""

    classes: int
    block: int | None  # None: resident
    elements: int  # for each warp
    warps: tuple[int, int]  # the least and the most
    reason: str
    registers: int | None = None  # of a thread, at most: with more, fewer programs would fit on a processor


# By bytes of a logit.  Shares are of the speed of a copy on an H100 (labels with a uniform base), measured with
# prototypes of the two forms; two passes over the row reach 0.46 and 0.67.  Busy: the time that issuing the compiled
# instructions takes as a share of what memory takes for the row (bench/compiled.py).
FORMS = {
    2: (
        Measured(256, None, 256, (4, 4), "several rows in a program"),
        Measured(1024, None, 1024, (1, 1), "resident: busy 0.66 in 1 warp, 0.95 in 2, 1.45 in 4, which measured 0.84"),
        Measured(32768, None, 1024, (2, 32), "resident, 32 warps: 0.80 at 8192 x 32000 (busy 0.59); groups: 0.79", 64),
        Measured(1 << 62, 8192, 1024, (8, 8), "groups: 0.76 at 4096 x 128256, 0.74 at 2048 x 262144; busy 0.72", 64),
    ),
    4: (
        Measured(256, None, 256, (4, 4), "several rows in a program"),
        Measured(1024, None, 512, (1, 2), "resident: busy 0.47 in 2 warps, 0.73 in 4, which measured 1.05"),
        Measured(32768, None, 2048, (4, 16), "resident, 16 warps: 0.99 at 8192 x 32000 (busy 0.25)"),
        Measured(1 << 62, 4096, 512, (8, 8), "groups: 0.88 at 4096 x 128256 (busy 0.58)"),
    ),
    8: (
        Measured(8192, None, 512, (4, 16), "not measured: as many bytes for each thread as float32"),
        Measured(1 << 62, 2048, 256, (8, 8), "not measured: as many bytes for each thread as float32"),
    ),
}
# Several rows of at most 256 classes in a program, so that it reads this many bytes: 32 for each thread of 4 warps.
LEAST_BYTES = 4096


@cache
def form_of(num_classes: int, itemsize: int) -> Form:
    """The form of the kernel for rows of this length.

    Example:
        >>> form_of(1000, 4)
        Form(block=1024, group=1, rows=1, warps=2, registers=None)
        >>> form_of(128256, 2)
        Form(block=8192, group=16, rows=1, warps=8, registers=64)
    """
    measured = next(m for m in FORMS[itemsize] if num_classes <= m.classes)
    block = measured.block or 1 << (num_classes - 1).bit_length()
    warps, registers = max(measured.warps[0], min(measured.warps[1], block // measured.elements)), measured.registers
    if torch.version.hip is not None:  # warps of 64 threads, of which a program has at most 1024
        warps, registers = min(warps, 16), None
    if measured.block is not None:
        return Form(block, -(-num_classes // block), 1, warps, registers)
    rows = max(1, LEAST_BYTES // (block * itemsize)) if block <= 256 else 1
    return Form(block, 1, rows, warps, registers)


@cache
def _may_wait(device: torch.device, group: int) -> bool:
    """Whether programs of a group can wait for each other: if two groups, of two streams, fit on the device."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return 2 * group <= torch.cuda.get_device_properties(device).multi_processor_count


# --- launches -------------------------------------------------------------------------------------------------------

_compiled: dict[tuple[object, ...], Any] = {}
_seen: set[object] = set()  # what has been compiled, or loaded from Triton's cache
_keeps_compiled = True


def _launch(
    function: Any, grid: tuple[int, ...], kinds: tuple[object, ...], arguments: tuple[Any, ...],
    constants: tuple[Any, ...], warps: int, registers: int | None = None,
) -> None:  # fmt: skip
    """One launch on the device of the first argument.

    The compiled kernel that a launch returns is kept for arguments that it serves too: launching it takes a fraction of
    the time that Triton needs to find it.

    Args:
        kinds: what Triton compiles for beside the constants: dtypes and missing arguments that these do not imply.
    """
    global _keeps_compiled
    device = arguments[0].device
    if device.type != "cuda":  # the interpreter
        function[grid](*arguments, *constants, num_warps=warps)
        return
    if device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            _launch(function, grid, kinds, arguments, constants, warps, registers)
        return
    key = (id(function), device.index, kinds, constants, warps, registers)
    # Triton's kernels also assume that tensors are aligned and that integers have 32 bits.
    unusual = [
        a for a in arguments if (a.data_ptr() % 16 if isinstance(a, Tensor) else type(a) is int and abs(a) >= 2**31)
    ]
    usual = not unusual
    compiled = _compiled.get(key) if usual else None
    if compiled is not None and _keeps_compiled:
        try:
            compiled[(*grid, 1, 1)[:3]](*arguments, *constants)
            return
        except TypeError:  # a Triton whose compiled kernels take other arguments
            _keeps_compiled = False
    with nullcontext() if (key, usual) in _seen else announced():
        _seen.add((key, usual))
        options = {} if registers is None else {"maxnreg": registers}
        compiled = function[grid](*arguments, *constants, num_warps=warps, **options)
    if usual and compiled is not None:
        _compiled[key] = compiled


# --- the kernels ----------------------------------------------------------------------------------------------------


Number = tuple[float | Tensor, int]  # a value, and how the kernel reads it


def run(
    logits: Tensor,
    q: Target,
    valid: Tensor | None = None,
    z_loss: float = 0.0,
    *,
    gradient: Tensor | None = None,
    factor: float | Tensor = 1.0,
    divisor: float | Tensor = 1.0,
    losses: Tensor,
    nll: Tensor | None = None,
) -> None:
    """The arguments of :func:`launch_cpu.run`; fills ``losses`` and the other outputs that are given."""
    if logits.dim() == 3 or logits.stride(1) != 1:  # the classes of a row are not adjacent: by way of a copy
        matrix = as_matrix(logits).contiguous()
        inner = None if gradient is None else torch.empty_like(matrix)
        run(matrix, q, valid, z_loss, gradient=inner, factor=factor, divisor=divisor, losses=losses, nll=nll)
        if gradient is not None and inner is not None:
            shaped = inner
            if gradient.dim() == 3:
                shaped = inner.reshape(len(gradient), gradient.shape[2], gradient.shape[1]).movedim(-1, 1)
            gradient.copy_(shaped)
        return
    dtype = accumulation_dtype(logits.dtype)
    base = None if q.base is None else q.base.detach().to(dtype).contiguous()
    kind = UNIFORM if base is None else ROWS_OF if q.rows else BY_LABEL if base.dim() == 2 else PRIOR
    valid = None if valid is None else valid.contiguous().view(torch.uint8)
    index = None if q.index is None else q.index.contiguous()
    parts: Tensor | None = None
    if isinstance(divisor, Tensor) and divisor.device == logits.device:
        parts = divisor.detach().reshape(1)
    elif divisor != 1.0:
        divisor = float(divisor)
        factor = factor / divisor if divisor else factor * float("inf")
    numbers = tuple(_number(value, logits, dtype) for value in (q.keep, q.scale, factor))
    coefficient = None if z_loss == 0.0 else _number(z_loss, logits, dtype)[0]
    _rows(logits, gradient, index, -1, numbers, (base, kind), valid, parts, coefficient, losses, nll)


def _number(value: float | Tensor, logits: Tensor, dtype: torch.dtype) -> Number:
    if isinstance(value, Tensor) and value.device.type == "cpu" != logits.device.type:
        value = value.item()
    if not isinstance(value, Tensor):
        if dtype == torch.float64:  # an argument would be rounded to float32
            return torch.full((1,), value, dtype=dtype, device=logits.device), ONE
        return float(value), NUMBER
    value = value.detach().to(dtype).contiguous()
    return value, EACH if value.dim() and value.numel() == len(logits) else ONE


def _rows(
    logits: Tensor, gradient: Tensor | None, labels: Tensor | None, ignore_index: int, numbers: tuple[Number, ...],
    base: tuple[Tensor | None, int], valid: Tensor | None, divisor: Tensor | None, z_loss: float | Tensor | None,
    losses: Tensor, nll: Tensor | None, each_counts: bool = False, mean: bool = False, counters: Tensor | None = None,
) -> None:  # fmt: skip
    """Launches of the kernel for [N, K] logits whose classes are adjacent."""
    rows, classes = logits.shape
    if not rows:
        return
    itemsize = logits.element_size()
    form = form_of(classes, itemsize)
    z_stride = logits.stride(0)
    g_stride = z_stride if gradient is None else gradient.stride(0)
    vector = 16 // itemsize
    if (z_stride - g_stride) % vector or form.block < 4 * vector or classes < vector:
        vector = 1
    ends = vector > 1 and bool(classes % vector or z_stride % vector)
    halves: tuple[int, ...] = (ALONE,)
    published: Tensor | None = None
    if form.group > 1:
        published = losses.new_empty(rows * form.group * kernel.PUBLISHED.value)
        halves = (LAST,) if gradient is None else (WAIT,) if _may_wait(logits.device, form.group) else (PUBLISH, FINISH)
        if counters is None and halves != (PUBLISH, FINISH):
            counters = torch.zeros(rows + 1, dtype=torch.int32, device=logits.device)
    valid_stride = classes if valid is not None and valid.dim() == 2 else 0
    (keep, keep_how), (scale, scale_how), (factor, factor_how) = numbers
    arguments = (
        logits, z_stride, gradient, g_stride, labels, ignore_index, keep, scale, base[0], valid, valid_stride, factor,
        divisor, 0 if divisor is None else divisor.numel(), z_loss, losses, nll, published, counters, rows, classes,
    )  # fmt: skip
    kinds = (
        logits.dtype, gradient is None, labels is None, valid is None, None if divisor is None else divisor.dtype,
        type(z_loss), nll is None, counters is None,
    )  # fmt: skip
    count = LABELS if each_counts else UNDIVIDED if divisor is None else PARTS
    for half in halves:
        constants = (
            keep_how, scale_how, factor_how, base[1], count, mean, kernel.SUM_TYPES[losses.dtype], vector, ends,
            form.rows, form.block, form.group, 1 << (form.group - 1).bit_length(), half,
        )  # fmt: skip
        programs = -(-rows // form.rows) * form.group
        _launch(kernel.smoothed_rows, (programs,), kinds, arguments, constants, form.warps, form.registers)


def few(
    logits: Tensor, gradient: Tensor | None, labels: Tensor, ignore_index: int, epsilon: float, mean: bool
) -> Tensor:
    """The loss of uniformly smoothed rows, and their gradient (unless None): at most three launches.

    The rows; before them, for more than a few labels, how many count; and the sum of the losses.

    Args:
        logits, gradient: [N, K] with the classes of a row adjacent in memory.
    """
    rows, wide = len(logits), accumulation_dtype(logits.dtype)
    each_counts = mean and rows <= COUNT_LANES  # each program counts the labels: faster than another launch
    is_divided = mean and not each_counts
    parts, counters = None, None
    if is_divided or form_of(logits.shape[1], logits.element_size()).group > 1:
        counters = torch.empty(rows + 1, dtype=torch.int32, device=logits.device)
        counts = _survey(labels, None, counters, ignore_index, logits.shape[1])
        parts = counts if is_divided else None
    losses = torch.empty(rows, dtype=wide, device=logits.device)
    numbers: tuple[Number, ...] = ((1.0 - epsilon, NUMBER), (epsilon, NUMBER), (1.0, NUMBER))
    if wide == torch.float64:
        numbers = tuple(_number(value, logits, wide) for value, _ in numbers)
    _rows(
        logits, gradient, labels, ignore_index, numbers, (None, UNIFORM), None, parts, None, losses, None, each_counts,
        mean, counters,
    )  # fmt: skip
    return losses.sum()


def survey(labels: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """[N] int64 labels as the index of a Target, and how many are not ignored, on the device."""
    index = torch.empty_like(labels, memory_format=torch.contiguous_format)
    counts = _survey(labels.contiguous(), index, None, ignore_index, num_classes)
    return index, counts[0] if len(counts) == 1 else counts.sum()


def _survey(
    labels: Tensor, index: Tensor | None, counters: Tensor | None, ignore_index: int, num_classes: int
) -> Tensor:
    """Launch :func:`rows_triton.survey`; at most COUNT_LANES numbers whose sum is how many labels are not ignored."""
    rows = len(labels)
    programs = -(-rows // SURVEY_BLOCK)
    counts = torch.empty(programs, dtype=torch.int32, device=labels.device)
    if not rows:
        return counts.new_zeros(1)
    arguments = (labels, index, counts, counters, ignore_index, rows, num_classes)
    _launch(kernel.survey, (programs,), (index is None, counters is None), arguments, (SURVEY_BLOCK,), 4)
    return counts if programs <= COUNT_LANES else counts.sum(dtype=torch.int32)[None]


def scale(gradient: Tensor, upstream: Tensor) -> Tensor:
    """gradient *= upstream, a number or one for each row, without synchronizing; where it is 1 nothing is written."""
    if gradient.dim() != 2 or gradient.stride(1) != 1:
        return gradient.mul_(row_factor(upstream, gradient))
    rows, classes = gradient.shape
    if rows:
        block = min(max(128, 1 << (classes - 1).bit_length()), 4096)
        # Enough programs for the device, each with several pieces.
        down = min(rows, 2048)
        across = max(1, min(-(-classes // block), 2048 // down))
        arguments = (gradient, gradient.stride(0), upstream.contiguous(), rows, classes)
        kind = EACH if upstream.dim() else ONE
        kinds = (gradient.dtype, upstream.dtype)
        _launch(kernel.scale_rows, (down, across), kinds, arguments, (kind, block), max(1, min(8, block // 512)))
    return gradient
