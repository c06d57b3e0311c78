"""An affine map in front of a frozen output layer, trained on cached hidden states."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_linear_probe import LinearProbeConfig
from adapterhub_lite.api import FeatureProblem

BATCH, RATE, DECAY = 512, 1e-3, 1e-2


def fit_translator(
    config: LinearProbeConfig, problem: FeatureProblem, weight: nn.Parameter, bias: nn.Parameter, output: nn.Module
) -> dict[str, float]:
    """Minimise the cross-entropy of the next token over hidden states by AdamW; the output layer stays as it is.

    Args:
        config: For the number of epochs.
        problem: Hidden states (n, hidden_size) and next tokens (n,).
        weight: (hidden_size, hidden_size), zero for no change.
        bias: (hidden_size,)
        output: The base's output layer.

    Returns:
        The mean loss of the last epoch.
    """
    generator = torch.Generator().manual_seed(problem.seed)
    optimizer = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=DECAY)
    n, device = len(problem.features), weight.device
    steps = config.epochs * -(-n // BATCH)
    done, loss_sum = 0, 0.0
    dtype = next(output.parameters()).dtype
    for epoch in range(config.epochs):
        loss_sum = 0.0
        for rows in torch.randperm(n, generator=generator).split(BATCH):
            hidden, targets = problem.features[rows].to(device), problem.targets[rows].to(device)
            logits = _without_hooks(output, (hidden + functional.linear(hidden, weight, bias)).to(dtype))
            loss = functional.cross_entropy(logits.float(), targets)
            optimizer.param_groups[0]["lr"] = RATE * (1 - done / steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done, loss_sum = done + 1, loss_sum + float(loss.detach()) * len(rows)
            problem.progress(done / steps, f"epoch {epoch + 1}, loss {float(loss.detach()):.3f}")
    return {"train_loss": loss_sum / n}


def _without_hooks(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Call the layer itself: the hook on it is the translator, which is applied to the hidden states already."""
    result: Tensor = layer.forward(hidden)
    return result
