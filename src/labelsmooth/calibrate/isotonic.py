"""Isotonic calibration: a rising step function of each class's log-odds, one-vs-rest and normalised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .base import Calibrator
from .scores import log_odds, normalise


class IsotonicCalibration(Calibrator):
    r"""The best non-decreasing map from the log-odds of class k to "is the label k", then normalised over classes.

    .. math:: f_k = \arg\min_{f \text{ rising}} \sum_i w_i \,(f(s_{ik}) - [y_i = k])^2, \qquad
              \hat p_k = f_k(s_k) / \sum_j f_j(s_j)

    With two classes there is one map. Between the training scores it is linear, outside them constant. It needs more
    data than temperature or Platt scaling, and can give a probability of exactly 0: look at the NLL before using it.
    Fitting needs scikit-learn (``pip install labelsmooth[study]``); predicting does not.

    Attributes:
        knots_: per class the scores and values (x, y) of the map, x rising; one pair for two classes.

    Example:
        >>> import numpy as np
        >>> z = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
        >>> isotonic = IsotonicCalibration().fit(z, np.array([0, 1, 0, 1, 1]))
        >>> isotonic.predict_proba(z)[:, 1]
        array([0. , 0.5, 0.5, 1. , 1. ])

    Source: Zadrozny and Elkan (2002).
    """

    knots_: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]

    def __init__(self) -> None:
        pass

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        try:
            from sklearn.isotonic import IsotonicRegression
        except ImportError as problem:
            raise ImportError("IsotonicCalibration.fit needs scikit-learn: pip install scikit-learn.") from problem
        scores, labels = log_odds(z).cpu().double().numpy(), y.cpu().numpy()
        weight = None if w is None else w.cpu().double().numpy()
        self.knots_ = []
        for k in [1] if z.shape[1] == 2 else range(z.shape[1]):
            line = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
            line.fit(scores[:, k], (labels == k).astype(np.float64), weight)
            self.knots_.append((line.X_thresholds_, line.y_thresholds_))

    def _probabilities(self, z: torch.Tensor) -> torch.Tensor:
        scores = log_odds(z).cpu().double().numpy()
        if self.n_classes_ == 2:
            one = np.interp(scores[:, 1], *self.knots_[0])
            p = torch.from_numpy(np.stack([1.0 - one, one], axis=1))
            return p.to(z.device, torch.float32 if z.device.type == "mps" else torch.float64)
        mapped = np.stack([np.interp(scores[:, k], *knots) for k, knots in enumerate(self.knots_)], axis=1)
        p = torch.from_numpy(mapped).to(z.device, torch.float32 if z.device.type == "mps" else torch.float64)
        return normalise(p)
