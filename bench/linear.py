"""Forward and backward of a linear head with the smoothed cross-entropy: time, and peak memory beyond the gradients.

    python bench/linear.py [--quick] [--threads 1] [--first 1]

"times products" is the time over that of the three matrix products alone, which every way needs; "memory" is the peak
beyond the gradients of features and weight, in units of the full logits.  PyTorch's chunked path cannot smooth, so it
runs without, which is less work; unfused is F.linear and F.cross_entropy.  "note" says what was aimed at, and why,
where it is not met or a peer is better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import interleaved, options, peak_bytes, ratio, table, write

import labelsmooth as ls

EPSILON = 0.1
SHAPES = [(2048, 512, 32000), (4096, 512, 50257)]


def measure(rows: int, features: int, classes: int, quick: bool) -> list[dict[str, object]]:
    torch.manual_seed(0)
    h, w = torch.randn(rows, features, requires_grad=True), (torch.randn(classes, features) / 20).requires_grad_()
    labels = torch.randint(classes, (rows,))
    logits = torch.empty(rows, classes)
    dh, dw = torch.empty_like(h), torch.empty_like(w)

    def products() -> None:
        with torch.no_grad():
            torch.mm(h, w.t(), out=logits)
            torch.mm(logits, w, out=dh)
            torch.mm(logits.t(), h, out=dw)

    def step(loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            loss().backward()
            h.grad = w.grad = None  # lest the next one pays for freeing them

        return run

    torch._dynamo.reset()
    compiled = torch.compile(lambda h, w: ls.linear_cross_entropy(h, w, labels, label_smoothing=EPSILON))
    unfused = torch.compile(lambda h, w: F.cross_entropy(F.linear(h, w), labels, label_smoothing=EPSILON))
    calls: dict[str, Callable[[], object]] = {
        "labelsmooth": step(lambda: ls.linear_cross_entropy(h, w, labels, label_smoothing=EPSILON)),
        "labelsmooth, compiled": step(lambda: compiled(h, w)),
        "three products": products,
        "unfused": step(lambda: F.cross_entropy(F.linear(h, w), labels, label_smoothing=EPSILON)),
        "unfused, compiled": step(lambda: unfused(h, w)),
    }
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options is not None:
        calls["torch chunked, not smoothed"] = step(lambda: F.linear_cross_entropy(h, w, labels, options=options()))
    times = interleaved(calls, 2 if quick else 5)
    gradients = 4 * (h.numel() + w.numel())
    lines: list[dict[str, object]] = []
    for who, call in calls.items():
        memory = None if who == "three products" else (peak_bytes(call) - gradients) / (4 * rows * classes)
        lines.append(
            {
                "shape": f"{rows} x {features} x {classes}",
                "who": who,
                "median s": times[who]["median"],
                "least s": times[who]["least"],
                "times ours": ratio(times, who, "labelsmooth"),
                "times products": ratio(times, who, "three products"),
                "times products (least)": times[who]["least"] / times["three products"]["least"],
                "memory": memory,
                "note": note(who, ratio(times, who, "labelsmooth"), ratio(times, who, "three products"), memory, lines),
            }
        )
    return lines


def note(who: str, ours: float, products: float, memory: float | None, lines: list[dict[str, object]]) -> str:
    """The aims and whether they are met, or in what a peer is better and why."""
    if who == "three products":
        return "a bound: no loss"
    if who == "labelsmooth":
        said = "aims: 1.15 times the products, memory an eighth or 64 MB"
        if products > 1.15:
            said += "; slower: each chunk reads the weight twice and adds to its gradient"
        return said
    if who.startswith("labelsmooth"):
        return ""
    least = float(str(lines[0]["memory"]))
    reasons = ["faster: its products are whole ones, over the full logits"] if ours < 1.0 else []
    if memory is not None and memory < least:
        reasons.append("less memory: smaller chunks, which take longer")
    return "; ".join(reasons)


if __name__ == "__main__":
    chosen = options("Time and peak memory of a linear head with the smoothed cross-entropy.")
    measured = []
    for shape in SHAPES[: chosen.first]:
        rows = measure(*shape, chosen.quick)
        print(table(rows, list(rows[0])), end="\n\n", flush=True)
        measured += rows
    write("linear", rows=measured)
