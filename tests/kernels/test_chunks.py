"""The products of a chunk, in either orientation, against float64."""

from __future__ import annotations

import pytest
import torch

from labelsmooth.kernels import chunks
from labelsmooth.kernels.chunks import (
    BLOCK,
    LEAST_FEATURES,
    MOST_ROWS,
    add_product,
    chunk_rows,
    logits_into,
    times_weight,
)

SHAPES = [
    (1, LEAST_FEATURES, 1),
    (7, LEAST_FEATURES, BLOCK + 1),
    (96, 600, 3 * BLOCK),
    (MOST_ROWS, LEAST_FEATURES, 1500),
    (MOST_ROWS + 1, LEAST_FEATURES, 1500),  # these two are multiplied as they are
    (96, LEAST_FEATURES - 1, 1500),
]


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).abs().max())


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("rows", "features", "classes"), SHAPES)
def test_the_products_are_as_exact_as_pytorch_s(rows: int, features: int, classes: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    h, weight = torch.randn(rows, features), torch.randn(classes, features)
    bias = torch.randn(classes) if with_bias else None
    z, dh = torch.full((rows, classes), torch.nan), torch.full((rows, features), torch.nan)
    logits_into(z, h, weight, bias)
    times_weight(dh, z, weight)

    exact = h.double() @ weight.double().t() + (0.0 if bias is None else bias.double())
    plain = h @ weight.t() + (0.0 if bias is None else bias)
    assert error(z, exact) <= 2.0 * error(plain, exact) + 1e-5
    exact = z.double() @ weight.double()
    assert error(dh, exact) <= 2.0 * error(z @ weight, exact) + 1e-5 * features


def test_a_slice_of_rows_and_a_transposed_weight_are_taken_as_they_are() -> None:
    torch.manual_seed(0)
    h, weight = torch.randn(40, 700)[3:20], torch.randn(700, 1100).t()
    buffer = torch.zeros(30, 1100)
    logits_into(buffer[:17], h, weight, None)
    torch.testing.assert_close(buffer[:17], h @ weight.t(), rtol=1e-4, atol=1e-3)
    assert not buffer[17:].any()


def test_both_orientations_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MKL is not there the products are plain ones, with the same result."""
    torch.manual_seed(0)
    h, weight, z = torch.randn(9, 512), torch.randn(1300, 512), torch.empty(2, 9, 1300)
    logits_into(z[0], h, weight, None)
    monkeypatch.setattr(chunks, "_is_flat", lambda *_: False)
    logits_into(z[1], h, weight, None)
    torch.testing.assert_close(z[0], z[1], rtol=1e-4, atol=1e-3)


def test_products_are_added_in_float32_by_the_product_itself_or_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first way is CUDA's; here a product in float32 takes its place."""
    torch.manual_seed(0)
    z, h = torch.randn(3, 40, 70).bfloat16(), torch.randn(3, 40, 30).bfloat16()
    exact = sum(z[i].double().t() @ h[i].double() for i in range(3))
    calls = []

    def wide(start: torch.Tensor, *matrices: torch.Tensor, out_dtype: torch.dtype, out: torch.Tensor) -> None:
        calls.append(out_dtype)
        assert start is out
        out.addmm_(*(matrix.to(out_dtype) for matrix in matrices))

    for adds_wide in (False, True):
        if adds_wide:
            monkeypatch.setattr(chunks, "adds_wide", lambda _: True)
            monkeypatch.setattr(torch, "addmm", wide)
            monkeypatch.setattr(
                torch, "mm", lambda *m, out_dtype, out: wide(out.zero_(), *m, out_dtype=out_dtype, out=out)
            )
        out = torch.full((70, 30), torch.nan)
        for i in range(3):
            add_product(out, z[i], h[i], is_first=i == 0)
        assert error(out, exact) <= (1e-4 if adds_wide else 0.5)
    assert calls == [torch.float32] * 3


def test_chunks_are_large_enough_for_the_products_of_the_device() -> None:
    assert chunk_rows(2048, 32000 * 4, "cpu") == 524  # 64 MB
    assert chunk_rows(16384, 32000 * 4, "cpu") == 2048  # an eighth
    assert chunk_rows(10, 4, "cpu") == 10
    assert chunk_rows(65536, 32000 * 2, "cuda") == 8192  # an eighth, within 512 MB
    assert chunk_rows(65536, 128256 * 2, "cuda") == 2048  # 512 MB
    assert chunk_rows(4096, 32000 * 2, "cuda") == 1024
    assert chunk_rows(500, 32000 * 2, "cuda") == 500
