"""The cross-entropy of each row and its gradient in one pass through the cache: the CPU kernel, in numba.

A row is read from memory once.  First its maximum is computed; then exp(z - max) is written to the gradient, summed;
then it is scaled and the target subtracted, while it is still in cache:

    loss = mass * log(s) - keep * (z_y - max) - scale * <base, z - max>,         s = sum_k exp(z_k - max)
    dz_k = factor * (mass * exp(z_k - max) / s - keep * [k = y] - scale * base_k)

Subtracting the maximum in every term costs nothing and keeps the digits that lse - z_y would lose at large logits.
Tensors are passed as addresses, with strides in elements: a numpy array for each costs more than a small problem takes.

On fast-math: functions that sum allow reassociation, which vectorizes the sums.  None assumes that there is no NaN or
infinity, and the exponential, whose rounding trick reassociation would remove, allows contraction (fused multiply-add)
only.

All compiled functions are in this file, since numba's cache compares the time stamp of one file: a change in another
one that they call would go unnoticed.
"""

# numba infers the types of what it compiles.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, attr-defined, var-annotated"

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic, overload

from labelsmooth.kernels.compiling import announce

__all__ = [
    "BASE_BY_LABEL",
    "BASE_PRIOR",
    "BASE_ROWS",
    "BASE_UNIFORM",
    "few_bfloat_rows",
    "few_rows",
    "rows_gathered",
    "rows_in_place",
    "survey",
]

BASE_UNIFORM, BASE_PRIOR, BASE_BY_LABEL, BASE_ROWS = 0, 1, 2, 3
# Sums are in the logits' own precision within a block and in float64 over the blocks: nearly as fast as the first
# and nearly as accurate as the second.
BLOCK = 256
# Rows gathered at a time if the classes of a row are not adjacent, as in (N, K, d1, ...): 64 floats are four cache
# lines, and a tile has at most this many elements so that it stays in the second-level cache.
TILE_ROWS, TILE_ELEMENTS = 64, 1 << 16


class SafeCache:
    """numba's cache of a function, which recompiles what cannot be read, and warns once where nothing can be written.

    Without it a truncated file raises in every process until it is deleted, and so does a full disk.
    """

    is_usable = True  # of all functions: if one cannot be written, the others cannot either

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        compiled_function = None
        try:
            compiled_function = self._cache.load_overload(*arguments) if SafeCache.is_usable else None
        except Exception:
            self._write(self._cache.flush)  # an empty index, so that the next process can read it
        if compiled_function is None:
            announce()
        return compiled_function

    def save_overload(self, *arguments: Any) -> None:
        self._write(self._cache.save_overload, *arguments)

    def _write(self, write: Callable[..., None], *arguments: Any) -> None:
        try:
            if SafeCache.is_usable:
                write(*arguments)
        except Exception as error:
            SafeCache.is_usable = False
            warnings.warn(
                f"the compiled CPU kernel cannot be cached in {self._cache.cache_path} ({type(error).__name__}: "
                f"{error}), so each process compiles it again. Free space there, or set NUMBA_CACHE_DIR to a folder.",
                RuntimeWarning,
                stacklevel=2,
            )


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """njit without the GIL, cached on disk if there is a folder that can be written to."""
    if function is None:
        return lambda inner: compiled(inner, **options)
    try:
        dispatcher = njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written: compiled in each process
        return njit(nogil=True, error_model="numpy", **options)(function)
    if hasattr(dispatcher, "_cache"):
        dispatcher._cache = SafeCache(dispatcher._cache)
    return dispatcher


SUMS = {"reassoc", "contract", "nsz"}
summing = compiled(fastmath=SUMS)


@intrinsic
def _pointer(typing_context, address, offset, like):
    """A pointer to value number ``offset`` at an address, for values of the type of ``like``."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], context.get_value_type(signature.return_type))
        return builder.gep(start, [args[1]])

    return types.CPointer(like)(types.int64, types.int64, like), codegen


@intrinsic
def _bits(typing_context, value, like):
    """The bits of a number read as a number of the type of ``like``, which is as wide."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(like))

    return like(value, like), codegen


@compiled
def _array(address, offset, size, like):
    """``size`` values of the type of ``like`` at an address, from number ``offset``, as an array."""
    return carray(_pointer(address, offset, like), (size,))


