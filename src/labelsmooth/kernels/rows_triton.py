"""The cross-entropy of rows and its gradient with each logit read once: the CUDA kernel, in Triton.

Where a row fits into the registers of one program, the program reads it once, keeps it there, and writes the gradient
(GROUP = 1).  Longer rows are shared by a group of programs.  Each reads its part and publishes

    max,  sum exp(z - max),  <base, z - max>,  sum(base)

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
LOG2_E = tl.constexpr(1.4426950408889634)


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
def _read(places, valid_places, here):
    """Logits as they are stored, -inf where there is no valid class; and where there is one."""
    if valid_places is not None:
        here = here & (tl.load(valid_places, mask=here, other=0) != 0)
    return tl.load(places, mask=here, other=float("-inf")), here


@triton.jit
def _of_ends(x, ROWS: tl.constexpr):
    """Numbers of rows beside their ends: the number itself for one row, a column for several.

    As a tensor of one number it would give the ends the layout of the middle, and each thread would hold as many of
    the ends as it does of the middle.
    """
    if ROWS == 1:
        beside = tl.sum(x, 0)
    else:
        beside = x[:, None]
    return beside


@triton.jit
def _exp(x):
    return tl.exp2(x * LOG2_E)  # tl.exp keeps denormal results, which takes three more instructions for each


@triton.jit
def _sums(
    z, here, reference, base_places, share, AXIS: tl.constexpr, MASKED: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """e = exp(z - reference), and of each row the sum of e, <base, z - reference> and sum(base)."""
    shifted = z.to(WIDE) - reference
    if base_places is None:
        dot = share * tl.sum(tl.where(here, shifted, 0.0), AXIS)
        if MASKED:
            total = share * tl.sum(here.to(WIDE), AXIS)
        else:
            total = dot * 0.0  # known without counting
    else:
        b = tl.load(base_places, mask=here, other=0.0).to(WIDE)
        # An entry of 0 leaves its logit out, also -inf.
        dot = tl.sum(tl.where(b == 0.0, 0.0, b * shifted), AXIS)
        total = tl.sum(b, AXIS)
    e = _exp(shifted)
    return e, tl.sum(e, AXIS), dot, total


@triton.jit
def _store_gradient(
    g_places, e, in_row, here, counted, of_e, of_base, base_places, MASKED: tl.constexpr, LABELED: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Of rows that count, of_e e - of_base base; zeros in the others, whatever their logits are."""
    from_base = of_base
    if base_places is not None:
        from_base *= tl.load(base_places, mask=here, other=0.0).to(WIDE)
    g = of_e * e - from_base
    if MASKED:
        g = tl.where(here, g, 0.0)
    g = g.to(g_places.dtype.element_ty)
    if LABELED:  # two stores instead of a selection for each number
        tl.store(g_places, g, mask=in_row & counted)
        tl.store(g_places, tl.zeros(g.shape, g.dtype), mask=in_row & ~counted)
    else:
        tl.store(g_places, g, mask=in_row)


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
    LABELED: tl.constexpr = label_pointer is not None
    MASKED: tl.constexpr = valid_pointer is not None
    first_row = (place // GROUP).to(tl.int64) * ROWS
    row = first_row + tl.arange(0, ROWS)
    row_here = row < num_rows
    label = tl.full(row.shape, -1, tl.int64)
    counted = row_here
    broken = tl.zeros(row.shape, WIDE)
    if LABELED:
        label = tl.load(label_pointer + row, mask=row_here, other=0)
        counted = label != ignore_index
        outside = counted & ((label < 0) | (label >= num_classes))
        broken = tl.where(outside, float("nan"), 0.0).to(WIDE)
        label = tl.where(outside | (label < 0), 0, label)
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
    z_places = (z_pointer + middle_start)[:, None] + lane[None, :]
    valid_places = None
    if MASKED:
        valid_places = (valid_pointer + valid_start)[:, None] + k
    base_places = None
    if BASE != UNIFORM:
        base_places = (base_pointer + base_start)[:, None] + k
    z, here = _read(z_places, valid_places, in_row)
    z_label = tl.zeros(row.shape, WIDE)
    label_valid = row_here
    if LABELED:
        # Before a gradient in place can overwrite it.
        z_label = tl.load(z_pointer + z_start + label, mask=row_here, other=0.0).to(WIDE)
        if MASKED:
            label_valid = tl.load(valid_pointer + valid_start + label, mask=row_here, other=0) != 0
            z_label = tl.where(label_valid, z_label, float("-inf"))
    largest = tl.max(z.to(WIDE), 1)
    if ENDS:
        # The first program of a group has them.
        end = tl.arange(0, 2 * VECTOR)
        if ROWS > 1:
            end = end[None, :]
        end_k = tl.where(end < VECTOR, end, end + _of_ends(head + middle, ROWS) - VECTOR)
        end_in_row = (end < _of_ends(head, ROWS)) | ((end >= VECTOR) & (end_k < num_classes))
        end_in_row = end_in_row & (_of_ends(row, ROWS) < num_rows) & (part == 0)
        end_valid_places = None
        if MASKED:
            end_valid_places = valid_pointer + _of_ends(valid_start, ROWS) + end_k
        end_base_places = None
        if BASE != UNIFORM:
            end_base_places = base_pointer + _of_ends(base_start, ROWS) + end_k
        end_z, end_here = _read(z_pointer + _of_ends(z_start, ROWS) + end_k, end_valid_places, end_in_row)
        END_AXIS: tl.constexpr = 1 if ROWS > 1 else 0
        largest = tl.maximum(largest, tl.max(end_z.to(WIDE), END_AXIS))
    # Where there is no finite logit nothing is subtracted: -inf - -inf would be NaN.
    reference = tl.where(largest == float("-inf"), 0.0, largest)
    e, sum_e, dot, total = _sums(z, here, reference[:, None], base_places, share, 1, MASKED, WIDE)
    if ENDS:
        end_e, end_sum, end_dot, end_total = _sums(
            end_z, end_here, _of_ends(reference, ROWS), end_base_places, share, END_AXIS, MASKED, WIDE
        )
        sum_e, dot, total = sum_e + end_sum, dot + end_dot, total + end_total
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
            if HALF == PUBLISH:
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
            if HALF == FINISH:
                z_label = tl.load(published_pointer + row * GROUP * PUBLISHED + 4)
            largest_of_all = tl.max(maxima, 0)
            common = tl.where(largest_of_all == float("-inf"), 0.0, largest_of_all)
            references = tl.where(maxima == float("-inf"), 0.0, maxima)
            reference = tl.zeros(row.shape, WIDE) + common
            sum_e = tl.zeros(row.shape, WIDE) + tl.sum(sums * _exp(maxima - common), 0)
            dot = tl.zeros(row.shape, WIDE) + tl.sum(dots + totals * (references - common), 0)
            total = tl.zeros(row.shape, WIDE) + tl.sum(totals, 0)
    if HALF != PUBLISH:
        keep_of = _of_rows(keep, row, row_here, KEEP, WIDE)
        if not LABELED:
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
            of_p *= factor_of
            of_e = of_p
            if GROUP > 1:
                of_e *= _exp(largest - reference)  # e is relative to the part's own maximum
            of_base = scale_of * factor_of
            if BASE == UNIFORM:
                of_base *= share
            g_start = row * g_stride
            if ENDS:
                g_middle = (g_start + (VECTOR - 1)) // VECTOR * VECTOR
            else:
                g_middle = g_start // VECTOR * VECTOR
            _store_gradient(
                (g_pointer + g_middle)[:, None] + lane[None, :], e, in_row, here, counted[:, None], of_e[:, None],
                of_base[:, None], base_places, MASKED, LABELED, WIDE,
            )  # fmt: skip
            if ENDS:
                _store_gradient(
                    g_pointer + _of_ends(g_start, ROWS) + end_k, end_e, end_in_row, end_here,
                    _of_ends(counted.to(tl.int32), ROWS) != 0, _of_ends(of_e, ROWS), _of_ends(of_base, ROWS),
                    end_base_places, MASKED, LABELED, WIDE,
                )  # fmt: skip
            if LABELED:  # written again with the label's part: a comparison for each number would take longer
                from_base = of_base
                if BASE != UNIFORM:
                    from_base *= tl.load(base_pointer + base_start + label, mask=row_here, other=0.0).to(WIDE)
                g_label = of_p * _exp(z_label - reference) - from_base - keep_of * factor_of
                mine_too = counted & label_valid
                if GROUP > 1:
                    after_head = label.to(tl.int32) - head
                    in_middle = (after_head >= 0) & (after_head < middle)
                    mine_too = mine_too & tl.where(in_middle, after_head // BLOCK == part, part == 0)
                tl.debug_barrier()  # the row is written
                tl.store(g_pointer + g_start + label, g_label.to(g_pointer.dtype.element_ty), mask=mine_too)


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
