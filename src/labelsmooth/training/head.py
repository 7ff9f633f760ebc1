"""Linear probing: the new head of a pretrained network, fitted to its features before fine-tuning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["features_of", "fit_head"]

# Penalty on the head's weights for standardised features: a few photos of a class do not determine 1,280 weights.
L2 = 0.05
STEPS = 100


def features_of(head: nn.Module, logits: Callable[[], Tensor]) -> tuple[Tensor, Tensor | None]:
    """What ``logits`` computes, and the inputs [N, D] of the network's head while it does.

    The features are None for a compiled network, whose graph ignores the hook.
    """
    batches: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].detach().flatten(1).float().cpu()))
    try:
        computed = logits()
    finally:
        hook.remove()
    return computed, torch.cat(batches) if batches else None


def fit_head(head: nn.Linear, features: Tensor, labels: Tensor, criterion: nn.Module) -> float:
    """Fit a linear head to fixed features under the training loss, by L-BFGS.

        min over W, b:   criterion(W x + b, y) + L2 * |W|^2,     x the features, standardised over the examples

    Args:
        head: its weights are replaced.
        features: [N, D] float32.
        labels: [N] integers.
        criterion: the training loss; in evaluation mode, so that it learns nothing here.

    Returns:
        The loss of the fitted head.

    Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (2022):
    linear probing before fine-tuning.
    """
    mean, std = features.mean(0), features.std(0).clamp(min=1e-6)
    standardised = (features - mean) / std
    weight = torch.zeros(head.out_features, head.in_features, requires_grad=True)
    bias = torch.zeros(head.out_features, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss: Tensor = criterion(standardised @ weight.T + bias, labels) + L2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    training = criterion.training
    criterion.eval()
    try:
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    finally:
        criterion.train(training)
    with torch.no_grad():
        scaled = weight / std
        head.weight.copy_(scaled)
        head.bias.copy_(bias - scaled @ mean)
        return float(criterion(features @ head.weight.cpu().T + head.bias.cpu(), labels))