# --- exp ------------------------------------------------------------------------------------------------------------
# exp(x) = 2^n * exp(r) with n = round(x / ln 2) and r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2], for x <= 0.  Adding
# 1.5 * 2^(mantissa bits) rounds to an integer and leaves n in the low bits, from where a shift makes it the exponent
# of 2^n.  ln 2 is split in two so that n * ln2_high is exact.  exp(r) = 1 + r + r^2 q(r), where q is the minimax
# polynomial of (exp(r) - 1 - r) / r^2 on that interval (Remez; relative error of exp 1.1e-8 and 1.8e-17, a fifth of
# half a unit in the last place).  Below the smallest normal number the result is 0.  A NaN makes n meaningless and r
# NaN, and NaN times anything is NaN.

F32 = np.float32
MAGIC_32, INV_LN2_32, LN2_HIGH_32, LN2_LOW_32 = (
    F32(12582912.0),
    F32(1.4426950408889634),
    F32(0.693359375),
    F32(-2.12194440e-4),
)
SMALLEST_32 = F32(-87.33654)
P0, P1, P2 = F32(0.500000002710632433), F32(0.166665766464726509), F32(0.0416663740264268737)
P3, P4 = F32(0.00836323508418030635), F32(0.00139412221446118751)
BIAS_32, SHIFT_32 = np.int32(127), np.int32(23)

MAGIC_64, INV_LN2_64, LN2_HIGH_64, LN2_LOW_64 = (
    6755399441055744.0,
    1.4426950408889634,
    0.693147180369123816490,
    1.90821492927058770002e-10,
)
SMALLEST_64 = -708.3964185322641
Q0, Q1, Q2, Q3, Q4 = 0.5, 0.166666666666666746, 0.0416666666666238198, 0.00833333333332213905, 0.00138888889173672463
Q5, Q6, Q7 = 0.000198412698867918067, 0.0000248015210578191333, 2.75572421174660951e-6
Q8, Q9 = 2.76202015726275234e-7, 2.51101303232220298e-8


def _exp(x: Any) -> Any:
    """exp(x) for x <= 0, in x's precision."""


@overload(_exp, jit_options={"fastmath": {"contract"}})
def _exp_of(x):
    if x == types.float32:

        def exp_32(x):
            t = x * INV_LN2_32 + MAGIC_32
            n = t - MAGIC_32
            r = (x - n * LN2_HIGH_32) - n * LN2_LOW_32
            q = P0 + r * (P1 + r * (P2 + r * (P3 + r * P4)))
            p = F32(1.0) + (r + (r * r) * q)
            power = np.int32((_bits(t, np.int32(0)) + BIAS_32) << SHIFT_32)
            value = p * _bits(power, F32(0.0))
            return F32(0.0) if x < SMALLEST_32 else value

        return exp_32

    def exp_64(x):
        t = x * INV_LN2_64 + MAGIC_64
        n = t - MAGIC_64
        r = (x - n * LN2_HIGH_64) - n * LN2_LOW_64
        q = Q5 + r * (Q6 + r * (Q7 + r * (Q8 + r * Q9)))
        q = Q0 + r * (Q1 + r * (Q2 + r * (Q3 + r * (Q4 + r * q))))
        p = 1.0 + (r + (r * r) * q)
        value = p * _bits((_bits(t, np.int64(0)) + 1023) << 52, 0.0)
        return 0.0 if x < SMALLEST_64 else value

    return exp_64


# --- 16-bit logits, as their bits ---------------------------------------------------------------------------


def _decode(value: Any, bfloat: bool) -> Any:
    """A stored logit in the precision of the sums."""


@overload(_decode)
def _decode_of(value, bfloat):
    if value in (types.float32, types.float64):
        return lambda value, bfloat: value

    def half(value, bfloat):
        bits = np.int32(value)
        if bfloat:
            return _bits(np.int32(bits << 16), F32(0.0))
        # The exponent's bias differs by 112; multiplying by 2^112 corrects it for subnormal numbers too.
        size = np.int32((bits & 0x7FFF) << 13)
        finite = _bits(size, F32(0.0)) * F32(5.192296858534828e33)
        number = _bits(np.int32(size | 0x7F800000), F32(0.0)) if (bits & 0x7C00) == 0x7C00 else finite
        return -number if (bits & 0x8000) != 0 else number

    return half


