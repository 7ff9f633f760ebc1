"""The cross-entropy of rows and its gradient with each logit read once: the CUDA kernel, in Triton.

Where a row fits into the registers of one program, the program reads it once, keeps it there, and writes the gradient
(GROUP = 1).  Longer rows are shared by a group of programs.  Each reads its part and publishes

    max,  sum exp(z - max),  <base, z - max>,  sum(base),  z_label

of it, waits until all of its group have, and finishes with its part still in registers.  A program's place is the
ticket that it draws when it starts, not its program id: those that wait are then older than those not yet started, so
at most one group of a launch has members that are not running, and nothing waits without end as long as a group fits on
the device.  Where programs cannot wait (the interpreter, devices with few processors) the two halves are two launches.

Rows of odd length do not start at multiples of 16 bytes, and loads of 16 bytes must.  So the lanes of a program start
at the first such address of the row, and the few classes before it and after the last whole vector, the ends, are
lanes of their own.

Epsilon, factor and z-loss are arguments at run time, so a new value compiles nothing; offsets are 64-bit.  A label out
of range is not read: its row is NaN.
"""

# Triton infers the types of what it compiles.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"
# It compiles each branch of a condition that is known then, where an expression would need both.
# ruff: noqa: SIM108, SIM109, SIM300

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["SUM_TYPES", "scale_rows", "smoothed_rows", "survey"]

SUM_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}

# How a number is given: as an argument, or in memory, one for all rows or one for each.
NUMBER, ONE, EACH = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
UNIFORM, PRIOR, BY_LABEL, ROWS_OF = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
# What the mean divides by: nothing, the labels that count, or the sum of numbers in memory.
UNDIVIDED, LABELS, PARTS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
# The halves: both for a group of one; the first; the second; both with a wait between; the first, and the losses by the
# last program of the group.
ALONE, PUBLISH, FINISH, WAIT, LAST = (
    tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3), tl.constexpr(4),
)  # fmt: skip
PUBLISHED = tl.constexpr(5)  # numbers
COUNT_LANES = tl.constexpr(1024)


@triton.jit
def _of_rows(value, row, here, HOW: tl.constexpr, WIDE: tl.constexpr):
    """A number, or numbers in memory, as one for each row."""
    if HOW == NUMBER:
        numbers = tl.zeros(row.shape, WIDE) + value
    elif HOW == ONE:
        numbers = tl.zeros(row.shape, WIDE) + tl.load(value).to(WIDE)
    else:
        numbers = tl.load(value + row, mask=here, other=0.0).to(WIDE)
    return numbers


@triton.jit
def _read(places, valid_pointer, valid_start, k, here):
    """Logits as they are stored, -inf where there is no valid class; and where there is one."""
    if valid_pointer is not None:
        here = here & (tl.load((valid_pointer + valid_start)[:, None] + k, mask=here, other=0) != 0)
    return tl.load(places, mask=here, other=float("-inf")), here


