"""The row kernel's numbers against float64: in every dtype at most PyTorch's own error."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls
from labelsmooth.kernels import launch_cpu, reference
from labelsmooth.kernels.reference import Terms
from labelsmooth.kernels.rows import row_loss
from labelsmooth.target import Target

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Fewer classes than a vector has lanes; the pets; one more than a round number, for the loops' remainders; vocabularies
# below and above what the second-level cache holds.
CLASSES = [1, 2, 3, 37, 1000, 1001, 32000, 50257, 128256]
# Logits whose probabilities are all alike, usual, saturated, and far beyond what exp can take.
SCALES = [1e-3, 1.0, 30.0, 1e4]


def terms(index, keep, scale, base=None, rows=False, valid=None, z_loss=0.0, classes=37) -> Terms:
    return Terms(Target(classes, index, keep, scale, base, rows), valid, z_loss)


def gradient_of(function, logits, labels, **options):
    logits = logits.detach().clone().requires_grad_()
    losses = function(logits, labels, reduction="none", label_smoothing=0.1, **options)
    losses.sum().backward()
    return losses.detach(), logits.grad


def assert_at_most_pytorchs_error(logits: torch.Tensor, labels: torch.Tensor) -> None:
    truth = gradient_of(F.cross_entropy, logits.double(), labels)
    ours = gradient_of(ls.cross_entropy, logits, labels)
    theirs = gradient_of(F.cross_entropy, logits, labels)
    # One unit in the last place of slack: of the loss, and of the larger of the gradient and the p that it is made of.
    sizes = truth[0].abs(), torch.maximum(truth[1].abs(), logits.double().softmax(-1))
    for mine, other, true, size in zip(ours, theirs, truth, sizes, strict=True):
        if not true.numel():
            assert mine.shape == true.shape
            continue
        pytorchs = (other.double() - true).abs().nan_to_num(0.0).amax()
        # In float64 the truth is PyTorch's own, which rounds lse: at logits of 1e2, some 1e-14.
        slack = 1e-12 if logits.dtype == torch.float64 else 1e-15
        allowed = pytorchs + torch.finfo(mine.dtype).eps * size + slack * true.abs().clamp(min=1)
        assert bool(((mine.double() - true).abs() <= allowed).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", CLASSES)
def test_error_is_at_most_pytorchs(classes: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(classes)
    for rows in (0, 1, 7, 2048):
        if rows * classes > 1 << 22:
            continue
        for scale in SCALES if rows < 2048 else [3.0]:
            logits = (scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)
            labels = torch.randint(classes, (rows,), generator=generator)
            assert_at_most_pytorchs_error(logits.clamp(-6e4, 6e4), labels)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [2, 37, 1001])
def test_constant_rows_and_one_huge_logit(classes: int, dtype: torch.dtype) -> None:
    labels = torch.arange(4) % classes
    for value in (0.0, 5.0, -6e4, 6e4):
        assert_at_most_pytorchs_error(torch.full((4, classes), value, dtype=dtype), labels)
    logits = torch.zeros(4, classes, dtype=dtype)
    logits[:, -1] = 6e4
    assert_at_most_pytorchs_error(logits, labels)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, -torch.nan])
@pytest.mark.parametrize("at", [0, 5, 36])
def test_what_is_not_finite_stays_in_its_row_and_agrees_with_the_reference(dtype, value, at) -> None:
    logits = torch.linspace(-3, 3, 37).repeat(5, 1).to(dtype)
    logits[2, at] = value
    labels = torch.tensor([0, 3, 5, 36, 1])
    for epsilon in (0.0, 0.1):
        q = terms(labels, 1 - epsilon, epsilon)
        leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        mine, _ = row_loss(leaf, q)
        theirs, _ = reference.row_losses(other, *q)
        mine.sum().backward()
        theirs.sum().backward()
        torch.testing.assert_close(mine, theirs, equal_nan=True)
        torch.testing.assert_close(leaf.grad, other.grad, equal_nan=True)
        assert torch.isfinite(mine[[0, 1, 3, 4]]).all()
        assert torch.isfinite(leaf.grad[[0, 1, 3, 4]]).all()


def targets(kind: str, rows: int, classes: int, dtype: torch.dtype) -> Terms:
    """One of every form of target: numbers and tensors, each kind of base, masks, ignored rows, a z-loss."""
    generator = torch.Generator().manual_seed(rows + classes)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    labels = torch.randint(classes, (rows,), generator=generator)
    labels[::5] = -1
    valid = torch.rand(rows, classes, generator=generator) < 0.7
    valid[torch.arange(rows), labels.clamp(min=0)] = True
    one_mask = valid.clone()[0]
    one_mask[labels.clamp(min=0)] = True
    return {
        "uniform": terms(labels, 0.9, 0.1),
        "plain": terms(labels, 1.0, 0.0),
        "base alone": terms(labels, 0.0, 1.0),
        "negative keep": terms(labels, -0.2, 1.2),
        "one epsilon for each": terms(labels, 1 - rand(rows) / 2, rand(rows) / 2),
        "prior": terms(labels, 0.8, 0.2, rand(classes)),
        "prior with zeros": terms(labels, 0.8, 0.2, rand(classes) * (rand(classes) > 0.5)),
        "table": terms(labels, 0.8, 0.2, rand(classes, classes)),
        "rows": terms(labels, 0.8, rand(rows), rand(rows, classes), True),
        "probabilities": terms(None, 0.0, 1.0, rand(rows, classes), True),
        "z-loss": terms(labels, 0.9, 0.1, z_loss=1e-2),
        "mask": terms(labels, 0.9, 0.1, valid=one_mask),
        "mask of rows": terms(labels, 0.9, 0.1, valid=valid),
        "mask and prior": terms(labels, 0.9, 0.1, rand(classes), valid=valid, z_loss=1e-3),
    }[kind]


KINDS = [
    "uniform", "plain", "base alone", "negative keep", "one epsilon for each", "prior", "prior with zeros", "table",
    "rows", "probabilities", "z-loss", "mask", "mask of rows", "mask and prior",
]  # fmt: skip
LAYOUTS = {
    "contiguous": lambda z: z,
    "every other row": lambda z: torch.stack([z, z], 1).flatten(0, 1)[::2],
    "transposed": lambda z: z.t().contiguous().t(),
    "every other class": lambda z: torch.stack([z, z], 2).flatten(1)[:, ::2],
    "one row repeated": lambda z: z[:1].expand_as(z),
    "dense prediction": lambda z: z.reshape(3, -1, z.shape[1]).movedim(-1, 1).contiguous(),
    "channels last": lambda z: z.reshape(3, -1, z.shape[1]).movedim(-1, 1),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_target_in_every_layout_is_the_references(kind: str, layout: str, dtype: torch.dtype) -> None:
    rows, classes = 12, 37
    wide = reference.accumulation_dtype(dtype)
    generator = torch.Generator().manual_seed(0)
    matrix = (3 * torch.randn(rows, classes, generator=generator)).to(dtype)
    if "mask" in kind:
        matrix[:, 3] = torch.nan if kind == "mask of rows" else -torch.inf
    q = targets(kind, rows, classes, wide)
    if q.valid is not None and "mask" in kind:
        valid = q.valid.clone()
        valid[..., 3] = False
        labels = torch.where(q.q.index == 3, -1, q.q.index)
        q = Terms(replace(q.q, index=labels), valid, q.z_loss)
    logits = LAYOUTS[layout](matrix).requires_grad_()
    other = LAYOUTS[layout](matrix).detach().to(wide).requires_grad_()
    upstream = torch.rand(rows, generator=generator, dtype=torch.float64).to(wide)
    losses, nll = row_loss(logits, q, with_nll=True)
    expected, expected_nll = reference.row_losses(other, *q)
    gradient = torch.autograd.grad(losses, logits, upstream)[0]
    truth = torch.autograd.grad(expected, other, upstream)[0]
    close = dict(rtol=1e-12, atol=1e-13) if dtype == torch.float64 else dict(rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses, expected, **close)
    if nll is not None:
        torch.testing.assert_close(nll, expected_nll.detach(), **close)
    # A bfloat16 gradient is rounded before and after the upstream gradient is multiplied in.
    half = dict(rtol=2**-7, atol=1e-5) if dtype == torch.bfloat16 else dict(rtol=2**-10, atol=1e-6)
    torch.testing.assert_close(gradient.to(wide), truth, **(half if dtype.itemsize == 2 else close))
    assert gradient.dtype == dtype
    with torch.no_grad():
        torch.testing.assert_close(row_loss(logits, q)[0], losses.detach(), rtol=1e-6, atol=1e-6)
    total = row_loss(logits, q, 3.0)[0]
    torch.testing.assert_close(total, expected.sum() / 3.0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "every other row", "dense prediction", "one row repeated"])
def test_in_place_is_the_same_gradient_in_the_logits_own_memory(layout: str, dtype: torch.dtype) -> None:
    matrix = torch.randn(12, 1001).to(dtype)
    q = terms(torch.arange(12) - 1, 0.9, 0.1)
    leaf = LAYOUTS[layout](matrix).requires_grad_()
    (apart,) = torch.autograd.grad(row_loss(leaf, q, 7.0)[0], leaf)
    logits = leaf.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    if layout == "one row repeated":  # rows that share memory cannot hold a gradient each
        logits = LAYOUTS[layout](matrix.clone()).requires_grad_()
    (gradient,) = torch.autograd.grad(row_loss(logits, q, 7.0, inplace=True)[0], logits)
    assert torch.equal(gradient, apart)
    assert (gradient.data_ptr() == logits.data_ptr()) == (layout != "one row repeated")


def test_16_bit_numbers_round_as_pytorch_rounds() -> None:
    # With all of p on the first class, the second one's gradient is -base: every exponent, subnormal numbers and
    # overflow included, in and out.
    numbers = torch.cat([torch.logspace(-9, 6, 4001), torch.logspace(-42, 38, 4001), torch.tensor([torch.nan])])
    numbers = torch.cat([numbers, -numbers])
    for dtype in (torch.bfloat16, torch.float16):
        logits = torch.tensor([0.0, -6e4], dtype=dtype).repeat(len(numbers), 1)
        gradient = torch.empty_like(logits)
        base = torch.stack([torch.zeros_like(numbers), -numbers], 1)
        launch_cpu.run(logits, Target(2, None, 0.0, 1.0, base, True), gradient=gradient)
        torch.testing.assert_close(gradient[:, 1], numbers.to(dtype), rtol=0, atol=0, equal_nan=True)
        every_pattern = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
        pairs, labels = torch.stack([every_pattern, torch.zeros_like(every_pattern)], 1), torch.zeros(2**16).long()
        losses = torch.empty(len(pairs))
        launch_cpu.run(pairs, Target(2, labels, 1.0, 0.0), losses=losses)
        decoded = F.cross_entropy(pairs.float(), labels, reduction="none")
        torch.testing.assert_close(losses, decoded, equal_nan=True, rtol=1e-6, atol=1e-6)