def _encode(value: Any, like: Any, bfloat: bool) -> Any:
    """A number as it is stored, rounded to the nearest, ties to even."""


@overload(_encode)
def _encode_of(value, like, bfloat):
    if like in (types.float32, types.float64):
        return lambda value, like, bfloat: value

    def half(value, like, bfloat):
        bits = _bits(value, np.int32(0))
        if bfloat:
            rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            return np.uint16((0x7FC0 if value != value else rounded) & 0xFFFF)
        size = np.int32(bits & 0x7FFFFFFF)
        normal = (size + 0xFFF + ((size >> 13) & 1) - 0x38000000) >> 13
        # A number that becomes subnormal: the last place of 0.5 is that of the subnormal numbers, so adding 0.5 rounds.
        subnormal = _bits(_bits(size, F32(0.0)) + F32(0.5), np.int32(0)) - 0x3F000000
        number = subnormal if size < 0x38800000 else normal
        number = 0x7C00 if size >= 0x477FF000 else number
        number = 0x7E00 if size > 0x7F800000 else number
        return np.uint16(((bits >> 16) & 0x8000) | number)

    return half


# --- one row, as contiguous arrays in the precision of the sums -----------------------------------------------------


def _maximum(x: Any) -> Any:
    """The largest entry; unspecified if there is a NaN, which reaches the result by the exponentials."""


@overload(_maximum)
def _maximum_of(x):
    # Comparisons of integers are vectorized; those of floats only under the assumption that none is NaN.  Flipping the
    # other bits of a negative number gives integers of the same order.
    integer, number, sign = (np.int32, F32, 31) if x.dtype == types.float32 else (np.int64, np.float64, 63)
    smallest, flip, zero = integer(np.iinfo(integer).min), integer(np.iinfo(integer).max), number(0.0)

    def maximum(x):
        patterns = x.view(integer)
        best = smallest
        for k in range(len(patterns)):
            key = integer(patterns[k] ^ (integer(patterns[k] >> sign) & flip))
            best = key if key > best else best
        return _bits(integer(best ^ (integer(best >> sign) & flip)), zero)

    return maximum


@summing
def _exponentials(x, largest, e):
    """e = exp(x - largest); returns the sums of e and of x - largest."""
    sum_e, sum_x = 0.0, 0.0
    for start in range(0, len(x), BLOCK):
        x_block, e_block = x[start : start + BLOCK], e[start : start + BLOCK]
        part_e, part_x = x.dtype.type(0.0), x.dtype.type(0.0)
        for k in range(len(x_block)):
            shifted = x_block[k] - largest
            value = _exp(shifted)
            e_block[k] = value
            part_e += value
            part_x += shifted
        sum_e += part_e
        sum_x += part_x
    return sum_e, sum_x


@summing
def _exponentials_in_place(x, largest):
    """The same for e = x: loops over two arrays that may overlap are not vectorized."""
    sum_e, sum_x = 0.0, 0.0
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        part_e, part_x = x.dtype.type(0.0), x.dtype.type(0.0)
        for k in range(len(block)):
            shifted = block[k] - largest
            value = _exp(shifted)
            block[k] = value
            part_e += value
            part_x += shifted
        sum_e += part_e
        sum_x += part_x
    return sum_e, sum_x


@summing
def _sums(x, largest):
    """The same sums without e, for a loss without gradient."""
    sum_e, sum_x = 0.0, 0.0
    for start in range(0, len(x), BLOCK):
        x_block = x[start : start + BLOCK]
        part_e, part_x = x.dtype.type(0.0), x.dtype.type(0.0)
        for k in range(len(x_block)):
            shifted = x_block[k] - largest
            part_e += _exp(shifted)
            part_x += shifted
        sum_e += part_e
        sum_x += part_x
    return sum_e, sum_x


