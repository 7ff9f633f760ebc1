"""The class matrices of ordered classes: their formulas by hand and by SciPy, their modes, and the errors."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import softmax
from scipy.stats import beta as beta_distribution
from scipy.stats import binom
from scipy.stats import poisson as poisson_distribution

from labelsmooth.smoothing import beta, binomial, gaussian, ordinal, poisson

# Parameters (a, b) of the paper for the first half of the labels; the other half is (b, a) in reverse.
VARGAS = {
    3: [(1, 4), (4, 4)],
    5: [(1, 8), (6, 14), (12, 12)],
    8: [(1, 14), (7, 31), (17, 37), (27, 35)],
    10: [(1, 18), (8, 45), (19, 57), (32, 59), (45, 55)],
    13: [(1, 25), (8, 61), (20, 84), (36, 98), (53, 100), (70, 95), (84, 84)],
}


def test_ordinal_by_hand() -> None:
    def row(*scores: float) -> object:
        return pytest.approx(softmax(scores).tolist())

    assert ordinal(4, sharpness=2.0)[1].tolist() == row(-2, 0, -2, -4)
    assert ordinal([1, 2, 4], distance="squared")[0].tolist() == row(0, -1, -9)
    ten, hundred = math.log(10), math.log(100)
    assert ordinal([1.0, 10.0, 100.0], distance="log")[0].tolist() == row(0, -ten, -hundred)
    assert ordinal([1.0, 10.0, 100.0], distance="squared_log")[0].tolist() == row(0, -(ten**2), -(hundred**2))


def test_float64_ranks_give_float64() -> None:
    assert ordinal(torch.arange(1.0, 4.0, dtype=torch.float64)).dtype == torch.float64


def test_gaussian_is_the_normal_density_renormalised() -> None:
    density = [math.exp(-0.5 * ((k - 2) / 1.5) ** 2) for k in range(5)]
    assert gaussian(5, sigma=1.5)[2].tolist() == pytest.approx([d / sum(density) for d in density])


@pytest.mark.parametrize("table", [binomial, poisson, beta, ordinal, gaussian])
@pytest.mark.parametrize("classes", [1, 2, 3, 5, 12, 300])
def test_every_row_is_a_distribution_with_one_mode_at_the_label(classes, table) -> None:
    q = table(classes)
    assert q.shape == (classes, classes)
    assert bool((q >= 0).all())
    torch.testing.assert_close(q.sum(1), torch.ones(classes))
    assert q.argmax(1).tolist() == list(range(classes))
    for label, row in enumerate(q):
        rises, falls = row[: label + 1].diff(), row[label:].diff()
        assert bool((rises >= 0).all())
        assert bool((falls <= 0).all())
        assert bool((rises[-1:] > 0).all())
        assert bool((falls[:1] < 0).all())


@pytest.mark.parametrize("classes", [1, 2, 5, 12, 300])
def test_binomial_is_the_distribution_of_scipy(classes: int) -> None:
    p = (np.arange(classes) + 0.5) / classes
    expected = binom.pmf(np.arange(classes), classes - 1, p[:, None])
    np.testing.assert_allclose(binomial(classes), expected, rtol=1e-5, atol=1e-9)


def test_binomial_of_five_classes_has_the_paper_s_probabilities() -> None:
    np.testing.assert_allclose(binomial(5)[1], binom.pmf(np.arange(5), 4, np.linspace(0.1, 0.9, 5)[1]), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [1, 2, 5, 60])
def test_poisson_is_a_power_of_the_distribution_of_scipy_renormalised(classes: int, temperature: float) -> None:
    labels = np.arange(classes)
    expected = poisson_distribution.pmf(labels, labels[:, None] + 0.5) ** (1 / temperature)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(poisson(classes, temperature=temperature), expected, rtol=1e-5, atol=1e-9)


def test_poisson_of_a_low_temperature_is_one_hot() -> None:
    torch.testing.assert_close(poisson(6, temperature=1e-3), torch.eye(6))


class TestBeta:
    @pytest.mark.parametrize(("classes", "label"), [(4, 0), (4, 2), (12, 1), (12, 5)])
    def test_is_the_integral_of_a_density_with_these_moments(self, classes: int, label: int) -> None:
        """Its mean is the middle of the class and its deviation half a class, but at an end a is 1."""
        mean, deviation = (label + 0.5) / classes, 0.5 / classes
        total = 2 * classes if label == 0 else mean * (1 - mean) / deviation**2 - 1
        density = beta_distribution(mean * total, (1 - mean) * total).pdf
        ends = np.arange(classes + 1) / classes
        expected = [quad(density, low, high)[0] for low, high in pairwise(ends)]
        np.testing.assert_allclose(beta(classes)[label], expected, rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize("classes", VARGAS)
    def test_is_near_the_paper_s_table(self, classes: int) -> None:
        """Whose first and last rows have other means for few classes, and whose others are rounded."""
        ends, table = np.linspace(0, 1, classes + 1), beta(classes)
        for label, (a, b) in enumerate(VARGAS[classes]):
            expected = np.diff(beta_distribution.cdf(ends, a, b))
            np.testing.assert_allclose(table[label], expected, atol=0.2 / classes)

    def test_is_symmetric(self) -> None:
        torch.testing.assert_close(beta(9), beta(9).flip(0, 1))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ordinal(0), "classes=0; give the number of classes"),
        (lambda: ordinal(3, distance="cubic"), "distance='cubic' is unknown"),
        (lambda: ordinal(3, sharpness=0.0), "sharpness=0.0 must be a finite number above 0"),
        (lambda: ordinal([0.0, 1.0], distance="log"), "needs positive ranks, and the smallest is 0.0"),
        (lambda: ordinal([1.0, float("nan")]), "finite rank of each class"),
        (lambda: gaussian(3, sigma=-1.0), "sigma=-1.0 must be"),
        (lambda: binomial(0), "classes=0; give the number of classes"),
        (lambda: poisson(0), "classes=0; give the number of classes"),
        (lambda: poisson(3, temperature=0.0), "temperature=0.0 must be a finite number above 0"),
        (lambda: beta(-1), "classes=-1; give the number of classes"),
    ],
)
def test_errors(call, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("table", [binomial, poisson, beta])
def test_ranks_raise(table) -> None:
    """A distribution over 0 .. K - 1 has no place for ranks."""
    with pytest.raises(TypeError):
        table([1.0, 2.0])
