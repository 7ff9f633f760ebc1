"""glibc keeps the memory of large gradients after the first one, unless the setting says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap

import pytest
import torch

import labelsmooth as ls

PROGRAM = """
    import resource, torch, labelsmooth as ls
    logits, labels = torch.zeros(8192, 1200, requires_grad=True), torch.zeros(8192).long()
    def step():
        ls.cross_entropy(logits, labels).backward()
        logits.grad = None
    for _ in range(4):  # until the heap has grown to what a step needs
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (logits.nbytes))
"""


def faults_of_a_step(**environment: str) -> float:
    """Page faults in units of the gradient's pages, after a few steps."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env={**clean, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has the setting")
def test_a_step_reuses_the_memory_of_the_last_one_unless_switched_off() -> None:
    assert faults_of_a_step() < 0.1
    assert faults_of_a_step(LABELSMOOTH_KEEP_MEMORY="0") > 0.5
    assert faults_of_a_step(MALLOC_TOP_PAD_="131072") > 0.5  # the user has settings of their own


def test_a_large_gradient_can_be_resized_and_handed_over_like_any_tensor() -> None:
    logits = torch.randn(8192, 1200, requires_grad=True)
    ls.cross_entropy(logits, torch.zeros(8192).long()).backward()
    gradient = logits.grad
    assert gradient is not None
    kept = gradient[:2].clone()
    gradient.untyped_storage().resize_(2 * gradient.nbytes)
    assert torch.equal(gradient[:2], kept)
    gradient.resize_(2, 1200)
    assert torch.equal(gradient, kept)
    gradient.untyped_storage().resize_(0)
    assert gradient.untyped_storage().nbytes() == 0


def test_steps_do_not_disturb_each_other() -> None:
    labels = torch.randint(1200, (8192,))

    def gradient(logits: torch.Tensor) -> torch.Tensor:
        leaf = logits.clone().requires_grad_()
        ls.cross_entropy(leaf, labels, label_smoothing=0.1).backward()
        assert leaf.grad is not None
        return leaf.grad

    first, second = torch.randn(2, 8192, 1200)
    expected = gradient(first).clone(), gradient(second).clone()
    held = gradient(first)
    assert torch.equal(gradient(second), expected[1])
    assert torch.equal(held, expected[0])
