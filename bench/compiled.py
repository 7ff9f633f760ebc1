"""What the CUDA row kernel compiles to for a Hopper GPU, which need not be there: registers, spills, instructions.

    python bench/compiled.py        # needs triton, whose wheel holds ptxas and cuobjdump

For the usual call, forward and gradient.  "programs" is how many fit on a processor, "in flight" the KB of logits that
they load at once, "instructions" those of a warp, and "busy" the time that a processor takes to issue all of a row's
(four a cycle at 1.755 GHz) as a share of the time that memory takes for it (3.0 TB/s over 132 processors).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["LABELSMOOTH_WITHOUT_DEVICE"] = "1"  # for the driver of the tests
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "kernels"))

import torch
import triton
from harness import table
from test_triton_compiles import Driver
from triton.runtime import driver

from labelsmooth.kernels import launch_cuda
from labelsmooth.kernels.launch_cuda import Form

CLASSES = [10, 37, 300, 1000, 4000, 9001, 32000, 50257, 128256, 262144]
DTYPES = [torch.bfloat16, torch.float32, torch.float64]
BYTES_A_CYCLE = 3.0e12 / 132 / 1.755e9  # of a processor


def compiled(classes: int, dtype: torch.dtype, rows: int = 4096) -> Any:
    """The kernel of a usual call with its gradient."""
    kernels = []

    def launch(
        function: Any, grid: Any, kinds: Any, arguments: Any, constants: Any, warps: int, registers: int | None = None
    ) -> None:
        limit = {} if registers is None else {"maxnreg": registers}
        kernels.append(function[grid](*arguments, *constants, num_warps=warps, **limit))

    launch_cuda._launch = launch
    launch_cuda._may_wait = lambda *_: True  # type: ignore[assignment]
    logits = torch.empty(1, classes, dtype=dtype).expand(rows, classes)
    launch_cuda.few(logits, logits, torch.zeros(rows, dtype=torch.int64), -100, 0.1, True)
    return kernels[-1]


def resources(kernel: Any, form: Form, itemsize: int, row_bytes: int) -> dict[str, object]:
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(tools / "cuobjdump"), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, shared = (int(re.findall(rf"{name}:(\d+)", usage)[-1]) for name in ("REG", "SHARED"))
    instructions = re.findall(r"\t(?:@!?U?P\w+ )?([A-Z]\w+)", kernel.asm["sass"])
    by_registers = 65536 // (-(-registers // 8) * 256) // form.warps
    programs = min(by_registers, 64 // form.warps, 32, 233472 // (shared + 1024))
    issued = form.warps * form.group / form.rows * len(instructions) / 4
    return {
        "registers": registers,
        "spills": sum(name in ("LDL", "STL") for name in instructions),
        "programs": programs,
        "in flight": round(programs * form.block * form.rows * itemsize / 1024),
        "instructions": len(instructions),
        "busy": round(issued / (2 * row_bytes / BYTES_A_CYCLE), 2),
    }


if __name__ == "__main__":
    driver.set_active(Driver())
    rows = []
    for dtype in DTYPES:
        for classes in CLASSES:
            kernel, form = compiled(classes, dtype), launch_cuda.form_of(classes, dtype.itemsize)
            columns = {"classes": classes, "dtype": str(dtype)[6:], **form._asdict()}
            columns["limit"] = columns.pop("registers")
            rows.append({**columns, **resources(kernel, form, dtype.itemsize, classes * dtype.itemsize)})
    print(table(rows, list(rows[0])))