@summing
def _base_sums(x, largest, base):
    """<base, x - largest> and the sum of base; an entry of 0 leaves its logit out, also -inf."""
    dot, total, zero = 0.0, 0.0, x.dtype.type(0.0)
    for start in range(0, len(x), BLOCK):
        x_block, b_block = x[start : start + BLOCK], base[start : start + BLOCK]
        part_dot, part_total = zero, zero
        for k in range(len(x_block)):
            b = b_block[k]
            part_dot += zero if b == zero else b * (x_block[k] - largest)
            part_total += b
        dot += part_dot
        total += part_total
    return dot, total


@summing
def _valid_base_sums(x, largest, base, valid):
    """The same over the valid classes."""
    dot, total = 0.0, 0.0
    for k in range(len(x)):
        if valid[k] and base[k] != 0.0:
            dot += base[k] * (x[k] - largest)
            total += base[k]
    return dot, total


@summing
def _valid_sums(x, largest, valid):
    """The sum of x - largest over the valid classes, and their number."""
    dot, count = 0.0, 0
    for k in range(len(x)):
        dot += (x[k] - largest) if valid[k] else x.dtype.type(0.0)
        count += valid[k]
    return dot, count


@compiled(fastmath={"contract"})
def _scale(e, of_p):
    for k in range(len(e)):
        e[k] *= of_p


@compiled(fastmath={"contract"})
def _scale_and_shift(e, of_p, share):
    for k in range(len(e)):
        e[k] = e[k] * of_p - share


@compiled(fastmath={"contract"})
def _scale_and_subtract(e, of_p, of_base, base):
    for k in range(len(e)):
        e[k] = e[k] * of_p - of_base * base[k]


# Inlined: with so many arguments a call costs more than a short row.
@compiled(fastmath=SUMS, forceinline=True)
def _row(x, e, in_place, gradient, y, keep, scale, kind, base, valid, masked, z_loss, factor):
    """Loss, unsmoothed loss, and the gradient into e, of one row x that is not ignored; ``in_place``: e is x."""
    num_classes, number = len(x), x.dtype.type
    largest = _maximum(x)
    at_label = np.float64(x[y] - largest) if y >= 0 else 0.0  # before e overwrites it
    dot, total = 0.0, 1.0
    if scale != 0.0:
        if kind != BASE_UNIFORM:
            dot, total = _valid_base_sums(x, largest, base, valid) if masked else _base_sums(x, largest, base)
        elif masked:
            dot, count = _valid_sums(x, largest, valid)
            dot, total = dot / num_classes, count / num_classes
    if not gradient:
        sum_e, sum_x = _sums(x, largest)
    elif in_place:
        sum_e, sum_x = _exponentials_in_place(e, largest)
    else:
        sum_e, sum_x = _exponentials(x, largest, e)
    if kind == BASE_UNIFORM and not masked:
        dot = sum_x / num_classes
    log_sum = log(sum_e)
    lse = np.float64(largest) + log_sum
    mass = keep + scale * total if scale != 0.0 else keep
    loss = mass * log_sum + z_loss * lse * lse
    # A zero coefficient leaves its term out: 0 * inf would be NaN where plain cross-entropy is finite.
    if keep != 0.0:
        loss -= keep * at_label
    if scale != 0.0:
        loss -= scale * dot
    if gradient:
        of_p, of_base = factor * (mass + 2.0 * z_loss * lse) / sum_e, factor * scale
        label_gradient = 0.0
        if y >= 0:  # p - q cancels here where the prediction is good, so in float64
            label_gradient = e[y] * of_p - factor * keep
            if scale != 0.0:
                label_gradient -= of_base / num_classes if kind == BASE_UNIFORM else of_base * base[y]
        if scale == 0.0:
            _scale(e, number(of_p))
        elif kind == BASE_UNIFORM:
            _scale_and_shift(e, number(of_p), number(of_base / num_classes))
        else:
            _scale_and_subtract(e, number(of_p), number(of_base), base)
        if y >= 0:
            e[y] = label_gradient
    return loss, log_sum - at_label


# --- rows: the two kernels ------------------------------------------------------------------------------------------
# Both return the sum of the losses of rows first, ..., last - 1, and take
#     z, g       (address, outer stride, class stride, inner stride) of the logits and of the gradient
#     target     (labels, ignore_index, keep, scale, kind of base, base, valid classes, their row stride, factor);
#                addresses, or 0 for none: labels int64, keep, scale and factor float64 for each row; without them
#                the numbers below apply
#     numbers    (keep, scale, z_loss, factor), where factor multiplies the gradient
#     losses     (losses, unsmoothed losses), addresses
# where a zero address of g or of the losses means that they are not computed.

