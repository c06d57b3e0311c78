"""Whether a model gives the same for the same, and which of its modules does not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SAME = {torch.float32: 1e-3}
"""How far outputs of the same may be apart, as a share of the largest; more in half precision, where rounding adds up."""
SAME_IN_HALF = 0.1


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs are equal but for rounding."""
    if first.shape != second.shape:
        return False
    limit = SAME.get(first.dtype, SAME_IN_HALF) * float(first.abs().max())
    return not float((first - second).abs().max()) > limit  # numbers of half precision may overflow in both


def first_random(model: Any, placed: dict[str, Tensor]) -> str:
    """The path of the first module, of those that hold no others, whose output differs between two runs."""
    runs: list[list[tuple[str, Tensor]]] = []
    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    for _ in range(2):
        seen: list[tuple[str, Tensor]] = []

        def note(name: str, output: Any, seen: list[tuple[str, Tensor]] = seen) -> None:
            if isinstance(output, Tensor):
                seen.append((name, output))

        handles = [
            module.register_forward_hook(lambda _, __, output, name=name, note=note: note(name, output))
            for name, module in leaves
        ]
        model(**placed)
        for handle in handles:
            handle.remove()
        runs.append(seen)
    return next((a[0] for a, b in zip(*runs, strict=False) if not same(a[1], b[1])), "no module of its own")
