"""Scores of a classifier, from counts."""

from __future__ import annotations

import torch
from torch import Tensor


def classification_metrics(logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
    """Accuracy, macro-F1 and mean cross-entropy.

    Macro-F1 is the mean over the classes that occur in the targets or the predictions, as scikit-learn computes it.

    Args:
        logits: (n, classes)
        targets: (n,)
        loss: Mean cross-entropy over the n rows, in nats.
    """
    predicted, classes = logits.argmax(dim=-1), logits.shape[-1]
    hits = torch.bincount(targets[predicted == targets], minlength=classes).double()
    true = torch.bincount(targets, minlength=classes).double()
    said = torch.bincount(predicted, minlength=classes).double()
    occurring = (true + said) > 0
    f1 = 2 * hits[occurring] / (true + said)[occurring]
    accuracy = (predicted == targets).double().mean()
    return {"accuracy": float(accuracy), "macro_f1": float(f1.mean()), "loss": loss}
