"""The objective for boosting, in XGBoost and LightGBM: against their own objectives and against autograd."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from labelsmooth import cross_entropy, smoothing
from labelsmooth.interop.boosting import Objective, objective

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

N, K = 60, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).round(2)
Y = (X[:, 0] + X[:, 1] + RNG.normal(size=N) > 0).astype(int) + (X[:, 2] > 0.5)
Train = Callable[..., np.ndarray]


def train_xgboost(objective: Any, x: Any = X, y: Any = Y, weight: Any = None, scale: float = 1.0) -> np.ndarray:
    """The scores of X after three rounds; ``scale`` is of the Hessian, beside the exact one."""
    params = dict(num_class=K, base_score=0.5, tree_method="exact", max_depth=2, nthread=1)
    params |= dict(eta=0.3 / scale, reg_lambda=0.5 / scale, min_child_weight=0.5 / scale, disable_default_eval_metric=1)
    own = {} if callable(objective) else {"objective": objective}
    data = xgboost.DMatrix(x, y, weight=weight)
    model = xgboost.train(params | own, data, 3, obj=objective if callable(objective) else None)
    return model.predict(xgboost.DMatrix(X), output_margin=True)


def train_lightgbm(objective: Any, x: Any = X, y: Any = Y, weight: Any = None, scale: float = 1.0) -> np.ndarray:
    params = dict(objective=objective, num_class=K, num_leaves=4, min_data_in_leaf=1, min_data_in_bin=1, verbose=-1)
    params |= dict(learning_rate=0.3 / scale, reg_lambda=0.5 / scale, min_sum_hessian_in_leaf=0.5 / scale)
    params |= dict(boost_from_average=False, num_threads=1, deterministic=True)
    model = lightgbm.train(params, lightgbm.Dataset(x, y, weight=weight), 3)
    return model.predict(X, raw_score=True)


LIBRARIES = {"xgboost": (train_xgboost, "multi:softprob", 2.0), "lightgbm": (train_lightgbm, "multiclass", K / (K - 1))}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> tuple[Train, str, float]:
    return LIBRARIES[request.param]


def centred(scores: np.ndarray) -> np.ndarray:
    """Other scores with the same softmax."""
    return scores - scores.mean(-1, keepdims=True)


def test_without_smoothing_it_grows_the_librarys_own_trees(library: tuple[Train, str, float]) -> None:
    train, own, factor = library
    weight = RNG.random(N) + 0.5
    ours = train(objective(0.0), weight=weight, scale=factor)
    np.testing.assert_allclose(centred(ours), centred(train(own, weight=weight)), rtol=1e-4, atol=1e-5)


def test_smoothing_is_a_copy_of_each_row_for_each_class_weighted_by_q(library: tuple[Train, str, float]) -> None:
    train, own, factor = library
    policy = smoothing.Uniform(0.3, over="others")
    q = policy(torch.from_numpy(Y), K).dense().numpy()
    copies = train(own, np.repeat(X, K, axis=0), np.tile(np.arange(K), N), q.reshape(-1))
    for given in (objective(policy), objective(0.0, probabilities=q)):
        ours = train(given, scale=factor)
        np.testing.assert_allclose(centred(ours), centred(copies), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", [0.1, smoothing.Uniform(0.2, over="others"), smoothing.Prior(0.2, [0.5, 0.3, 0.2])])
def test_the_derivatives_are_those_of_the_loss(policy: Any) -> None:
    logits = torch.randn(N, K, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    labels = torch.from_numpy(Y)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return cross_entropy(z, labels, weight, reduction="sum", label_smoothing=policy)

    (expected,) = torch.autograd.grad(loss(logits), logits)
    curvature = torch.autograd.functional.hessian(loss, logits).reshape(N * K, N * K).diagonal().reshape(N, K)
    gradient, hessian = objective(policy, weight=weight)(Y, logits.detach().numpy())
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(hessian, curvature, rtol=1e-6, atol=1e-7)


def test_two_classes_with_one_score() -> None:
    scores, labels = RNG.normal(size=N), Y > 0
    both, _ = objective(0.1)(labels.astype(int), np.stack([np.zeros(N), scores], 1))
    gradient, hessian = objective(0.1)(labels.astype(int), scores)
    p = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(gradient, both[:, 1])
    np.testing.assert_allclose(gradient, p - (0.9 * labels + 0.05))
    np.testing.assert_allclose(hessian, p * (1 - p))


def test_the_scikit_learn_interfaces() -> None:
    weight = RNG.random(N) + 0.5
    xgb = xgboost.XGBClassifier(
        objective=objective(0.3), n_estimators=3, learning_rate=0.3, reg_lambda=0.5, min_child_weight=0.5, max_depth=2,
        tree_method="exact", base_score=0.5, n_jobs=1, disable_default_eval_metric=1,
    )  # fmt: skip
    scores = xgb.fit(X, Y, sample_weight=weight).predict(X, output_margin=True)
    np.testing.assert_allclose(scores, train_xgboost(objective(0.3), weight=weight), rtol=1e-5)
    lgbm = lightgbm.LGBMClassifier(
        objective=objective(0.3), n_estimators=3, learning_rate=0.3, reg_lambda=0.5, min_child_weight=0.5, num_leaves=4,
        min_child_samples=1, min_data_in_bin=1, boost_from_average=False, n_jobs=1, verbose=-1,
    )  # fmt: skip
    scores = lgbm.fit(X, Y, sample_weight=weight).predict(X, raw_score=True)
    np.testing.assert_allclose(scores, train_lightgbm(objective(0.3), weight=weight), rtol=1e-5)


def test_a_round_is_an_epoch_of_a_policy_that_changes() -> None:
    online = smoothing.Online(K)
    schedule = smoothing.Scheduled(smoothing.Uniform(), smoothing.schedule.linear(0.4, 0.0, 4))
    for policy in (online, schedule):
        train_xgboost(objective(policy))
    assert schedule.count == 3
    assert not torch.allclose(online.table, torch.full((K, K), 1 / K))


def test_it_can_be_pickled() -> None:
    scores = RNG.normal(size=(N, K))
    again = pickle.loads(pickle.dumps(objective(smoothing.Uniform(0.2))))
    np.testing.assert_array_equal(again(Y, scores)[0], objective(0.2)(Y, scores)[0])


@pytest.mark.parametrize(
    ("make", "labels", "message"),
    [
        (lambda: objective(1.5), Y, r"policy.*1\.5"),
        (lambda: objective(0.1), Y + 1, "the label of row .* is 3"),
        (lambda: objective(0.1), Y + 0.5, r"the label of row 0 is .*\.5"),
        (lambda: objective(0.1), Y[:-1], "one label for each row"),
        (lambda: objective(0.1, probabilities=np.ones((2, K))), Y, "probabilities have shape"),
        (lambda: objective(0.1, weight=[1.0]), Y, "weight has shape"),
    ],
)
def test_what_does_not_fit_raises(make: Callable[[], Objective], labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(labels, np.zeros((N, K)))
