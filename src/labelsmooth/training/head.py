"""Linear probing: a new head fitted to the features of a pretrained network; labels that such a head contradicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

Labels: TypeAlias = Tensor | tuple[Tensor, Tensor]

# Penalty on the head's weights for standardised features: a few photos of a class do not determine 1,280 weights.
L2 = 0.05
STEPS = 100
FOLD_STEPS = 30  # of each cross-validated head, which predicts the training examples only


class Suspect(NamedTuple):
    """An example that may be mislabelled: its row, the class that it looks like, and that class's probability."""

    row: int
    guess: int
    probability: float


def features_of(head: nn.Module, logits: Callable[[], Tensor]) -> tuple[Tensor, Tensor | None]:
    """What ``logits`` computes, and the inputs [N, D] of the network's head while it does.

    The features are None for a compiled network, whose graph ignores the hook.
    """
    batches: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].detach().flatten(1).float()))
    try:
        computed = logits()
    finally:
        hook.remove()
    return computed, torch.cat(batches).cpu() if batches else None


def fit_head(head: nn.Linear, features: Tensor, labels: Labels, criterion: nn.Module) -> float:
    """Fit a linear head to fixed features under the training loss, by L-BFGS.

        min over W, b:   criterion(W x + b, y) + L2 * |W|^2,     x the features, standardised over the examples

    Args:
        head: its weights are replaced.
        features: [N, D] float32.
        labels: [N] integers, or [N, K] probabilities; of a student with its teacher's logits [N, K].
        criterion: the training loss; in evaluation mode, so that it learns nothing here.

    Returns:
        The loss of the fitted head.

    Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (2022):
    linear probing before fine-tuning.
    """
    training = criterion.training
    criterion.eval()
    try:
        weight, bias = _fitted(features, labels, criterion, head.out_features, STEPS)
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)
            return float(criterion(features @ weight.T + bias, labels))
    finally:
        criterion.train(training)


def suspected_labels(features: Tensor, labels: Tensor, num_classes: int, folds: int = 5) -> list[Suspect]:
    """The examples whose label a head that was fitted without them contradicts, the most certain first.

    With out-of-sample probabilities p and the mean confidence t_k = mean(p_ik : y_i = k) of each class in its own
    examples, example i counts for the class l = argmax(p_ik : p_ik >= t_k), and is suspected where neither l nor the
    predicted class is its label.  They are ordered by p[y] - max(p[k] : k != y).

    Args:
        features: [N, D] float32.
        labels: [N] integers, of each class at least 2.
        num_classes: K.
        folds: the probabilities of each fold are of a head that is fitted to the others.

    Source: Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021.
    """
    order = torch.argsort(labels, stable=True)
    fold = torch.empty_like(labels)
    fold[order] = torch.arange(len(labels)) % folds  # stratified
    probabilities = torch.zeros(len(labels), num_classes)
    for number in range(folds):
        out = fold == number
        weight, bias = _fitted(features[~out], labels[~out], nn.CrossEntropyLoss(), num_classes, FOLD_STEPS)
        probabilities[out] = (features[out] @ weight.T + bias).softmax(-1)
    return confident_errors(probabilities, labels)


def confident_errors(probabilities: Tensor, labels: Tensor) -> list[Suspect]:
    """:func:`suspected_labels` of out-of-sample probabilities [N, K]."""
    num_classes = probabilities.shape[1]
    own = probabilities.gather(1, labels[:, None]).squeeze(1)
    counts = labels.bincount(minlength=num_classes)
    thresholds = labels.bincount(own, minlength=num_classes) / counts.clamp(min=1)
    confident = torch.where((probabilities >= thresholds) & (counts > 0), probabilities, -1.0)
    best, guess = confident.max(1)
    wrong = (best >= 0) & (guess != labels) & (probabilities.argmax(1) != labels)
    others = probabilities.scatter(1, labels[:, None], -1.0).max(1).values
    rows = wrong.nonzero().squeeze(1)
    rows = rows[torch.argsort((own - others)[rows], stable=True)]
    return [Suspect(int(i), int(guess[i]), float(best[i])) for i in rows]


def _fitted(
    features: Tensor, labels: Labels, criterion: Callable[[Tensor, Any], Tensor], num_classes: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Weight [K, D] and bias [K] of the fitted head."""
    mean, std = features.mean(0), features.std(0).clamp(min=1e-6)
    standardised = (features - mean) / std
    weight = torch.zeros(num_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss: Tensor = criterion(standardised @ weight.T + bias, labels) + L2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    scaled = (weight / std).detach()
    return scaled, bias.detach() - scaled @ mean
