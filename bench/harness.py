"""What the benchmarks share: interleaved timing, peak memory, the machine, and results as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def interleaved(calls: dict[str, Callable[[], object]], repeats: int, inner: int = 1) -> dict[str, dict[str, Any]]:
    """Seconds for each call: the median, the least and all of ``repeats`` rounds in which each runs ``inner`` times.

    Rounds rather than one call after the other, so that a slow minute of the machine falls on all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(inner):  # several for a short call, which another's code would find out of the cache
                call()
            times[name].append((time.perf_counter() - start) / inner)
    return {name: {"median": statistics.median(t), "least": min(t), "rounds": t} for name, t in times.items()}


def ratio(times: dict[str, dict[str, Any]], who: str, to: str) -> float:
    """How many times as long one call takes as another: the median over the rounds, each compared with itself."""
    return statistics.median(a / b for a, b in zip(times[who]["rounds"], times[to]["rounds"], strict=True))


def peak_bytes(call: Callable[[], object]) -> int:
    """The most memory that PyTorch's CPU allocator gave to one call beyond what it held before."""
    call()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def options(description: str, devices: bool = False) -> argparse.Namespace:
    """--quick: fewer rounds.  --threads: PyTorch's and ours; 1 on a machine that is busy with other work, where the
    threads of a parallel region wait for the one that is held up, and the waiting is what is measured.  --device, if
    there is a choice of ``devices``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--first", type=int, help="only the first shapes, as many as this")
    if devices:
        parser.add_argument("--device", choices=("cpu", "cuda"), help="cuda where there is one, unless given")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def machine() -> dict[str, Any]:
    """What the times of a record depend on besides the code."""
    cache = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    description = {
        "cpu": model,
        "cores": os.cpu_count(),
        "third-level cache": cache.read_text().strip() if cache.exists() else None,
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        gigabytes = round(card.total_memory / 2**30)
        description |= {"device": card.name, "gigabytes": gigabytes, "cuda": torch.version.cuda}
    return description


# Of a machine's description, what another run on it has too.
SAME = ("cpu", "cores", "third-level cache", "device")


def write(name: str, **record: Any) -> None:
    """Keep a record of this machine, "machine" unless given, before those of other machines.

    bench/results/<name>.json is a list, the newest record first; an older one of the same machine is replaced.
    """
    path = RESULTS / f"{name}.json"
    new = {"machine": machine(), **record}
    old = json.loads(path.read_text()) if path.exists() else []
    kept = [r for r in old if any(r["machine"].get(key) != new["machine"].get(key) for key in SAME)]
    keep(name, [new, *kept])


def keep(name: str, record: object) -> None:
    """bench/results/<name>.json, replaced in one step."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(path)


def installed(names: list[str]) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    return {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"] in names}


def let_peers_import() -> None:
    """Take this folder off the path: the module of uncertainty-calibration is called calibration, as a file here is."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)