# Rows that are ignored, whose label is out of range, or that have no label.
IGNORED, INVALID, UNLABELLED = -3, -2, -1


@compiled
def _label(i, target, num_classes):
    if target[0] == 0:
        return UNLABELLED
    y = _array(target[0], i, 1, np.int64(0))[0]
    if y == target[1]:
        return IGNORED
    # Checked before, but another thread may change labels at any time: never read outside the logits.
    return y if y >= 0 and y < num_classes else INVALID


@compiled
def _number(i, address, number):
    return _array(address, i, 1, 0.0)[0] if address != 0 else number


@compiled
def _base(i, y, target, num_classes, like):
    row = i if target[4] == BASE_ROWS else (y if target[4] == BASE_BY_LABEL else 0)
    return _array(target[5], row * num_classes, num_classes, like)


@compiled
def _valid(i, target, num_classes):
    return _array(target[6], i * target[7], num_classes, np.uint8(0))


@compiled(forceinline=True)
def _finish(i, x, e, in_place, gradient, target, numbers, losses):
    """One row, from its logits x to the loss and, in e, the gradient."""
    num_classes, zero = len(x), x.dtype.type(0.0)
    y = _label(i, target, num_classes)
    loss, nll = 0.0, 0.0
    if y == IGNORED:
        if gradient:
            e[:] = zero
    elif y == INVALID:
        loss, nll = np.nan, np.nan
        if gradient:
            e[:] = x.dtype.type(np.nan)
    else:
        keep, scale = _number(i, target[2], numbers[0]), _number(i, target[3], numbers[1])
        base, valid = _base(i, y, target, num_classes, zero), _valid(i, target, num_classes)
        factor = _number(i, target[8], numbers[3])
        loss, nll = _row(
            x, e, in_place, gradient, y, keep, scale, target[4], base, valid, target[6] != 0, numbers[2], factor
        )
    if losses[0] != 0:
        _array(losses[0], i, 1, zero)[0] = loss
    if losses[1] != 0:
        _array(losses[1], i, 1, zero)[0] = nll
    return loss


@compiled
def rows_in_place(first, last, num_classes, like, z, g, target, numbers, losses):
    """Contiguous rows in the precision of the sums: read and written in place, without a copy.

    ``like`` is a zero of their type.  g may be z.
    """
    gradient, same = g[0] != 0, g[0] == z[0]
    loss_sum = 0.0
    for i in range(first, last):
        x = _array(z[0], i * z[1], num_classes, like)
        e = _array(g[0], i * g[1], num_classes, like)
        loss_sum += _finish(i, x, e, same, gradient, target, numbers, losses)
    return loss_sum