@triton.jit
def _sums(
    z, here, k, label, reference, base_pointer, base_start, share, BASE: tl.constexpr, MASKED: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Of each row: sum exp(z - reference), <base, z - reference>, sum(base) and the logit of the label."""
    z = z.to(WIDE)
    shifted = z - reference[:, None]
    if BASE == UNIFORM:
        dot = share * tl.sum(tl.where(here, shifted, 0.0), 1)
        if MASKED:
            total = share * tl.sum(here.to(WIDE), 1)
        else:
            total = dot * 0.0  # known without counting
    else:
        b = tl.load((base_pointer + base_start)[:, None] + k, mask=here, other=0.0).to(WIDE)
        # An entry of 0 leaves its logit out, also -inf.
        dot = tl.sum(tl.where(b == 0.0, 0.0, b * shifted), 1)
        total = tl.sum(b, 1)
    z_label = tl.max(tl.where(k == label[:, None], z, float("-inf")), 1)
    return tl.sum(tl.exp(shifted), 1), dot, total, z_label


@triton.jit
def _gradient(
    z, reference, here, k, label, of_p, scale, keep, factor, counted, base_pointer, base_start, share,
    BASE: tl.constexpr, MASKED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    if BASE == UNIFORM:
        of_base = (scale * share)[:, None]
    else:
        of_base = scale[:, None] * tl.load((base_pointer + base_start)[:, None] + k, mask=here, other=0.0).to(WIDE)
    # Of a row in one program the exponentials are still in registers; a part of a row would hold them through the wait.
    e = tl.exp(z.to(WIDE) - reference[:, None])
    g = of_p[:, None] * e - of_base - tl.where(k == label[:, None], keep[:, None], 0.0)
    written = counted[:, None]
    if MASKED:
        written = written & here
    return tl.where(written, g * factor[:, None], 0.0)


@triton.jit(do_not_specialize=[
    "z_stride", "g_stride", "ignore_index", "valid_stride", "parts", "num_rows", "num_classes",
])  # fmt: skip
def smoothed_rows(
    z_pointer, z_stride, g_pointer, g_stride, label_pointer, ignore_index, keep, scale, base_pointer, valid_pointer,
    valid_stride, factor, divisor_pointer, parts, z_loss, loss_pointer, nll_pointer, published_pointer, counter_pointer,
    num_rows, num_classes,
    KEEP: tl.constexpr, SCALE: tl.constexpr, FACTOR: tl.constexpr, BASE: tl.constexpr, COUNT: tl.constexpr,
    MEAN: tl.constexpr, WIDE: tl.constexpr, VECTOR: tl.constexpr, ENDS: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, GROUP: tl.constexpr, GROUP_LANES: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Losses, unsmoothed losses and gradients; missing tensors are None.

    VECTOR: numbers in a load of 16 bytes, or 1 where the rows of the gradient are aligned differently.
    ROWS: rows of a program, each of at most BLOCK classes; 1 in a group.
    """
    place = tl.program_id(0)
    if HALF == WAIT:
        place = tl.atomic_add(counter_pointer, 1, sem="relaxed")
    part = place % GROUP
    first_row = (place // GROUP).to(tl.int64) * ROWS
    row = first_row + tl.arange(0, ROWS)
    row_here = row < num_rows
    label = tl.full(row.shape, -1, tl.int64)
    counted = row_here
    broken = tl.zeros(row.shape, WIDE)
    if label_pointer is not None:
        label = tl.load(label_pointer + row, mask=row_here, other=0)
        counted = label != ignore_index
        outside = counted & ((label < 0) | (label >= num_classes))
        broken = tl.where(outside, float("nan"), 0.0).to(WIDE)
        label = tl.where(outside | (label < 0), 0, label)
    label_k = label.to(tl.int32)
    share = 1.0 / tl.full((), num_classes, WIDE)
    base_start = tl.zeros(row.shape, tl.int64)
    if BASE == BY_LABEL:
        base_start = label * num_classes
    if BASE == ROWS_OF:
        base_start = row * num_classes
    valid_start = row * valid_stride

    # Written so that the compiler sees multiples of VECTOR, in addresses and in masks.
    z_start = row * z_stride
    if ENDS:
        middle_start = (z_start + (VECTOR - 1)) // VECTOR * VECTOR
        head = (middle_start - z_start).to(tl.int32)
    else:
        middle_start = z_start // VECTOR * VECTOR
        head = tl.zeros(row.shape, tl.int32)
    middle = (num_classes - head) // VECTOR * VECTOR
    lane = part * BLOCK + tl.arange(0, BLOCK)
    in_row = (lane[None, :] < middle[:, None]) & row_here[:, None]
    k = lane[None, :] + head[:, None]
    # A pointer for each row and 32-bit offsets from it: fewer registers than 64-bit places.
    z_middle = (z_pointer + middle_start)[:, None] + lane[None, :]
    z, here = _read(z_middle, valid_pointer, valid_start, k, in_row)
    largest = tl.max(z.to(WIDE), 1)
    if ENDS:
        end = tl.arange(0, 2 * VECTOR)[None, :]
        end_k = tl.where(end < VECTOR, end, end + (head + middle)[:, None] - VECTOR)
        end_in_row = ((end < head[:, None]) | ((end >= VECTOR) & (end_k < num_classes))) & row_here[:, None]
        end_in_row = end_in_row & (part == 0)
        end_places = (z_pointer + z_start)[:, None] + end_k
        end_z, end_here = _read(end_places, valid_pointer, valid_start, end_k, end_in_row)
        largest = tl.maximum(largest, tl.max(end_z.to(WIDE), 1))
    # Where there is no finite logit nothing is subtracted: -inf - -inf would be NaN.
    reference = tl.where(largest == float("-inf"), 0.0, largest)
    MASKED: tl.constexpr = valid_pointer is not None
    sum_e, dot, total, z_label = _sums(
        z, here, k, label_k, reference, base_pointer, base_start, share, BASE, MASKED, WIDE
    )
    if ENDS:
        end_sum, end_dot, end_total, end_label = _sums(
            end_z, end_here, end_k, label_k, reference, base_pointer, base_start, share, BASE, MASKED, WIDE
        )
        sum_e, dot, total, z_label = sum_e + end_sum, dot + end_dot, total + end_total, tl.maximum(z_label, end_label)
    if BASE == UNIFORM and not MASKED:
        of_part = tl.minimum(tl.maximum(middle - part * BLOCK, 0), BLOCK)
        if ENDS:
            of_part += tl.where(part == 0, num_classes - middle, 0)
        total = share * of_part.to(WIDE)

    writes = row_here
    if GROUP > 1:
        if HALF != FINISH:
            mine = published_pointer + (first_row * GROUP + part) * PUBLISHED
            # As scalars: one thread stores them, and the same one adds to the counter, which releases them.
            tl.store(mine, tl.sum(largest, 0))
            tl.store(mine + 1, tl.sum(sum_e, 0))
            tl.store(mine + 2, tl.sum(dot, 0))
            tl.store(mine + 3, tl.sum(total, 0))
            tl.store(mine + 4, tl.max(z_label, 0))
        if HALF == WAIT or HALF == LAST:
            ready = tl.atomic_add(counter_pointer + 1 + first_row, 1, sem="acq_rel") + 1
            if HALF == LAST:
                writes = writes & (ready == GROUP)
            else:
                writes = writes & (part == 0)
                while ready < GROUP:
                    ready = tl.atomic_add(counter_pointer + 1 + first_row, 0, sem="acquire")
        else:
            writes = writes & (part == 0)
        if HALF != PUBLISH:
            member = tl.arange(0, GROUP_LANES)
            is_member = member < GROUP
            theirs = published_pointer + (first_row * GROUP + member) * PUBLISHED
            # volatile: past the first-level cache, which may hold what was there before they published.
            maxima = tl.load(theirs, mask=is_member, other=float("-inf"), volatile=True)
            sums = tl.load(theirs + 1, mask=is_member, other=0.0, volatile=True)
            dots = tl.load(theirs + 2, mask=is_member, other=0.0, volatile=True)
            totals = tl.load(theirs + 3, mask=is_member, other=0.0, volatile=True)
            labels = tl.load(theirs + 4, mask=is_member, other=float("-inf"), volatile=True)
            largest_of_all = tl.max(maxima, 0)
            common = tl.where(largest_of_all == float("-inf"), 0.0, largest_of_all)
            references = tl.where(maxima == float("-inf"), 0.0, maxima)
            reference = tl.zeros(row.shape, WIDE) + common
            sum_e = tl.zeros(row.shape, WIDE) + tl.sum(sums * tl.exp(maxima - common), 0)
            dot = tl.zeros(row.shape, WIDE) + tl.sum(dots + totals * (references - common), 0)
            total = tl.zeros(row.shape, WIDE) + tl.sum(totals, 0)
            z_label = tl.zeros(row.shape, WIDE) + tl.max(labels, 0)
    if HALF != PUBLISH:
        keep_of = _of_rows(keep, row, row_here, KEEP, WIDE)
        if label_pointer is None:
            keep_of = tl.zeros(row.shape, WIDE)
        scale_of = _of_rows(scale, row, row_here, SCALE, WIDE)
        factor_of = _of_rows(factor, row, row_here, FACTOR, WIDE)
        if COUNT != UNDIVIDED:
            i = tl.arange(0, COUNT_LANES)
            if COUNT == LABELS:
                counts = tl.load(label_pointer + i, mask=i < num_rows, other=ignore_index) != ignore_index
            else:
                counts = tl.load(divisor_pointer + i, mask=i < parts, other=0)
            factor_of = factor_of / tl.sum(counts.to(WIDE), 0)
        if BASE == UNIFORM and not MASKED:
            total = tl.full(row.shape, 1.0, WIDE)
        log_sum = tl.log(sum_e)
        lse = reference + log_sum
        at_label = z_label - reference
        mass = keep_of + tl.where(scale_of == 0.0, 0.0, scale_of * total)
        # A zero coefficient leaves its term out: 0 * inf would be NaN where plain cross-entropy is finite.
        loss = mass * log_sum - tl.where(keep_of == 0.0, 0.0, keep_of * at_label)
        loss -= tl.where(scale_of == 0.0, 0.0, scale_of * dot)
        of_p = mass / sum_e
        if z_loss is not None:
            if WIDE == tl.float64:  # an argument would be rounded to float32
                z_loss = tl.load(z_loss)
            loss += z_loss * lse * lse
            of_p += 2.0 * z_loss * lse / sum_e
        loss = tl.where(counted, loss + broken, 0.0)
        if MEAN:
            loss = loss * factor_of
        tl.store(loss_pointer + row, loss, mask=writes)
        if nll_pointer is not None:
            tl.store(nll_pointer + row, tl.where(counted, log_sum - at_label + broken, 0.0), mask=writes)
        if g_pointer is not None:
            factor_of = factor_of + broken
            g_start = row * g_stride
            if ENDS:
                g_middle = (g_start + (VECTOR - 1)) // VECTOR * VECTOR
            else:
                g_middle = g_start // VECTOR * VECTOR
            g = _gradient(
                z, reference, here, k, label_k, of_p, scale_of, keep_of, factor_of, counted, base_pointer,
                base_start, share, BASE, MASKED, WIDE,
            )  # fmt: skip
            tl.store((g_pointer + g_middle)[:, None] + lane[None, :], g.to(g_pointer.dtype.element_ty), mask=in_row)
            if ENDS:
                g = _gradient(
                    end_z, reference, end_here, end_k, label_k, of_p, scale_of, keep_of, factor_of, counted,
                    base_pointer, base_start, share, BASE, MASKED, WIDE,
                )  # fmt: skip
                g_places = (g_pointer + g_start)[:, None] + end_k
                tl.store(g_places, g.to(g_pointer.dtype.element_ty), mask=end_in_row)


@triton.jit(do_not_specialize=["g_stride", "num_rows", "num_classes"])
def scale_rows(
    g_pointer, g_stride, upstream_pointer, num_rows, num_classes, UPSTREAM: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """g *= upstream; rows whose upstream gradient is 1 are neither read nor written."""
    for number in range(tl.program_id(0), num_rows, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + number
        if UPSTREAM == EACH:
            upstream = tl.load(upstream_pointer + row)
        else:
            upstream = tl.load(upstream_pointer)
        if upstream != 1.0:
            for start in range(tl.program_id(1) * BLOCK, num_classes, tl.num_programs(1) * BLOCK):
                k = start + tl.arange(0, BLOCK)
                places = g_pointer + row * g_stride + k
                g = tl.load(places, mask=k < num_classes, other=0.0)
                tl.store(places, (g.to(upstream.dtype) * upstream).to(g.dtype), mask=k < num_classes)


@triton.jit(do_not_specialize=["ignore_index", "num_rows", "num_classes"])
def survey(
    label_pointer, index_pointer, count_pointer, counter_pointer, ignore_index, num_rows, num_classes,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Labels as the index of a Target, how many of each program's count, and zeros for the counters of groups."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = i < num_rows
    label = tl.load(label_pointer + i, mask=here, other=ignore_index)
    counted = label != ignore_index
    tl.store(count_pointer + tl.program_id(0), tl.sum(counted.to(tl.int32), 0))
    if index_pointer is not None:
        index = tl.where((label < 0) | (label >= num_classes), -2, label)
        tl.store(index_pointer + i, tl.where(counted, index, -1), mask=here)
    if counter_pointer is not None:
        tl.store(counter_pointer + 1 + i, tl.zeros(i.shape, tl.int32), mask=here)
        if tl.program_id(0) == 0:
            tl.store(counter_pointer, 0)
