"""An experiment: rows in a persistent loop, the next row's loads under way while this one is computed.

    TRITON_INTERPRET=1 python bench/persistent.py     # checks the numbers, on a CPU; bench/gpu.py --tune times it

Each program takes row after row.  Triton's pipeliner turns the loads of the next ``STAGES - 1`` rows into asynchronous
copies to shared memory (``cp.async``), one of which a row of 32,000 in bfloat16 takes 64 KB.  Labels and a uniform base
alone, and rows that start at multiples of 16 bytes.
"""

from __future__ import annotations

# Triton infers the types of what it compiles.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"
import torch
import torch.nn.functional as F
import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def persistent_rows(
    z_pointer, g_pointer, label_pointer, loss_pointer, stride, keep, scale, factor, num_rows, num_classes,
    BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    k = tl.arange(0, BLOCK)
    in_row = k < num_classes
    share = scale / num_classes
    for number in tl.range(tl.program_id(0), num_rows, tl.num_programs(0), num_stages=STAGES):
        row = tl.zeros((), tl.int64) + number
        start = row * stride // 8 * 8  # so that the compiler sees the multiple
        z = tl.load(z_pointer + start + k, mask=in_row, other=float("-inf")).to(tl.float32)
        label = tl.load(label_pointer + row)
        z_label = tl.load(z_pointer + start + label).to(tl.float32)
        largest = tl.max(z, 0)
        shifted = z - largest
        e = tl.exp2(shifted * LOG2_E)
        sum_e = tl.sum(e, 0)
        log_sum = tl.log(sum_e)
        dot = tl.sum(tl.where(in_row, shifted, 0.0), 0)
        tl.store(loss_pointer + row, (keep + scale) * log_sum - keep * (z_label - largest) - share * dot)
        g = (keep + scale) * factor / sum_e * e - share * factor - tl.where(k == label, keep * factor, 0.0)
        tl.store(g_pointer + start + k, g.to(g_pointer.dtype.element_ty), mask=in_row)


def launch(
    logits: torch.Tensor, gradient: torch.Tensor, labels: torch.Tensor, losses: torch.Tensor, epsilon: float, *,
    programs: int, warps: int, stages: int,
) -> None:  # fmt: skip
    """Losses and d losses.mean() / d logits."""
    rows, classes = logits.shape
    persistent_rows[(min(rows, programs),)](
        logits, gradient, labels, losses, logits.stride(0), 1 - epsilon, epsilon, 1 / rows, rows, classes,
        BLOCK=1 << (classes - 1).bit_length(), STAGES=stages, num_warps=warps,
    )  # fmt: skip


def error(classes: int, rows: int, dtype: torch.dtype, device: str, warps: int = 4, stages: int = 2) -> float:
    """The largest error of losses and gradients, these times the number of rows, against PyTorch in float64."""
    logits, labels = torch.randn(rows, classes, device=device).to(dtype), torch.randint(classes, (rows,), device=device)
    gradient, losses = torch.empty_like(logits), torch.empty(rows, device=device)
    launch(logits, gradient, labels, losses, 0.1, programs=2, warps=warps, stages=stages)
    wide = logits.double().requires_grad_()
    expected = F.cross_entropy(wide, labels, label_smoothing=0.1, reduction="none")
    (truth,) = torch.autograd.grad(expected.mean(), wide)
    return max(float((losses - expected).detach().abs().max()), rows * float((gradient - truth).abs().max()))


if __name__ == "__main__":
    for classes in (1000, 4000):
        for dtype in (torch.float32, torch.bfloat16):
            print(f"{classes} classes, {dtype}: error {error(classes, 5, dtype, 'cpu'):.1e}")