@compiled
def rows_gathered(first, last, num_classes, inner, like, sum_like, bfloat, z, g, target, numbers, losses):
    """Rows of any type and strides, by way of a small buffer: row i is at places i // inner and i % inner.

    ``like`` is a zero of the stored type, uint16 for 16-bit floats (``bfloat`` tells which), and ``sum_like`` of the
    type that sums, base and losses have.  Where classes are invalid their logits are read as -inf.
    """
    gradient = g[0] != 0
    tile_rows = max(1, min(TILE_ROWS, inner, TILE_ELEMENTS // num_classes)) if z[2] != 1 else 1
    tile = np.full(tile_rows * num_classes, sum_like)
    loss_sum = 0.0
    start = first
    while start < last:
        outer_place, inner_place = start // inner, start % inner
        count = min(tile_rows, last - start, inner - inner_place)
        z_start = outer_place * z[1] + inner_place * z[3]
        g_start = outer_place * g[1] + inner_place * g[3]
        _copy_in(z[0], z_start, z[2], z[3], count, num_classes, tile, like, bfloat)
        for t in range(count):
            i = start + t
            x = tile[t * num_classes : (t + 1) * num_classes]
            if target[6] != 0:
                _blank(x, _valid(i, target, num_classes), -np.inf)
            loss_sum += _finish(i, x, x, True, gradient, target, numbers, losses)
            if gradient and target[6] != 0:
                _blank(x, _valid(i, target, num_classes), 0.0)
        if gradient:
            _copy_out(tile, g[0], g_start, g[2], g[3], count, num_classes, like, bfloat)
        start += count
    return loss_sum


@compiled
def _copy_in(address, start, class_stride, inner_stride, count, num_classes, tile, like, bfloat):
    """``count`` rows into the tile, one after the other; the inner loop runs along whichever stride is 1."""
    if class_stride == 1:
        for t in range(count):
            z = _array(address, start + t * inner_stride, num_classes, like)
            x = tile[t * num_classes : (t + 1) * num_classes]
            for k in range(num_classes):
                x[k] = _decode(z[k], bfloat)
    else:
        for k in range(num_classes):
            z = _array(address, start + k * class_stride, count * inner_stride + 1, like)
            for t in range(count):
                tile[t * num_classes + k] = _decode(z[t * inner_stride], bfloat)


@compiled
def _copy_out(tile, address, start, class_stride, inner_stride, count, num_classes, like, bfloat):
    if class_stride == 1:
        for t in range(count):
            g = _array(address, start + t * inner_stride, num_classes, like)
            x = tile[t * num_classes : (t + 1) * num_classes]
            for k in range(num_classes):
                g[k] = _encode(x[k], like, bfloat)
    else:
        for k in range(num_classes):
            g = _array(address, start + k * class_stride, count * inner_stride + 1, like)
            for t in range(count):
                g[t * inner_stride] = _encode(tile[t * num_classes + k], like, bfloat)


@compiled
def _blank(x, valid, number):
    for k in range(len(x)):
        x[k] = x[k] if valid[k] else x.dtype.type(number)


@compiled
def survey(labels, count, num_classes, ignore_index):
    """The first of the int64 labels at an address that is out of range, or -1, and how many are not ignored."""
    counted, outside = 0, -1
    for i in range(count):
        y = _array(labels, i, 1, np.int64(0))[0]
        if y != ignore_index:
            counted += 1
            if (y < 0 or y >= num_classes) and outside < 0:
                outside = i
    return outside, counted


# --- small batches --------------------------------------------------------------------------------------------------
# A few rows cost less than the Python code that prepares them, so these do all in one call: check labels,
# smooth uniformly, reduce.  Strides are those of the rows; the loss is written to an address.  They return the row
# of the first label that is out of range, or -1.


@compiled
def _usual(labels, ignore_index, epsilon, factor, z, z_stride, g, g_stride):
    """Zero, one, target, numbers and places of uniformly smoothed labels, of the types that a general call has.

    Literals have types of their own in numba, for which the kernel would be compiled a second time.
    """
    no, one = np.int64(0), np.int64(1)
    target = (labels, ignore_index, no, no, np.int64(BASE_UNIFORM), no, no, no, no)
    return no, one, target, (1.0 - epsilon, epsilon, 0.0, factor), (z, z_stride, one, no), (g, g_stride, one, no)


@compiled
def few_rows(count, num_classes, like, z, z_stride, g, g_stride, loss, labels, ignore_index, epsilon, mean):
    outside, counted = survey(labels, count, num_classes, ignore_index)
    if outside < 0:
        factor = 1.0 / counted if mean else 1.0
        no, _, target, numbers, logits, gradient = _usual(
            labels, ignore_index, epsilon, factor, z, z_stride, g, g_stride
        )
        total = rows_in_place(no, count, num_classes, like, logits, gradient, target, numbers, (no, no))
        _array(loss, 0, 1, like)[0] = total * factor
    return outside


@compiled
def few_bfloat_rows(count, num_classes, like, z, z_stride, g, g_stride, loss, labels, ignore_index, epsilon, mean):
    outside, counted = survey(labels, count, num_classes, ignore_index)
    if outside < 0:
        factor, zero, bfloat = 1.0 / counted if mean else 1.0, F32(0.0), np.bool_(True)
        no, one, target, numbers, logits, gradient = _usual(
            labels, ignore_index, epsilon, factor, z, z_stride, g, g_stride
        )
        total = rows_gathered(
            no, count, num_classes, one, like, zero, bfloat, logits, gradient, target, numbers, (no, no)
        )
        _array(loss, 0, 1, zero)[0] = total * factor
    return outside
