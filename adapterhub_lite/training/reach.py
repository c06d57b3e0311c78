"""What a strategy adapts of a base, and whether what it trains is met by a gradient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import nn

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.quantization import numel
from adapterhub_lite.base.view import TOKENS
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.training.attachment import Attachment

NAMED = 4
"""How many kinds of weights that are left are named."""
JUDGED_AFTER = 5
"""Steps in which a gradient may come: factors that start at 0 keep it from the others in the first, and gates in the second."""


def reach_of(attachment: Attachment) -> str | None:
    """Say which weight matrices of a base's layers a strategy trains or wraps, of all; None where it works otherwise."""
    base, view = attachment.base, attachment.view
    adapted = view.adapted
    view.unmount()
    matrices = _matrices(base)
    view.mount()
    reached = {name: matrix for name, matrix in matrices.items() if id(matrix) in adapted}
    if not reached:
        return None
    kinds, sizes = Counter[str](), Counter[str]()
    own = tuple(f"{path}." for path in base.map.layers)
    for name in matrices.keys() - reached.keys():
        parts = [part for part in name.removesuffix(".weight").split(".") if not part.isdigit()]
        kind = ".".join(parts[-2:] if name.startswith(own) else parts)
        kinds[kind] += 1
        sizes[kind] += numel(matrices[name])
    share = sum(map(numel, reached.values())) / base.parameters
    left = [f"{kinds[kind]} {kind}" for kind, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))]
    more = [f"and {len(left) - NAMED} more kinds"] if len(left) > NAMED else []
    return (
        f"reached {len(reached)} of {len(matrices)} weight matrices of the layers ({share:.1%} of the base's weights)"
        + ("; left: " + ", ".join(left[:NAMED] + more) if left else "")
    )


def _matrices(base: Base) -> dict[str, nn.Parameter]:
    """The weights in the layers that mix features: biases, and filters of a single feature, are none.

    Those of an encoder whose decoder is adapted count as well.
    """
    other_half = [path for path, _ in base.model.named_modules() if re.fullmatch(r"(.*\.)?encoder\.layers?\.\d+", path)]
    inside = tuple(f"{path}." for path in (*base.map.layers, *base.map.linears, *other_half))
    named = {n: p for n, p in base.model.named_parameters() if n.startswith(inside) and base.map.reaches(n)}
    mixing = {n: p for n, p in named.items() if hasattr(p, "quant_state") or (p.dim() > 1 and p.shape[1] > 1)}
    return {name: matrix for name, matrix in mixing.items() if not name.endswith("bias")}


class Met:
    """Which of the tensors that train have been met by a gradient that is not zero.

    Judged by kind: tensors whose names differ in numbers alone. An expert that no token chose, or a layer that was
    dropped, has others like it that learn; a kind of which none does is of a part that the model does not use. Rows of
    added tokens, which may not occur, and weights of the base itself, which then stay as they are, are not judged.
    """

    def __init__(self, attachment: Attachment):
        self._attachment = attachment
        copied = attachment.view.copied
        self._waiting: dict[str, list[str]] = {}
        for name, tensor in attachment.parameters.items():
            if tensor.requires_grad and not name.startswith(TOKENS) and id(tensor) not in copied:
                self._waiting.setdefault(re.sub(r"\d+", "N", name), []).append(name)

    def look(self, tensors: Mapping[str, nn.Parameter]) -> None:
        """Note the gradients of a step."""
        for kind, names in list(self._waiting.items()):
            gradients = (tensors[name].grad for name in names)
            if any(gradient is not None and bool(torch.any(gradient)) for gradient in gradients):
                del self._waiting[kind]

    def judge(self, steps: int, *, ended: bool) -> None:
        """Refuse to go on where some kind was met by none; a strategy with a schedule has the whole run for it.

        Raises:
            TrainingError: naming the tensors.
        """
        due = ended or (steps == JUDGED_AFTER and not hasattr(self._attachment.strategy, "after_step"))
        if not self._waiting or not due or steps < 2:
            return
        names = [name for kind in self._waiting.values() for name in kind]
        raise TrainingError(
            f"no gradient reached '{names[0]}' in {steps} steps"
            + (f", nor {len(names) - 1} other tensors of {self._attachment.provided.spec.name}" if names[1:] else "")
            + ": the model does not use what they adapt, so they would stay as they began; choose other targets, or "
            "report this with the base's name"
        )
