"""Gradient boosting: the gradient and the Hessian of a smoothed cross-entropy for XGBoost and LightGBM."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from labelsmooth.target import Policy, Target, check_epsilon

__all__ = ["Dataset", "Objective", "objective"]

Array = NDArray[np.float64]


@runtime_checkable
class Dataset(Protocol):
    """What both libraries' own interfaces give an objective: ``xgboost.DMatrix`` and ``lightgbm.Dataset``."""

    def get_label(self) -> ArrayLike: ...

    def get_weight(self) -> ArrayLike | None: ...


class Objective:
    """What :func:`objective` makes: the two derivatives of the loss of all rows, for one round of boosting."""

    def __init__(
        self, policy: float | Policy, probabilities: ArrayLike | None = None, weight: ArrayLike | None = None
    ) -> None:
        if not callable(policy):
            check_epsilon(policy, "policy")
        self.policy = policy
        self.probabilities = None if probabilities is None else np.asarray(probabilities, np.float64)
        self.weight = None if weight is None else np.asarray(weight, np.float64)

    def __call__(
        self, first: ArrayLike, second: ArrayLike | Dataset, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """The gradient and the diagonal of the Hessian, in the shape of the scores.

        Args:
            first, second: (scores, data set), as ``xgboost.train`` and ``lightgbm.train`` call it; or (labels, scores),
                as the scikit-learn interfaces do.  Scores (N, K), or (N,) for two classes, are log-odds of class 1.
            sample_weight: (N,) weights of the rows, or None; those of a data set are taken from it.
        """
        if isinstance(second, Dataset):
            scores, labels = np.asarray(first, np.float64), np.asarray(second.get_label())
            sample_weight = second.get_weight()
        else:
            scores, labels = np.asarray(second, np.float64), np.asarray(first)
        binary = scores.ndim == 1
        logits = np.stack([np.zeros_like(scores), scores], axis=1) if binary else scores
        q = self._target(logits, labels)
        p = torch.from_numpy(logits).softmax(-1).numpy()
        mass = q.sum(-1, keepdims=True)
        gradient, hessian = mass * p - q, mass * p * (1.0 - p)
        if sample_weight is not None and np.size(sample_weight):  # XGBoost gives an empty array for none
            of_row = np.asarray(sample_weight, np.float64)[:, None]
            gradient, hessian = gradient * of_row, hessian * of_row
        return (gradient[:, 1], hessian[:, 1]) if binary else (gradient, hessian)

    def _target(self, logits: Array, labels: NDArray[np.generic]) -> Array:
        """q as [N, K], of the labels or of the given probabilities."""
        rows, num_classes = logits.shape
        y: torch.Tensor
        if self.probabilities is None:
            y = _as_labels(labels, rows, num_classes)
        elif self.probabilities.shape != logits.shape:
            raise ValueError(
                f"probabilities have shape {self.probabilities.shape}, and the scores {rows} rows of {num_classes} "
                "classes; give one row for each row of the training data, in the same order."
            )
        else:
            y = torch.from_numpy(self.probabilities)
        policy = self.policy
        if callable(policy):
            if callable(observe := getattr(policy, "observe", None)):
                observe(torch.from_numpy(logits), y)
            target = policy(y, num_classes)
            if callable(step := getattr(policy, "step", None)):
                step()
        else:
            target = Target.uniform(y, num_classes, policy)
        if self.weight is not None:
            if self.weight.shape != (num_classes,):
                raise ValueError(
                    f"weight has shape {self.weight.shape}; give one weight for each class, ({num_classes},)."
                )
            target = target.weighted(torch.from_numpy(self.weight))
        q: Array = target.dense(torch.float64).detach().numpy().astype(np.float64, copy=False)
        return q


def objective(
    policy: float | Policy = 0.1, *, probabilities: ArrayLike | None = None, weight: ArrayLike | None = None
) -> Objective:
    """An objective of XGBoost and LightGBM: the cross-entropy of smoothed labels.

        gradient = mass * p - q,        hessian = mass * p * (1 - p),        p = softmax(scores),  mass = sum_k q_k

    The Hessian is the diagonal, as both libraries use it, and exact.  Their own multi-class objectives scale it, by 2
    in XGBoost and by K / (K - 1) in LightGBM: with this one, divide the learning rate, the L2 penalty and the smallest
    Hessian of a leaf by that number for the same trees.

    A model with an objective of its own returns scores: ``softmax(scores, axis=1)`` gives the probabilities.

    Args:
        policy: epsilon in [0, 1], or a policy from ``labelsmooth.smoothing``.  A round is an epoch: a schedule moves by
            the round, and ``smoothing.Online`` observes all rows in each.
        probabilities: [N, K] class probabilities in place of the labels of the training data, in its order.
        weight: [K] class weights.  Weights of rows are those of the training data.

    Returns:
        A function that can be pickled, for ``xgboost.train(..., obj=...)``, ``lightgbm.train({"objective": ...})``,
        ``XGBClassifier(objective=...)`` and ``LGBMClassifier(objective=...)``.

    Raises:
        TypeError, ValueError: an epsilon outside [0, 1], when made; labels that are not classes, probabilities or
            weights of another shape than the scores, when called.

    Example:
        >>> import numpy as np
        >>> gradient, hessian = objective(0.1)([1, 3], np.zeros((2, 4)))
        >>> gradient[0]
        array([ 0.225, -0.675,  0.225,  0.225])

    Source: Chen & Guestrin, "XGBoost: A Scalable Tree Boosting System", 2016, for the second-order step.
    """
    return Objective(policy, probabilities, weight)


def _as_labels(labels: NDArray[np.generic], rows: int, num_classes: int) -> torch.Tensor:
    if labels.shape != (rows,):
        raise ValueError(f"labels have shape {labels.shape} and the scores {rows} rows; give one label for each row.")
    classes = labels.astype(np.int64)
    wrong = (classes != labels) | (classes < 0) | (classes >= num_classes)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"the label of row {row} is {labels[row]}; with {num_classes} columns of scores labels must be integers "
            f"from 0 to {num_classes - 1}. Set num_class to the number of classes, or give probabilities=."
        )
    return torch.from_numpy(classes)
