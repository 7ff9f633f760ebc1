"""The CPU kernel where numba's cache is damaged, the disk is full, or numba itself does not work."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType

import pytest
from numba.core import caching

from labelsmooth.kernels import compiling, rows_cpu

NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch):
    """A function compiled as those of the kernel are, as each new process would import it."""
    monkeypatch.setattr(rows_cpu.SafeCache, "is_usable", True)
    path = tmp_path / "module.py"
    path.write_text("from labelsmooth.kernels.rows_cpu import compiled\n@compiled\ndef add(x):\n    return x + 1\n")

    def load() -> ModuleType:
        specification = importlib.util.spec_from_file_location(f"module_{next(NUMBERS)}", path)
        assert specification is not None
        assert specification.loader is not None
        loaded = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(loaded)
        return loaded

    return load


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("contents", [b"", b"\x80", b"not a pickle at all"])
def test_a_damaged_cache_is_compiled_anew(module, tmp_path: Path, suffix: str, contents: bytes) -> None:
    assert module().add(1) == 2
    files = list(tmp_path.rglob(f"*.{suffix}"))
    assert files
    for file in files:
        file.write_bytes(contents)
    again = module()
    assert again.add(1) == 2
    assert again.add.stats.cache_misses
    third = module()  # the cache is whole again
    assert third.add(1) == 2
    assert third.add.stats.cache_hits


def test_a_full_disk_is_one_warning(module, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", refuse)
    add = module().add
    with pytest.warns(RuntimeWarning, match=r"cannot be cached in .*No space left.*NUMBA_CACHE_DIR"):
        assert add(1) == 2
    assert add(1.5) == 2.5  # without a second warning, which would be an error here
    assert module().add(1) == 2


PROGRAM = """
    import sys, warnings, torch
    {before}
    import labelsmooth as ls
    from labelsmooth.kernels.choose import choose
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for size in (4, 200000):
            logits = torch.randn(3, size, dtype=torch.float64, requires_grad=True)
            labels = torch.tensor([0, -100, 2])
            for options in (dict(), dict(reduction="none")):
                loss = ls.cross_entropy(logits, labels, label_smoothing=0.1, **options)
                true = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, **options)
                torch.testing.assert_close(loss, true)
                torch.testing.assert_close(*(torch.autograd.grad(v.sum(), logits)[0] for v in (loss, true)))
            try:
                ls.cross_entropy(logits, labels + size)
            except IndexError as error:
                assert "target holds the label" in str(error)
    ours = [str(w.message) for w in warned if issubclass(w.category, RuntimeWarning)]
    assert len(ours) == 1, ours
    print(ours[0])
"""
BROKEN = {
    "numba is missing": ("sys.modules['numba'] = None", {}, "needs numba, which is not installed"),
    "numba is half imported": (
        "import types; sys.modules['numba'] = types.ModuleType('numba')",
        {},
        "numba cannot be imported",
    ),
    "compilation is disabled": ("", {"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT is set"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_without_numba_the_reference_runs_with_one_warning(case: str) -> None:
    before, environment, sentence = BROKEN[case]
    program = textwrap.dedent(PROGRAM).replace("{before}", before)
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert sentence in done.stdout
    assert "using PyTorch operators" in done.stdout


def test_one_line_says_that_kernels_are_compiled(module, capfd, monkeypatch) -> None:
    monkeypatch.setattr(compiling, "_said", False)
    add = module().add
    assert add(1) == 2
    assert capfd.readouterr().err == "labelsmooth: compiling kernels, once: 5 to 10 s\n"
    assert add(1.5) == 2.5  # said once
    monkeypatch.setattr(compiling, "_said", False)
    assert module().add(1) == 2  # from the cache
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_compiler_that_takes_longer_than_expected_is_announced(seconds: float, capfd, monkeypatch) -> None:
    monkeypatch.setattr(compiling, "_said", False)
    with compiling.announced(seconds):
        time.sleep(0.2)
    assert capfd.readouterr().err.count("compiling kernels") == (seconds == 0.0)


@pytest.mark.parametrize(
    ("dtype", "usual", "general"),
    [("float32", "few_rows", "rows_in_place"), ("bfloat16", "few_bfloat_rows", "rows_gathered")],
)
def test_the_usual_call_and_the_general_one_compile_one_kernel(
    tmp_path: Path, dtype: str, usual: str, general: str
) -> None:
    program = f"""
    import torch
    import labelsmooth as ls
    from labelsmooth.kernels import rows_cpu
    logits, labels = torch.randn(4, 3, dtype=torch.{dtype}), torch.tensor([0, 1, 2, 0])
    ls.cross_entropy(logits, labels, label_smoothing=0.1)
    ls.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    print(len(rows_cpu.{usual}.signatures), len(rows_cpu.{general}.signatures))
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # empty, so that nothing is loaded from it
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "1"]
